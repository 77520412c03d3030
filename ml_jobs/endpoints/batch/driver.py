"""What Azure ML does with the batch deployment's definition, on one machine.

python -m ml_jobs.endpoints.batch.driver --models DIR --data DIR --out DIR

The files of a folder go to score.py in mini batches, a failing one is tried again, and with an error threshold of zero
one that keeps failing ends the job; the rows go into one output file. All figures are deployment.yml's.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from pathlib import Path
from typing import Any


def main(arguments: list[str] | None = None) -> int:
    """Score a folder; return 1 with the reason on stderr if a file was lost."""
    parser = argparse.ArgumentParser(prog="ml_jobs.endpoints.batch.driver", description=__doc__)
    for name in ("--models", "--data", "--out"):
        parser.add_argument(name, type=Path, required=True)
    options = parser.parse_args(arguments)
    import yaml

    definition: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("deployment.yml").read_text("utf-8"))
    os.environ["AZUREML_MODEL_DIR"] = str(options.models)
    from ml_jobs.endpoints.batch import score

    score.init()
    files = sorted(str(path) for path in options.data.rglob("*") if path.is_file())
    size, tries = int(definition["mini_batch_size"]), 1 + int(definition["retry_settings"]["max_retries"])
    rows: list[str] = []
    failed = 0
    for batch in (files[start:start + size] for start in range(0, len(files), size)):
        for left in reversed(range(tries)):
            try:
                rows += score.run(batch)
                break
            except Exception:  # whatever the script raises, as on Azure ML
                if not left:
                    traceback.print_exc()
                    failed += len(batch)
    if failed > int(definition["error_threshold"]):
        print(f"batch scoring failed: {failed} of {len(files)} files could not be scored", file=sys.stderr)
        return 1
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / definition["output_file_name"]).write_text("".join(f"{row}\n" for row in rows), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
