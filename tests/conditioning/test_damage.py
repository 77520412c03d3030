"""Every sample format, damaged at random: refused or conditioned with counts that add up, never an exception."""

from __future__ import annotations

import gzip
import io
import random
from pathlib import Path

import pytest

from conditioning.conditioner import check_invariant
from conditioning.registry import find_source
from conditioning.service import judge
from conditioning.spool import TempFile
from domain.lake_paths import LandingFile
from domain.sales_weeks import SalesWeek
from tests.conditioning.conftest import SAMPLES

_MARKS = (b'"', b"\n", b"\r", b"\0", b",", b"|", b"\xff", b'""', b'"\n"', b"-", b"[", b"{", b"ISA", b"END:VEVENT")
_START = SalesWeek.parse("2017-W01")


def damaged(raw: bytes, rng: random.Random) -> bytes:
    data = bytearray(raw[: rng.randrange(1, len(raw))] if rng.random() < 0.3 else raw)
    for _ in range(rng.choice((1, 1, 3, 10, 200))):
        at = rng.randrange(len(data)) if data else 0
        kind = rng.randrange(4)
        if kind == 0 and data:
            data[at] = rng.randrange(256)
        elif kind == 1:
            del data[at : at + rng.randrange(1, 50)]
        elif kind == 2:
            data[at:at] = rng.choice(_MARKS)
        else:
            data[at:at] = data[: rng.randrange(1, 200)]
    return bytes(data)


FILES = {
    (path.parts[-3], "".join(path.suffixes), path.name.split("_")[0]): path for path in sorted(SAMPLES.glob("*/*/*"))
}


@pytest.mark.parametrize("path", FILES.values(), ids=lambda path: path.name)
def test_damage_never_ends_in_an_exception(path: Path) -> None:
    rng = random.Random(path.name)
    landed = LandingFile(path.parts[-3], SalesWeek.parse(path.parts[-2]), path.name)
    for _ in range(12):
        raw = path.read_bytes()
        if path.suffix == ".gz" and rng.random() < 0.8:
            raw = gzip.compress(damaged(gzip.decompress(raw), rng))
        else:
            raw = damaged(raw, rng)
        judged = judge(io.BytesIO(raw), find_source(landed.source), landed, _START, scratch=TempFile)
        written: list[bytes] = []
        if judged.table is not None:
            judged.table.write_quarantine(written.append)
            if judged.refused is None:
                judged.table.finish(written.append, written.append)
            check_invariant(judged)
        if judged.refused is not None:
            assert judged.refused.fields["remedy"]
        judged.discard()
