"""The product's own pipelines and components: both platforms take them, and the local one runs them."""

from __future__ import annotations

import csv
import io
import json
import random
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.jobs_component import load_launch
from adapters.jobs_local import LocalJobs
from adapters.lake import BlobLake
from domain.errors import JobRejected
from domain.job_states import JobSpec
from domain.sales_weeks import SalesWeek, weeks_between
from tests.adapters.platforms import AzurePlatform, until

PRODUCT = Path(__file__).resolve().parents[2]
RUN = "weekly-2017-W45-a1"
DATA = "azureml://datastores/curated/paths/2017-W45/abc/"
TRAINED = {"data": DATA, "cutoff": "2017-W44", "seed": 7, "effort": "quick"}


def spec(pipeline: str, unit: str, inputs: dict[str, str | int | float], output: str) -> JobSpec:
    name = f"{RUN}-{unit}"
    container = "staging" if pipeline == "score" else "models"
    return JobSpec(
        name=name,
        pipeline=pipeline,
        run_id=RUN,
        kind="score" if pipeline == "score" else "train",
        segment=unit,
        inputs=inputs,
        outputs={output: f"azureml://datastores/{container}/paths/{name}/"},
        tags={},
    )


PRETRAIN = spec("pretrain", "pooled", TRAINED, "models")
TRAIN = spec(
    "train",
    "r01-large-fast",
    {**TRAINED, "segments": "r01-large-fast", "pooled": "azureml://datastores/models/paths/pooled/"},
    "models",
)
BASELINE = spec("train", "r01-large-baseline", {**TRAINED, "segments": "r01-large-baseline"}, "models")
SCORE = spec(
    "score",
    "score-r01",
    {
        "data": DATA,
        "models": f"azureml://datastores/models/paths/{BASELINE.name}/",
        "week": "2017-W45",
        "segments": "r01-large-baseline",
    },
    "forecasts",
)
ALL = [PRETRAIN, TRAIN, BASELINE, SCORE]


@pytest.mark.parametrize("wanted", ALL, ids=lambda wanted: wanted.segment)
def test_azure_ml_takes_the_job_with_registered_components(azure_platform: AzurePlatform, wanted: JobSpec) -> None:
    jobs = replace(azure_platform.jobs, project=PRODUCT)
    jobs.submit(wanted)
    sent = json.loads(azure_platform.plane.calls("PUT")[-1].body)["properties"]
    (step,) = sent["jobs"].values()
    launch = load_launch(PRODUCT, wanted)
    _, name, version = launch.component.split(":")
    assert step["componentId"].endswith(f"/components/{name}/versions/{version}")
    assert set(wanted.inputs) <= set(step["inputs"])
    for name, value in wanted.inputs.items():
        given = sent["inputs"][name]
        assert given.get("uri", given.get("value")) == str(value)


def test_an_effort_that_does_not_exist_is_refused() -> None:
    with pytest.raises(JobRejected, match="standard, quick"):
        load_launch(PRODUCT, replace(TRAIN, inputs={**TRAIN.inputs, "effort": "heroic"}))


@pytest.fixture
def local_jobs(tmp_path: Path, azurite: str, lake: BlobLake) -> Iterator[LocalJobs]:
    draw = random.Random(1)
    weeks = list(weeks_between(SalesWeek.parse("2016-W45"), SalesWeek.parse("2017-W44")))
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["store_id", "product_id", "sales_week", "units"])
    for store, product, week in ((s, p, w) for s in ("001", "002") for p in ("0a", "0b", "0c") for w in weeks):
        rows.writerow([store, product, str(week), draw.randint(1, 30)])
    lake.write("curated", "2017-W45/abc/deliveries.csv", table.getvalue().encode())
    stores = "store_id,region,store_format,zip,opened_on\n001,r01,large,,\n002,r01,large,,\n"
    lake.write("curated", "2017-W45/abc/stores.csv", stores.encode())
    jobs = LocalJobs(
        root=tmp_path / "jobs",
        lake_connection=azurite,
        project=PRODUCT,
        python=sys.executable,
        max_parallel=2,
        idle_seconds=5,
    )
    yield jobs
    jobs.close()


@pytest.mark.long
def test_the_local_platform_trains_a_baseline_and_scores_with_it(local_jobs: LocalJobs, lake: BlobLake) -> None:
    for wanted in (BASELINE, SCORE):
        local_jobs.submit(wanted)
        until(lambda name=wanted.name: local_jobs.statuses(RUN, [name])[name].phase.ended, 120)
        status = local_jobs.statuses(RUN, [wanted.name])[wanted.name]
        assert status.status == "Completed", status.error
    text = lake.read("staging", f"{SCORE.name}/forecasts.csv").data.decode()
    forecasts = list(csv.DictReader(io.StringIO(text)))
    assert {row["store_id"] for row in forecasts} == {"001", "002"}
    assert {row["sales_week"] for row in forecasts} == {"2017-W45"}
    assert len(forecasts) == 6
