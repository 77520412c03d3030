"""Where this repository stands on the MLOps maturity levels (0 none ... 4 full automation), with evidence.

python -m scripts.maturity      a level is reached when all its criteria and those of the levels below have evidence

Evidence is a file, or words in a file: tests say that it works, this says that it is there. Whether people live by it
(reviews, on-call, drills in the calendar) no program can see; those questions are printed at the end.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("no MLOps", "DevOps, no MLOps", "automated training", "automated deployment", "full operations")


@dataclass(frozen=True)
class Criterion:
    """Something that a level asks for, the file that shows it, and words that must be in it."""

    level: int
    text: str
    file: str
    words: str = ""

    def has_evidence(self, root: Path = ROOT) -> bool:
        """Whether the file is there and says the words."""
        path = root / self.file
        if path.is_dir():
            return any(path.iterdir())
        return path.is_file() and self.words in path.read_text("utf-8", errors="replace")


CRITERIA = (
    Criterion(1, "builds are automatic", "azure-pipelines/ci.yml", "make package"),
    Criterion(1, "application code is tested automatically", "azure-pipelines/pr.yml", "make coverage"),
    Criterion(1, "code, tests and infrastructure are under version control", "infra/main.bicep"),
    Criterion(1, "one command sets up a developer", "scripts/setup.sh"),
    Criterion(2, "training runs from a pipeline, not from a notebook", "ml_jobs/pipelines/train.yml"),
    Criterion(
        2, "training is reproducible: pinned data, code version, seed", "orchestrators/deciding.py", "data_version"
    ),
    Criterion(2, "environments are versioned", "ml_jobs/environments/forecasting/environment.yml", "version"),
    Criterion(2, "runs and metrics are tracked", "orchestrators/ledger.py"),
    Criterion(2, "models are registered with lineage", "adapters/registry_azureml.py"),
    Criterion(2, "data is validated before training", "conditioning/gate.py"),
    Criterion(3, "a model is judged before it serves", "orchestrators/accepting.py"),
    Criterion(3, "training and scoring are validated in CI", "azure-pipelines/pr.yml", "make validate-models"),
    Criterion(
        3, "deployment is automatic, with approval for production", "azure-pipelines/cd-model-validation.yml", "prod"
    ),
    Criterion(3, "environments are code and alike", "infra/environments/prod.json"),
    Criterion(3, "a model can be rolled back", "orchestrators/promoting.py", "roll_back"),
    Criterion(3, "a forecast is traced to raw rows", "orchestrators/explaining.py", "explain"),
    Criterion(4, "retraining is triggered by age, data and quality", "domain/training_decision.py"),
    Criterion(4, "production models are watched, with alerts", "infra/alerts/model_worse_than_baseline.kql"),
    Criterion(4, "drift is watched", "infra/alerts/drift.kql"),
    Criterion(4, "missing or refused models fail over by themselves", "orchestrators/scoring.py", "fallback"),
    Criterion(4, "operators replay by one call", "orchestrators/replaying.py"),
    Criterion(4, "recovery is practised", "scripts/disaster_drill.py"),
    Criterion(4, "cost is known and bounded", "orchestrators/costing.py"),
)
QUESTIONS = (
    "Does somebody other than the author review every pull request?",
    "Do data scientists and operators look at the same page in the same meeting?",
    "Who is called by an urgent alert, and did they practise this quarter?",
    "Did the business say which MAPE is worth what?",
)


def level(root: Path = ROOT) -> int:
    """Return the highest level whose criteria, and all those below, have evidence."""
    missing = {one.level for one in CRITERIA if not one.has_evidence(root)}
    return next((number - 1 for number in range(1, 5) if number in missing), 4)


def main() -> int:
    """Print every criterion with its evidence, the level reached and what is left to ask people."""
    for number in range(1, 5):
        print(f"level {number}: {NAMES[number]}")
        for one in (c for c in CRITERIA if c.level == number):
            print(f"  {'yes' if one.has_evidence() else 'NO '} {one.text} ({one.file})")
    reached = level()
    print(f"the repository supports level {reached}: {NAMES[reached]}. Ask your team:")
    print("\n".join(f"  - {question}" for question in QUESTIONS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
