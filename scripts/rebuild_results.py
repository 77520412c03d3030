"""Write the result tables again from the ledger: after a lost database, or into a new one.

python -m scripts.rebuild_results     the same settings as the app (LAKE, RESULTS_URL, DATA_DIR, SCENARIO_FILE ...)

Every run that had reached its last step is written in the order in which the runs ended; repeating changes nothing.
What stands in production is written as it is today, also for older runs.
"""

from __future__ import annotations

import sys

from bootstrap import services
from orchestrators.ledger import RunLedger
from orchestrators.writing_results import write_results


def rebuild() -> int:
    """Write every run's rows; return how many runs were written."""
    found = services()
    documents = [RunLedger(found.lake).run(str(run_id)) for run_id in RunLedger(found.lake).run_ids()]
    written = 0
    for run in sorted(documents, key=lambda document: document["ended_at"] or "9"):
        if any(step["name"] == "results" and step["status"] == "succeeded" for step in run["steps"]):
            counts = write_results(found, {"run_id": run["run_id"]})["counts"]
            print(f"{run['run_id']}: {counts['models']} models, {counts['forecasts']} forecasts")
            written += 1
        else:
            found.results.write_run(run)
    return written


if __name__ == "__main__":
    print(f"{rebuild()} runs written")
    sys.exit(0)
