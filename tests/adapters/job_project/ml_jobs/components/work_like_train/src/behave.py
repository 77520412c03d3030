"""A job that works, fails, waits or refuses to end, as it is told."""

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path

parser = argparse.ArgumentParser()
for name in ("--data", "--cutoff", "--seed", "--behave", "--out", "--pooled", "--segments"):
    parser.add_argument(name)
arguments = parser.parse_args()
kind, _, value = arguments.behave.partition("-")
print(f"start {os.environ['AZUREML_RUN_ID']}", flush=True)
if kind == "fail":
    print("segment r01: deliveries.csv row 7: units is text", file=sys.stderr)
    sys.exit(3)
if kind == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if kind in ("sleep", "stubborn"):
    time.sleep(float(value))
if kind == "wait":  # until a file of that name appears beside the data
    while not Path(value).exists():
        time.sleep(0.02)
rows = sorted(str(path.relative_to(arguments.data)) for path in Path(arguments.data).rglob("*.csv"))
out = Path(arguments.out) / "r01-large-fast"
out.mkdir()
(out / "metrics.json").write_text(
    json.dumps(
        {
            "files": rows,
            "data": arguments.data,
            "cutoff": arguments.cutoff,
            "seed": int(arguments.seed),
            "pooled": arguments.pooled,
            "secrets": sorted(name for name in os.environ if name in ("LAKE", "AzureWebJobsStorage")),
        }
    )
)
(Path(arguments.out) / "results.csv").write_text("segment,status\nr01-large-fast,trained\n")
