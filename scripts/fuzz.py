"""Fuzz every route of docs/openapi.json on the local host, with keys asked for as Azure does.

python -m scripts.fuzz [--seconds 100] [--examples 25] [--seed 1] [--include-path /runs]

Exit 1 if a route answers 5xx, takes what the document forbids, answers a status, type or body that it does not name, or
lets somebody in without a key.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from scripts.host_process import HostProcess

ROOT = Path(__file__).resolve().parent.parent
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "ignored_auth",
    "negative_data_rejection",
)


def main(arguments: list[str] | None = None) -> int:
    """Run the fuzzer on a host of its own and print what it did."""
    parser = argparse.ArgumentParser(description="Fuzz every route of docs/openapi.json on the local host.")
    parser.add_argument("--seconds", type=int, default=100, help="longest time for the requests")
    parser.add_argument("--examples", type=int, default=25, help="cases an operation in each phase")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--include-path", default="", help="only this path of the document")
    wish = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        data = Path(folder)
        settings = {"DATA_DIR": str(data / "local"), "TELEMETRY_BACKEND": "none"}
        with HostProcess(ROOT, data / "host", env=settings, options=["--auth"]) as host:
            key = json.loads((data / "host" / "keys.json").read_text("utf-8"))["function"]
            report = data / "report.json"
            began = time.monotonic()
            code = _schemathesis(wish, host.url, key, report)
            seconds = time.monotonic() - began
            print(_summary(report, seconds))
            failures = [line for line in host.log.splitlines() if "unforeseen error" in line]
            print("\n".join(failures[:10]))
    return code


def _schemathesis(wish: argparse.Namespace, url: str, key: str, report: Path) -> int:
    command = [
        sys.executable,
        "-m",
        "schemathesis.cli",
        "run",
        str(ROOT / "docs" / "openapi.json"),
        "--url",
        f"{url}/api",
        "--header",
        f"x-functions-key: {key}",
        "--checks",
        ",".join(CHECKS),
        "--phases",
        "examples,coverage,fuzzing",
        "--max-examples",
        str(wish.examples),
        "--seed",
        str(wish.seed),
        "--max-redirects",
        "0",
        "--request-timeout",
        "60",
        "--continue-on-failure",
        "--no-color",
        "--warnings",
        "off",
        "--report",
        "json",
        "--report-json-path",
        str(report),
        "--generation-database",
        ":memory:",
    ]
    if wish.include_path:
        command += ["--include-path", wish.include_path]
    try:
        return subprocess.run(command, cwd=ROOT, check=False, timeout=wish.seconds + 60).returncode
    except subprocess.TimeoutExpired:
        print(f"fuzz: not done after {wish.seconds + 60} s")
        return 1


def _summary(report: Path, seconds: float) -> str:
    if not report.exists():
        return f"fuzz: no report, {seconds:.0f} s"
    document: dict[str, Any] = json.loads(report.read_text("utf-8"))
    return f"fuzz: {seconds:.0f} s, cases {json.dumps(document['test_cases'])}, seed {document['seed']}"


if __name__ == "__main__":
    sys.exit(main())
