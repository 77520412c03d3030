"""Many models behind one scorer: a folder of model folders in memory, a payload that names the model (R101).

A request carries feature rows (made by the same library as in training) or, where the deployment holds a feature file,
only the store: features are made once a week in batch, so that an answer takes milliseconds (R105).
"""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from domain.errors import BadRequest, IntegrityError, NotFound
from domain.sales_weeks import SalesWeek
from ml_jobs.forecasting import features, model_files, scoring
from ml_jobs.forecasting.panel import Panel
from ml_jobs.forecasting.scheme import Segments

FEATURE_FILE = "features.npz"
SAMPLE_FOLDER = "sample"
DEPLOYMENT_FILE = "deployment.json"
SAMPLE_SERIES = 100  # of each model, at most
MAX_ROWS = 5000  # more is batch work
Document = dict[str, Any]


@dataclass(frozen=True)
class StoreFeatures:
    """The feature rows of one segment's series in a store for one week."""

    segment: str
    products: tuple[str, ...]
    rows: Mapping[str, Any]


class Scorer:
    """All models of a deployment and, if present, the week's features by store."""

    def __init__(
        self, models: Mapping[str, model_files.TrainedModel], stores: Mapping[str, list[StoreFeatures]]
    ) -> None:
        self._models = models
        self._stores = stores

    @classmethod
    def open(cls, folder: Path) -> Scorer:
        """Load every model below `folder`; raise IntegrityError if there is none: a scorer must not start empty."""
        places = {path.parent for path in folder.rglob("MLmodel")}
        models = {model.segment: model for model in map(model_files.load, sorted(places))}
        if not models:
            raise IntegrityError(f"{folder} holds no model", field="models")
        files = sorted(folder.rglob(FEATURE_FILE))
        return cls(models, _read_features(files[0]) if files else {})

    @property
    def names(self) -> list[str]:
        """Names of the loaded models."""
        return sorted(self._models)

    def answer(self, payload: Mapping[str, Any]) -> Document:
        """Return forecasts for a payload; each stage's milliseconds are in `timing_ms`.

        `{"model": NAME, "columns": [...], "data": [[...], ...]}` scores feature rows with the named model;
        `{"store_id": ID}` scores the store's whole assortment from the week's features. Raise NotFound for a name that
        is not loaded (with the list of those that are) and BadRequest for a payload that cannot be read.
        """
        began = time.perf_counter()
        if not isinstance(payload, Mapping):
            raise BadRequest("the payload must be a JSON object", field="payload", remedy="send model, columns, data")
        if "store_id" in payload:
            return self._store(str(payload["store_id"]), began)
        model = self._named(payload.get("model"))
        columns, data = payload.get("columns"), payload.get("data")
        if not isinstance(columns, list) or not isinstance(data, list) or not data:
            raise BadRequest("columns and data must be lists, data not empty", field="data",
                             remedy="send columns: [...], data: [[...], ...]")
        if len(data) > MAX_ROWS:
            raise BadRequest(f"{len(data)} rows are more than {MAX_ROWS}", field="data", remedy="use batch scoring")
        rows = _by_column(columns, data)
        fetched = time.perf_counter()
        units = _forecast(model, rows, len(data))
        return {
            "model": model.segment, "forecasts": units,
            "timing_ms": _timing(began, fetched, time.perf_counter()),
        }

    def _store(self, store: str, began: float) -> Document:
        if store not in self._stores:
            raise NotFound(f"no features for store {store!r}; there are {len(self._stores)} stores", field="store_id",
                           value=store, remedy="send feature rows, or a store of this week's features")
        forecasts = []
        fetched = time.perf_counter()
        for part in self._stores[store]:
            units = _forecast(self._named(part.segment), part.rows, len(part.products))
            forecasts += [
                {"product_id": product, "segment": part.segment, **row}
                for product, row in zip(part.products, units, strict=True)
            ]
        return {"store_id": store, "forecasts": forecasts, "timing_ms": _timing(began, fetched, time.perf_counter())}

    def _named(self, name: Any) -> model_files.TrainedModel:
        model = self._models.get(name) if isinstance(name, str) else None
        if model is None:
            raise NotFound(f"no model {name!r} in this deployment", field="model", value=name, known=self.names,
                           remedy="name one of the loaded models")
        return model


def respond(scorer: Scorer, body: bytes | str) -> tuple[int, Document]:
    """Return the HTTP status and the JSON answer to a request body; a caller's mistake is 4xx with the reason."""
    try:
        return 200, scorer.answer(json.loads(body))
    except json.JSONDecodeError as error:
        return 400, BadRequest(f"the body is not JSON: {error}", field="payload", remedy="send JSON").to_problem()
    except (BadRequest, NotFound) as error:
        return error.http_status, error.to_problem()


def write_features(panel: Panel, segments: Segments, models: Path, path: Path) -> int:
    """Write the feature rows of every active series for the week after the cutoff; return how many.

    The week's scoring does this once; the online scorer then only looks them up.
    """
    groups, texts = features.Groups(panel), features.category_texts(panel)
    arrays: dict[str, Any] = {}
    count = 0
    for key, folder in scoring.model_folders(models).items():
        trained = model_files.load(folder)
        series = segments.series_of(key)
        series = series[panel.active()[series]]
        if trained.ensemble is None or not len(series):
            continue
        values, _ = scoring.feature_rows(panel, groups, series, trained.feature_names)
        arrays[f"{key}.values"] = values
        arrays[f"{key}.names"] = np.array(trained.feature_names)
        arrays[f"{key}.texts"] = np.array([[texts[name][i] for name in features.CATEGORIES] for i in series])
        count += len(series)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)
    return count


def write_sample(panel: Panel, segments: Segments, models: Path, out: Path, week: SalesWeek) -> int:
    """Write feature rows of up to SAMPLE_SERIES active series of each model, `MODEL.WEEK.csv`; return how many rows.

    This is what the batch deployment's script reads. A file has every column that this code makes, not only those that
    its model wants, so that a deployment of other models can be asked with the same file.
    """
    groups, texts = features.Groups(panel), features.category_texts(panel)
    target, count = panel.weeks, 0
    out.mkdir(parents=True, exist_ok=True)
    for key, folder in scoring.model_folders(models).items():
        series = segments.series_of(key)
        series = series[panel.active()[series]]
        series = series[:: max(1, len(series) // SAMPLE_SERIES)][:SAMPLE_SERIES]
        if not len(series):
            continue
        block = features.build(panel, groups, series, target, target)
        average = model_files.load(folder).baseline.forecast(panel, series)
        with (out / f"{key}.{week}.csv").open("w", newline="", encoding="utf-8") as handle:
            writer = csv.writer(handle, lineterminator="\n")
            writer.writerow([*features.CATEGORIES, *block.names, "history_mean"])
            for own, values, mean in zip(series, block.values, average, strict=True):
                writer.writerow([*(texts[name][own] for name in features.CATEGORIES),
                                 *(repr(float(value)) for value in values), repr(float(mean))])
        count += len(series)
    return count


def _read_features(path: Path) -> dict[str, list[StoreFeatures]]:
    stores: dict[str, list[StoreFeatures]] = {}
    with np.load(path) as archive:
        for key in sorted(name.removesuffix(".values") for name in archive if name.endswith(".values")):
            values, texts = archive[f"{key}.values"], archive[f"{key}.texts"]
            names = [str(name) for name in archive[f"{key}.names"]]
            for store in sorted(set(texts[:, 0].tolist())):
                own = texts[:, 0] == store
                rows = {name: values[own, i] for i, name in enumerate(names)}
                rows |= {name: texts[own, i].tolist() for i, name in enumerate(features.CATEGORIES)}
                stores.setdefault(store, []).append(StoreFeatures(key, tuple(texts[own, 1].tolist()), rows))
    return stores


def _by_column(columns: list[Any], data: list[Any]) -> dict[str, list[Any]]:
    if any(not isinstance(row, list) or len(row) != len(columns) for row in data):
        raise BadRequest(f"every row of data must have {len(columns)} values", field="data",
                         remedy="give each row one value a column")
    return {str(name): [row[i] for row in data] for i, name in enumerate(columns)}


def _forecast(model: model_files.TrainedModel, rows: Mapping[str, Any], count: int) -> list[dict[str, float]]:
    """Return units of each row; a baseline reads `history_mean`, an ensemble its features and categories."""
    try:
        if model.ensemble is None:
            return [{"units": round(float(value), scoring.DECIMALS)} for value in rows["history_mean"]]
        assert model.pooled_scaling is not None
        assert model.vocabulary is not None
        values = np.stack([np.asarray(rows[name], dtype=np.float32) for name in model.feature_names], axis=1)
        texts = {name: [str(text) for text in rows.get(name, [""] * count)] for name in features.CATEGORIES}
    except (KeyError, ValueError, TypeError) as error:
        raise BadRequest(f"the columns do not fit {model.segment}: {error}", field="columns",
                         remedy="send the columns of the model's signature") from error
    level = values[:, model.feature_names.index("level")]
    units = model.ensemble.forecast(model.pooled_scaling, values, model.vocabulary.codes(texts), level)
    names = {"ensemble": "units", "lasso": "lasso_units", "embedding_net": "embedding_net_units"}
    columns = {names[name]: np.round(own, scoring.DECIMALS).tolist() for name, own in units.items()}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _timing(began: float, fetched: float, done: float) -> dict[str, float]:
    return {"features": round((fetched - began) * 1e3, 3), "inference": round((done - fetched) * 1e3, 3)}
