"""Batch or online? `python -m scripts.serving_advice [--yes 1,4,...]` answers from eight questions.

Without arguments it answers for the weekly forecasts as they are; docs/decisions/0007-batch-with-an-online-door.md
holds the reasons.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection
from dataclasses import dataclass

BATCH, ONLINE, BOTH = "batch", "online", "batch, with the week's features looked up online"


@dataclass(frozen=True)
class Question:
    """One question, and what a yes speaks for."""

    text: str
    yes_means: str


QUESTIONS = {
    1: Question("Must the answer follow the request within seconds?", ONLINE),
    2: Question("Are inputs known only when the request is made?", ONLINE),
    3: Question("Would an answer of the last scheduled run be wrong by the time that it is used?", ONLINE),
    4: Question("Is everything that has to be scored known beforehand, as one set?", BATCH),
    5: Question("Are decisions made at fixed times, for example once a week?", BATCH),
    6: Question("Must all answers belong to one consistent version, checked before anybody sees one?", BATCH),
    7: Question("Is demand for answers rare or in bursts, so that a server would mostly idle?", BATCH),
    8: Question("Must answers be there even while models and servers are down?", BATCH),
}
OURS = frozenset({4, 5, 6, 7, 8})


def advice(yes: Collection[int]) -> tuple[str, list[str]]:
    """Return the way to serve and the questions that decided, for the numbers that are answered with yes.

    1. Inputs known only at the request (2), or answers that age before use (3), can only be served online.
    2. Otherwise batch; if answers must also come within seconds (1), from what the batch has prepared.
    """
    unknown = sorted(set(yes) - set(QUESTIONS))
    if unknown:
        raise ValueError(f"there are questions 1 to {len(QUESTIONS)}, not {', '.join(map(str, unknown))}")
    forced = sorted({2, 3} & set(yes))
    chosen = ONLINE if forced else BOTH if 1 in yes else BATCH
    decided = forced or sorted(number for number in yes if QUESTIONS[number].yes_means == BATCH or number == 1)
    return chosen, [QUESTIONS[number].text for number in decided]


def main(arguments: list[str] | None = None) -> int:
    """Print the advice."""
    parser = argparse.ArgumentParser(prog="scripts.serving_advice", description=__doc__)
    parser.add_argument("--yes", default=",".join(map(str, sorted(OURS))), help="numbers of the questions with a yes")
    options = parser.parse_args(arguments)
    try:
        yes = {int(part) for part in options.yes.split(",") if part.strip()}
        chosen, decided = advice(yes)
    except ValueError as error:
        print(f"--yes: {error}", file=sys.stderr)
        return 1
    for number, question in QUESTIONS.items():
        print(f"{number}. {question.text} {'yes' if number in yes else 'no'}")
    print(f"-> {chosen}" + (f", because: {' '.join(decided)}" if decided else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
