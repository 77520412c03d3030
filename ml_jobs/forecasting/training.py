"""Training one segment or one baseline: from the panel to a model folder with metrics and a model card."""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from domain.errors import BadRequest, IntegrityError
from domain.sales_weeks import SalesWeek
from domain.segments import BASELINE, ENSEMBLE
from ml_jobs.forecasting import drift, ensemble, features, model_files, rows
from ml_jobs.forecasting.embedding_net import PooledNet
from ml_jobs.forecasting.evaluation import evaluation, lead_in_errors, readable, tally_arrays, verdicts
from ml_jobs.forecasting.history_average import HistoryAverage, history_means_at
from ml_jobs.forecasting.objective import row_costs, typical_sale
from ml_jobs.forecasting.panel import Panel, read_panel
from ml_jobs.forecasting.scheme import DEFAULT_SCHEME, MIN_ROWS, MIN_SERIES, Segments
from ml_jobs.forecasting.tables import FloatArray, IntArray
from ml_jobs.forecasting.tuning import DEFAULT, Tuning, class_of
from ml_jobs.forecasting.windows import Origins

TRAINED, THIN, FAILED = "trained", "thin", "failed"


@dataclass(frozen=True)
class Workbench:
    """The input of a training, read once: panel, shared totals, segment keys, windows, and what identifies the data.

    `kept` holds the rows of all segments, where the process has made them for the pooled net and lost none.
    """

    data: Path
    panel: Panel
    groups: features.Groups
    segments: Segments
    origins: Origins
    files: Mapping[str, str]
    kept: rows.Rows | None = None

    @classmethod
    def open(cls, data: Path, cutoff: SalesWeek, *, horizon: int = 1, scheme: str = DEFAULT_SCHEME) -> Workbench:
        """Read the folder up to the cutoff; raise BadRequest where it cannot be used."""
        panel = read_panel(data, cutoff, horizon)
        return cls(
            data, panel, features.Groups(panel), Segments.of(panel, scheme), Origins.of(panel.weeks), file_hashes(data)
        )


@dataclass(frozen=True)
class Recipe:
    """How a training was asked for; part of every model's identity."""

    seed: int
    effort: str
    init_from: str | None = None
    tunings: Mapping[str, Tuning] = field(default_factory=dict)  # by class of segments, from a sweep

    def tuning(self, key: str) -> Tuning:
        """Return the hyper-parameters for a segment."""
        return self.tunings.get(class_of(key), DEFAULT)


@dataclass(frozen=True)
class Outcome:
    """What became of one requested key; `metrics` is the metrics.json document."""

    segment: str
    status: str
    metrics: Mapping[str, Any]

    @property
    def error(self) -> str:
        """Why it failed; empty otherwise."""
        return str(self.metrics.get("error", ""))


def file_hashes(data: Path) -> dict[str, str]:
    """Return the SHA-256 of every CSV of the input folder."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(data.glob("*.csv"))}


def train_key(bench: Workbench, pooled: PooledNet | None, key: str, recipe: Recipe, folder: Path) -> Outcome:
    """Train one segment or baseline into `folder`; never raises for a bad segment: the outcome says what failed."""
    began = time.perf_counter()
    kind = BASELINE if key.endswith(f"-{BASELINE}") else ENSEMBLE
    try:
        series = bench.segments.series_of(key)
        if not len(series):
            raise BadRequest(f"no series belongs to segment {key!r}", field="segment", value=key,
                             remedy="check stores.csv and products.csv, or leave the segment out")
        if kind == BASELINE:
            status, body, card = _train_baseline(bench, key, series, folder)
        else:
            if pooled is None:
                raise BadRequest("an ensemble needs the pooled net", field="pooled", remedy="run pretrain first")
            status, body, card = _train_ensemble(bench, pooled, key, series, folder, recipe.tuning(key))
    except Exception as error:
        # A segment that breaks, for whatever reason, must not take the others with it; it ends in the report instead.
        status, body, card = FAILED, {"error": f"{type(error).__name__}: {error}"}, {}
    document: dict[str, Any] = {
        "schema": "shelfcast.metrics/1", "segment": key, "kind": kind, "status": status,
        "cutoff": str(bench.panel.cutoff), "series": 0, "rows": 0, "weights": {},
        "evaluation": {"weeks": [], "members": {}}, **body,
        "seconds": round(time.perf_counter() - began, 3), "seed": recipe.seed,
    }
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "metrics.json", document)
    _write_json(folder / "model_card.json", _card(bench, recipe, document, card))
    return Outcome(key, status, document)


def _train_baseline(
    bench: Workbench, key: str, series: IntArray, folder: Path
) -> tuple[str, dict[str, Any], dict[str, Any]]:
    panel, origins = bench.panel, bench.origins
    model = HistoryAverage.of(panel, series)
    own, week = _judged_pairs(panel, series, origins)
    actual = panel.units[own, week].astype(np.float64)
    judged = evaluation(panel, week, actual, {"baseline": history_means_at(panel, own, week)})
    digest = model_files.save(model_files.TrainedModel(key, BASELINE, panel.horizon, model), folder)
    model_files.load(folder)
    return TRAINED, {
        "series": len(series), "rows": int((panel.weeks - panel.start[series]).sum()), "evaluation": judged,
    }, {"model_hash": digest}


def _train_ensemble(
    bench: Workbench, pooled: PooledNet, key: str, series: IntArray, folder: Path, tuning: Tuning
) -> tuple[str, dict[str, Any], dict[str, Any]]:
    panel, origins = bench.panel, bench.origins
    segment, own = segment_rows(bench, pooled, series)
    counts: dict[str, Any] = {"series": len(series), "rows": len(segment.week)}
    average = HistoryAverage.of(panel, series)
    taught = int((segment.week < origins.choose).sum())
    if int(panel.active()[series].sum()) < MIN_SERIES or taught < MIN_ROWS:
        digest = model_files.save(model_files.TrainedModel(key, BASELINE, panel.horizon, average), folder)
        return THIN, {**counts, "thin_rule": f"fewer than {MIN_SERIES} active series, or than {MIN_ROWS} rows"
                                         " before the weeks that choose"}, {
            "model_hash": digest,
        }
    trained, judged, _ = ensemble.train(segment, pooled, origins, tuning)
    units: dict[str, FloatArray] = dict(judged.units)
    units["baseline"] = history_means_at(panel, own[judged.rows], segment.week[judged.rows])
    document = evaluation(panel, segment.week[judged.rows], segment.units[judged.rows].astype(np.float64), units)
    model = model_files.TrainedModel(
        key, ENSEMBLE, panel.horizon, average, pooled.feature_names, pooled.scaling, pooled.vocabulary, trained
    )
    digest = model_files.save(model, folder)
    checks = _training_checks(model_files.load(folder), segment)
    taken = drift.snapshots(pooled.feature_names, segment.values)
    snapshots = {name: snapshot.to_dict() for name, snapshot in taken.items()}
    _write_json(folder / drift.SNAPSHOT_FILE, snapshots, indent=None)
    coefficients = trained.members.lasso.coefficients
    return TRAINED, {
        **counts, "evaluation": document,
        "backtest": _backtest(panel, segment, own, judged, units["baseline"], pooled.facts["percentage_rate"]),
        "weights": {"lasso": round(1 - trained.net_weight, 6), "embedding_net": round(trained.net_weight, 6)},
    }, {
        "model_hash": digest, "checks": checks,
        "choices": {
            "lasso_penalty": trained.members.lasso.penalty, "lasso_features": int((coefficients != 0).sum()),
            "net_weight": trained.net_weight, "tuning": tuning.to_dict(),
        },
        "pooled": dict(pooled.facts),
    }


def _backtest(
    panel: Panel, segment: ensemble.SegmentRows, own: IntArray, judged: ensemble.Judged, average: FloatArray,
    rate: float,
) -> dict[str, Any]:
    """Return the tallies of ensemble and history average over the weeks that chose and the weeks that judged.

    Twice as many weeks as in the evaluation: of few weeks, which of the two was better is often chance. How far the
    ensemble leads is told in standard errors.
    """
    weeks = np.concatenate([segment.week[judged.tried], segment.week[judged.rows]])
    actual = np.concatenate([segment.units[judged.tried], segment.units[judged.rows]]).astype(np.float64)
    tried = history_means_at(panel, own[judged.tried], segment.week[judged.tried])
    averages = np.concatenate([tried, average])
    units = np.concatenate([judged.tried_units, judged.units[ENSEMBLE]])
    return {
        "weeks": len(set(weeks.tolist())), "percentage_rate": rate,
        "lead": round(lead_in_errors(actual, units, averages, row_costs(actual, typical_sale(actual), rate)), 3),
        ENSEMBLE: tally_arrays(actual, units).to_dict(), BASELINE: tally_arrays(actual, averages).to_dict(),
    }


def segment_rows(bench: Workbench, pooled: PooledNet, series: IntArray) -> tuple[ensemble.SegmentRows, IntArray]:
    """Return the rows that a segment learns from, and the series of each."""
    panel = bench.panel
    found = bench.kept.of_series(series) if bench.kept else rows.collect(panel, bench.groups, series)
    codes = pooled.vocabulary.codes(features.category_texts(panel, series))[np.searchsorted(series, found.series)]
    block = features.FeatureBlock(
        found.names, found.values, found.level, np.ones(len(found.week), dtype=bool), found.series, found.week
    )
    return ensemble.SegmentRows(
        block.aligned(pooled.feature_names), codes, found.level, found.units, found.week
    ), found.series


def _judged_pairs(panel: Panel, series: IntArray, origins: Origins) -> tuple[IntArray, IntArray]:
    """Return the (series, week) pairs of the judging weeks that would have been scored."""
    active = panel.was_active(series)
    pairs = [
        (series[active[:, week]], week)
        for week in range(max(origins.judge, 1), panel.weeks) if not panel.lost[week]
    ]
    chosen = np.concatenate([own for own, _ in pairs] or [np.zeros(0, dtype=np.int64)])
    weeks = np.concatenate([np.full(len(own), week) for own, week in pairs] or [np.zeros(0, dtype=np.int64)])
    return chosen.astype(np.int64), weeks.astype(np.int64)


def _training_checks(loaded: model_files.TrainedModel, segment: ensemble.SegmentRows) -> dict[str, bool]:
    """Check what was stored by using it (R73); raise IntegrityError if the model is not fit to be used."""
    assert loaded.ensemble is not None
    assert loaded.pooled_scaling is not None
    last = np.flatnonzero(segment.week == segment.week.max())
    logs = loaded.ensemble.logs(
        loaded.pooled_scaling, segment.values[last], segment.codes[last], segment.level[last]
    )["ensemble"]
    checks = {
        "loads": True,
        "finite": bool(np.isfinite(logs).all()),
        "not_constant": bool(len(logs) < 2 or np.ptp(logs) > 0 or np.ptp(segment.units) == 0),
    }
    broken = [name for name, passed in checks.items() if not passed]
    if broken:
        raise IntegrityError(f"the trained model fails its checks: {', '.join(broken)}", field="model")
    return checks


def _card(bench: Workbench, recipe: Recipe, document: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return the model card: who made the model, when, from what, how good it is and what was decided."""
    manifest = bench.data / "manifest.json"
    return {
        "schema": "shelfcast.model_card/1", "segment": document["segment"], "kind": document["kind"],
        "status": document["status"], "trained_on": str(bench.panel.cutoff),
        "trained_at": datetime.now(UTC).isoformat(timespec="seconds"), "trained_by": _who(),
        "job": os.environ.get("AZUREML_RUN_ID", ""),
        "data": {
            "files": dict(bench.files),
            "manifest": json.loads(manifest.read_text()) if manifest.is_file() else None,
            "first_week": str(bench.panel.week_at(0)), "cutoff": str(bench.panel.cutoff),
            "scheme": bench.segments.scheme,
        },
        "code": {"hash": model_files.code_hash(), "python": platform.python_version(), "numpy": np.__version__},
        "recipe": {"seed": recipe.seed, "effort": recipe.effort, "init_from": recipe.init_from},
        "metrics": readable(document["evaluation"]),
        "verdicts": verdicts(document["evaluation"], document["kind"]),
        "error": document.get("error", ""), **more,
    }


def _who() -> str:
    try:
        return os.environ.get("SHELFCAST_TRAINED_BY") or getpass.getuser()
    except (KeyError, OSError):  # a container may run under a user id without a name
        return "unknown"


def _write_json(path: Path, document: Mapping[str, Any], *, indent: int | None = 1) -> None:
    path.write_text(json.dumps(document, indent=indent, sort_keys=True) + "\n")
