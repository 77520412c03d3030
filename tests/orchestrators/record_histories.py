"""Record the histories of an undisturbed weekly run: what orchestrations in flight look like on this code.

python -m tests.orchestrators.record_histories

A deployment meets runs in flight that older code started. `test_stored_histories.py` replays the stored ones against
the code at hand. Record anew only when an orchestrator's shape changed on purpose, and deploy that change with
`make deploy ARGS='--drain-minutes 600'`.
"""

from __future__ import annotations

import json
from pathlib import Path

from tests.orchestrators.memory_lake import MemoryLake
from tests.orchestrators.world import make_world

STORED = Path(__file__).parent / "histories" / "weekly.json"


def record() -> int:
    """Write the histories; return how many events they hold."""
    world = make_world(MemoryLake(), POLL_FIRST_SECONDS="120")
    driver = world.driver()
    run_id = world.run(driver=driver)
    document = [
        {"orchestrator": name, "instance_id": run_id, "input": text, "events": [event.fields() for event in history]}
        for name, text, history in driver.histories
    ]
    STORED.parent.mkdir(exist_ok=True)
    STORED.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    return sum(len(one["events"]) for one in document)


if __name__ == "__main__":
    print(f"{STORED}: {record()} events")
