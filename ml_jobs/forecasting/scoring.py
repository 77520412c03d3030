"""Scoring: forecasts of one week (and the horizon after it) by stored models, one row a series and week."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from domain.errors import IntegrityError
from domain.metrics import Tally, mape, wape
from domain.segments import BASELINE, ENSEMBLE
from ml_jobs.forecasting import features, model_files
from ml_jobs.forecasting.drift import SNAPSHOT_FILE, Drift, Snapshot, compare
from ml_jobs.forecasting.evaluation import cost
from ml_jobs.forecasting.history_average import HistoryAverage
from ml_jobs.forecasting.objective import BASE_RATE
from ml_jobs.forecasting.panel import Panel
from ml_jobs.forecasting.scheme import Segments
from ml_jobs.forecasting.tables import FloatArray, IntArray

HEADER = "store_id,product_id,sales_week,segment,kind,units,lasso_units,embedding_net_units"
DECIMALS = 4  # of a unit; fixed, so that equal forecasts are equal bytes
DRIFT_SHOWN = 5
MIN_DRIFT_ROWS = 40  # the index of fewer rows is mostly chance
# Where fewer rows of a back-test sold anything, a model must lead by this many standard errors: of so few series the
# error is itself a guess, and among many such segments some lead by luck (docs/models.md, "How good").
FEW_SOLD_ROWS, CLEAR_LEAD = 50, 3.0
OWN_MODEL, OWN_AVERAGE, LOST, UNCLEAR, REGION_BASELINE, NO_MODEL = (
    "own_model", "thin_segment", "lost_to_average", "unclear_lead", "region_baseline", "no_model"
)


@dataclass(frozen=True)
class ForecastRow:
    """One line of forecasts.csv; member units are empty for a baseline."""

    store_id: str
    product_id: str
    sales_week: str
    segment: str
    kind: str
    units: float
    lasso_units: float | None = None
    embedding_net_units: float | None = None

    def line(self) -> str:
        """Return the CSV line, quoted where an id needs it."""
        numbers = [self.units, self.lasso_units, self.embedding_net_units]
        texts = [_quoted(text) for text in (self.store_id, self.product_id, self.sales_week, self.segment, self.kind)]
        return ",".join(texts + ["" if value is None else f"{value:.{DECIMALS}f}" for value in numbers])


@dataclass(frozen=True)
class SegmentScore:
    """How one key was scored: by its own model or by a stand-in, and how many rows."""

    segment: str
    scored_by: str
    rows: int
    error: str = ""
    drift: tuple[Drift, ...] = ()  # of the features that drifted most, against the model's training


def model_folders(models: Path) -> dict[str, Path]:
    """Return model folders by key; `models` may hold many of them or be one itself."""
    folders = [models] if (models / "MLmodel").is_file() else sorted(path.parent for path in models.glob("*/MLmodel"))
    found: dict[str, Path] = {}
    for folder in folders:
        found[model_files.segment_of(folder)] = folder
    return found


def score(
    panel: Panel, segments: Segments, models: Path, wanted: Iterable[str] | None = None
) -> tuple[list[ForecastRow], list[SegmentScore]]:
    """Score the week after the panel's cutoff (and the models' horizon), for `wanted` keys or for every series.

    Without `wanted`, each segment of the data is scored once: by its own model, or by its history average where the
    model was not better than that in its own back-test, or not clearly where little was sold; without a usable model by
    the baseline of its region and format, else by its history average; the report says which and why. A wanted key
    without a model raises IntegrityError, and one with a model is scored by it: asked for by name, it must not be
    replaced in silence.
    """
    folders = model_folders(models)
    groups = features.Groups(panel)
    texts = features.category_texts(panel)
    eligible = panel.active()
    keys = sorted(wanted) if wanted is not None else sorted(set(segments.keys.tolist()))
    lines: list[ForecastRow] = []
    report: list[SegmentScore] = []
    for key in keys:
        series = segments.series_of(key)
        series = series[eligible[series]]
        stand_in = str(segments.baselines[series[0]]) if len(series) else ""
        trained, scored_by, error = _model_for(key, stand_in, folders, strict=wanted is not None)
        own = list(_forecast(panel, groups, texts, series, key, trained))
        lines.extend(own)
        moved = _drift(panel, groups, series, trained, folders.get(key)) if scored_by == OWN_MODEL else ()
        report.append(SegmentScore(key, scored_by, len(own), error, moved))
    lines.sort(key=lambda row: (row.store_id, row.product_id, row.sales_week, row.segment))
    return lines, report


def _model_for(
    key: str, stand_in: str, folders: dict[str, Path], *, strict: bool
) -> tuple[model_files.TrainedModel, str, str]:
    """Return the model that scores a key, how it stands in, and why the own one could not."""
    error = ""
    if key in folders:
        try:
            trained = model_files.load(folders[key])
            if trained.ensemble is None:
                return trained, OWN_MODEL if key.endswith(BASELINE) else OWN_AVERAGE, ""
            verdict, why = (OWN_MODEL, "") if strict else _verdict(folders[key])
            if verdict != OWN_MODEL:
                trained = replace(trained, kind=BASELINE, ensemble=None)
            return trained, verdict, why
        except IntegrityError as problem:
            if strict:
                raise
            error = str(problem)
    elif strict:
        raise IntegrityError(
            f"no model for segment {key!r}; there are {', '.join(folders) or 'none'}", field="segments", value=key
        )
    if stand_in in folders:
        return model_files.load(folders[stand_in]), REGION_BASELINE, error or "no model of its own"
    return model_files.TrainedModel(key, BASELINE, 1, HistoryAverage({}, 0.0)), NO_MODEL, error or "no model"


def _verdict(folder: Path) -> tuple[str, str]:
    """Return what the back-test says of a model: own_model, or why its history average stands in, with the figures.

    What decides is what the training's choices minimised: MAPE alone prefers an average that is far too low.
    """
    path = folder / "metrics.json"
    backtest = json.loads(path.read_text()).get("backtest") if path.is_file() else None
    if backtest is None:
        return OWN_MODEL, ""
    own, average = (Tally.from_dict(backtest[name]) for name in (ENSEMBLE, BASELINE))
    rate = backtest.get("percentage_rate", BASE_RATE)
    if cost(own, rate) >= cost(average, rate):
        figures = (f"{name} {_figure(of(own))} against {_figure(of(average))}"
                   for name, of in (("WAPE", wape), ("MAPE", mape)))
        return LOST, f"not better than the history average in {backtest['weeks']} weeks: {', '.join(figures)}"
    ahead = backtest.get("lead", CLEAR_LEAD)  # a model made before leads were stored stays as it was judged
    if own.n_positive < FEW_SOLD_ROWS and ahead < CLEAR_LEAD:
        return UNCLEAR, (
            f"ahead of the history average by {ahead:.1f} standard errors in {backtest['weeks']} weeks: less than"
            f" {CLEAR_LEAD:.0f} may be chance where {own.n_positive} rows sold anything (fewer than {FEW_SOLD_ROWS})"
        )
    return OWN_MODEL, ""


def _figure(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


def _drift(
    panel: Panel, groups: features.Groups, series: IntArray, trained: model_files.TrainedModel, folder: Path | None
) -> tuple[Drift, ...]:
    """Return the features of this week that are farthest from the model's training, none without a snapshot."""
    if folder is None or not (folder / SNAPSHOT_FILE).is_file() or len(series) < MIN_DRIFT_ROWS:
        return ()
    stored = json.loads((folder / SNAPSHOT_FILE).read_text())
    values, _ = feature_rows(panel, groups, series, trained.feature_names)
    now = {name: values[:, i].astype(np.float64) for i, name in enumerate(trained.feature_names)
           if np.isfinite(values[:, i]).any()}
    return tuple(compare({name: Snapshot.from_dict(data) for name, data in stored.items()}, now)[:DRIFT_SHOWN])


def _forecast(
    panel: Panel, groups: features.Groups, texts: dict[str, list[str]], series: IntArray, key: str,
    trained: model_files.TrainedModel,
) -> Iterator[ForecastRow]:
    """Yield the rows of one segment; each segment is computed alone, so its bytes do not depend on its neighbours."""
    if not len(series):
        return
    for ahead in range(1, min(trained.horizon, panel.horizon) + 1):
        week = str(panel.week_at(panel.weeks - 1 + ahead))
        if trained.ensemble is None:
            units: dict[str, FloatArray] = {"ensemble": trained.baseline.forecast(panel, series)}
        else:
            units = ensemble_units(panel, groups, texts, series, trained, ahead)
        kind = BASELINE if trained.ensemble is None else ENSEMBLE
        for row, own in enumerate(series):
            yield ForecastRow(
                panel.stores[panel.store_of[own]], panel.products[panel.product_of[own]], week, key, kind,
                float(units["ensemble"][row]),
                *(float(units[name][row]) if name in units else None for name in ("lasso", "embedding_net")),
            )


def feature_rows(
    panel: Panel, groups: features.Groups, series: IntArray, names: tuple[str, ...], ahead: int = 1
) -> tuple[np.ndarray[tuple[int, int], np.dtype[np.float32]], np.ndarray[tuple[int], np.dtype[np.float32]]]:
    """Return the features of the week after the cutoff in a model's order, and the recent log levels."""
    target = panel.weeks - 1 + ahead
    block = features.build(panel, groups, series, target, target, ahead)
    return block.aligned(names), block.level


def ensemble_units(
    panel: Panel, groups: features.Groups, texts: dict[str, list[str]], series: IntArray,
    trained: model_files.TrainedModel, ahead: int,
) -> dict[str, FloatArray]:
    """Return a trained segment's forecasts of both members and of the ensemble."""
    assert trained.ensemble is not None
    assert trained.pooled_scaling is not None
    assert trained.vocabulary is not None
    values, level = feature_rows(panel, groups, series, trained.feature_names, ahead)
    codes = trained.vocabulary.codes({name: [own[i] for i in series] for name, own in texts.items()})
    return trained.ensemble.forecast(trained.pooled_scaling, values, codes, level)


def write(rows: list[ForecastRow], path: Path) -> None:
    """Write forecasts.csv: UTF-8, LF, sorted rows, fixed decimals."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([HEADER, *(row.line() for row in rows)]) + "\n", encoding="utf-8", newline="\n")


def _quoted(text: str) -> str:
    if any(mark in text for mark in ',"\n\r'):
        return '"' + text.replace('"', '""') + '"'
    return text
