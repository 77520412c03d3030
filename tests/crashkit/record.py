"""Writes histories of finished runs for test_recordings: `python -m tests.crashkit.record DATA/hub.sqlite ID...`.

Do it when an orchestrator has been changed on purpose and no run of the old code is in flight.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.crashkit.kit import Recording

RECORDINGS = Path(__file__).parent / "recordings"


def main(hub: str, *instances: str) -> None:
    """Write one file an instance; a second instance of the same orchestrator gets a number."""
    RECORDINGS.mkdir(exist_ok=True)
    seen: dict[str, int] = {}
    for instance_id in instances:
        recording = Recording.from_hub(Path(hub), instance_id)
        seen[recording.name] = seen.get(recording.name, 0) + 1
        number = "" if seen[recording.name] == 1 else f"-{seen[recording.name]}"
        (RECORDINGS / f"{recording.name}{number}.json").write_text(recording.to_json() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
