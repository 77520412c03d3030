"""Bytes of the output and version of the engine change together."""

from __future__ import annotations

import hashlib
from pathlib import Path

from benchmarks.dirty_deliveries import CONTRACT, generate
from conditioning.contract import parse_contract
from conditioning.local_run import Rules, condition_file, rules_of_contract, rules_of_source
from conditioning.registry import find_source
from conditioning.version import CONDITIONER_VERSION
from domain.sales_weeks import SalesWeek

WRITTEN_BY = {"1.1": "0b30d20f0dc4303c", "1.2": "0b30d20f0dc4303c", "1.3": "0b30d20f0dc4303c"}
"""Version of the engine -> hash of all that it writes for the files below. Add a line, never change one."""
_WEATHER = (
    b"USSHC600110,20171106,TMAX,151,,,S,\nUSSHC600110,20171106,TMIN,-22,,,S,\nUSSHC600110,20171106,PRCP,3,,,S,\n"
    b"USSHC600110,20171108,TMAX,9,,,S,\nUSSHC600110,20171108,TMIN,-2,,,S,\nUSSHC600110,20171107,TMAX,990,,,S,\n"
    b"USSHC600110,20171107,TMIN,5,,X,S,\nUSSHC600110,20171107,PRCP,3,T,,S,\nUSSHC600110,20171113,TMAX,1,,,S,\n"
)


def test_changed_output_has_a_changed_version(tmp_path: Path) -> None:
    generate(tmp_path / "dirty.csv", 3_000)
    (tmp_path / "quoted.csv").write_text('id;name\r\n"1";"a; b"\r\n2; 5" pipe\r\n"2";x\r\n"3";"a ""b"""\r\n;y\r\n')
    (tmp_path / "weather.csv").write_bytes(_WEATHER)
    quoted = {"name": "quoted", "fields": [{"name": "id", "type": "integer"}, {"name": "name", "type": "string"}]}
    quoted |= {"primaryKey": "id", "dialect": {"delimiter": ";"}}
    rules: dict[str, Rules] = {
        "dirty.csv": rules_of_contract(parse_contract(CONTRACT)),
        "quoted.csv": rules_of_contract(parse_contract(quoted)),
        "weather.csv": rules_of_source(find_source("weather_history")),
    }
    found = hashlib.sha256()
    for name, rule in rules.items():
        week = SalesWeek.parse("2017-W45") if name == "weather.csv" else None
        document = condition_file(tmp_path / name, rule, tmp_path / "out", week=week)
        assert document["status"] == "partial", document.get("error")
        for made in ("data.csv", "quarantine.csv", "duplicates.csv"):
            found.update((tmp_path / "out" / made).read_bytes())
        found.update(document["outputs"]["data"]["content_hash"].encode())
    assert WRITTEN_BY.get(CONDITIONER_VERSION) == found.hexdigest()[:16], (
        f"the engine writes {found.hexdigest()[:16]}: raise CONDITIONER_VERSION and record it"
    )
