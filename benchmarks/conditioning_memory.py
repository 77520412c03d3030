"""Azurite to Azurite: the peak memory of a conditioning process at some rows, and at four times as many.

The file is streamed out of landing and into conditioned through the same publish as in the functions; keys spill to
local temp disk, the output that waits for its duplicates to a temporary blob.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.dirty_deliveries import generate

ROOT = Path(__file__).resolve().parent.parent
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
_WORK = """
import json, resource, sys, time
from datetime import UTC, datetime
from adapters.lake import connect
from benchmarks.dirty_deliveries import CONTRACT
from conditioning.contract import parse_contract
from conditioning.conditioner import condition
from conditioning.dialect import ReadContext
from conditioning.local_run import rules_of_contract
from conditioning.open_table import OpenRequest
from conditioning.publish import LakeScratch, publish
from conditioning.raw_input import Limits
from conditioning.registry import Source
from conditioning.dialect import SourceSpec
from domain.lake_paths import LANDING, LandingFile
lake = connect(sys.argv[1])
landed = LandingFile.parse(sys.argv[2])
rules = rules_of_contract(parse_contract(CONTRACT))
source = Source(SourceSpec("benchmark_deliveries", rules.dialects), rules.contract, rules.maps, rules.rules_version)
now = lambda: datetime.now(UTC)
idle = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
started, wall = time.process_time(), time.perf_counter()
reader = lake.open_reader(LANDING, landed.path)
request = OpenRequest(landed.name, rules.contract, rules.dialects, rules.maps, ReadContext(landed.name, Limits()))
judged = condition(reader, request, scratch=lambda: LakeScratch(lake))
names = dict(correlation_id="", reason="", code_version="")
document, _ = publish(lake, source, landed, reader.info, judged, started=now(), now=now, **names)
judged.discard()
print(json.dumps({
    "idle_mb": idle, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    "cpu": time.process_time() - started,
    "wall": time.perf_counter() - wall, "counts": document["counts"],
}))
"""


def measure(folder: Path, rows: int) -> None:
    """Print both peaks and the growth."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = ROOT / ".tools" / "node_modules" / ".bin" / "azurite-blob"
    with tempfile.TemporaryDirectory(prefix="azurite-") as data:
        command = [str(program), "--blobPort", str(port), "--location", data, "--silent", "--skipApiVersionCheck"]
        azurite = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            time.sleep(4)
            connection = (
                f"DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey={_KEY};"
                f"BlobEndpoint=http://127.0.0.1:{port}/devstoreaccount1;"
            )
            peaks = [_one(connection, folder, count) for count in (rows, 4 * rows)]
        finally:
            azurite.terminate()
            azurite.wait(30)
    print(f"growth from {rows:,} to {4 * rows:,} rows: {peaks[1] - peaks[0]:+.0f} MB")


def _one(connection: str, folder: Path, rows: int) -> float:
    from adapters.lake import connect
    from domain.lake_paths import CONTAINERS, LANDING

    raw = folder / f"dirty-{rows}.csv"
    if not raw.exists():
        generate(raw, rows)
    lake = connect(connection)
    lake.ensure_containers(CONTAINERS)
    path = f"deliveries/2017-W45/{raw.name}"
    with raw.open("rb") as file, lake.open_writer(LANDING, path) as writer:
        while data := file.read(1 << 22):
            writer.write(data)
        writer.commit()
    command = [sys.executable, "-c", _WORK, connection, path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    counts = found["counts"]
    print(
        f"{rows:>11,} rows, {raw.stat().st_size / 1e6:.0f} MB: peak {found['peak_mb']:.0f} MB "
        f"(idle {found['idle_mb']:.0f}), "
        f"{found['cpu']:.1f} CPU s, {found['wall']:.1f} s; conditioned {counts['conditioned']:,}, quarantined "
        f"{counts['quarantined']:,}, duplicates {counts['duplicates']:,}"
    )
    lake.delete(LANDING, path)
    return float(found["peak_mb"])
