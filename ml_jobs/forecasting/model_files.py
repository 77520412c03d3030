"""A trained model as a folder in MLflow format, written and read without importing MLflow.

`MLmodel` names a loader and the code beside it, so mlflow.pyfunc and Azure ML's no-code deployment can load the folder
with neither scoring script nor environment of their own. Loading MLflow costs 1.4 s of CPU; our jobs need none of it.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from domain.errors import IntegrityError
from domain.segments import BASELINE, ENSEMBLE
from ml_jobs.forecasting.embedding_net import Vocabulary, Weights
from ml_jobs.forecasting.ensemble import Ensemble, Members
from ml_jobs.forecasting.features import CATEGORIES
from ml_jobs.forecasting.history_average import HistoryAverage
from ml_jobs.forecasting.lasso import Lasso, Scaling

ROOT = Path(__file__).resolve().parents[2]
CODE_ARCHIVE = "code.zip"
PACKED = ("ml_jobs/__init__.py", "ml_jobs/forecasting/*.py", "domain/__init__.py", "domain/errors.py",
          "domain/sales_weeks.py", "domain/segments.py", "domain/assortment.py", "domain/metrics.py")
TRAINING_ONLY = frozenset({"net_training.py"})  # needs PyTorch, which a scorer does not
SCORING_REQUIREMENTS = ("numpy>=2,<3", "pyarrow>=20", "pandas>=2", "mlflow-skinny>=3.15")
_EPOCH = (1980, 1, 1, 0, 0, 0)  # a fixed time stamp: equal code gives equal bytes


@dataclass(frozen=True)
class TrainedModel:
    """What scoring needs of one segment; `ensemble` is None for a baseline and for a segment too thin for a model."""

    segment: str
    kind: str
    horizon: int
    baseline: HistoryAverage
    feature_names: tuple[str, ...] = ()
    pooled_scaling: Scaling | None = None
    vocabulary: Vocabulary | None = None
    ensemble: Ensemble | None = None


def save(model: TrainedModel, folder: Path) -> str:
    """Write the model folder; return the hash of what decides its forecasts."""
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    document: dict[str, Any] = {
        "schema": "shelfcast.model/1", "segment": model.segment, "kind": model.kind, "horizon": model.horizon,
        "baseline": {"by_product": dict(model.baseline.by_product), "overall": model.baseline.overall},
    }
    if model.ensemble is not None:
        assert model.pooled_scaling is not None
        assert model.vocabulary is not None
        members = model.ensemble.members
        arrays = {
            "pooled_mean": model.pooled_scaling.mean, "pooled_spread": model.pooled_scaling.spread,
            "lasso_coefficients": members.lasso.coefficients,
            "lasso_intercept": np.float64(members.lasso.intercept), "lasso_penalty": np.float64(members.lasso.penalty),
            **members.net.arrays("net"),
        }
        packed = io.BytesIO()
        np.savez(packed, **arrays)
        (data / "arrays.npz").write_bytes(packed.getvalue())
        document.update({
            "net_weight": model.ensemble.net_weight, "whole_units": model.ensemble.whole_units,
            "feature_names": list(model.feature_names),
            "vocabulary": {name: list(values) for name, values in model.vocabulary.values.items()},
        })
    (data / "model.json").write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
    (folder / CODE_ARCHIVE).write_bytes(code_archive())
    _write_mlflow_files(model, folder)
    return content_hash(folder)


def load(folder: Path) -> TrainedModel:
    """Read a model folder; raise IntegrityError if it is not one."""
    data = folder / "data"
    try:
        document = json.loads((data / "model.json").read_text())
        baseline = HistoryAverage(
            {str(k): float(v) for k, v in document["baseline"]["by_product"].items()},
            float(document["baseline"]["overall"]),
        )
        common = {"segment": document["segment"], "kind": document["kind"], "horizon": int(document["horizon"])}
        if "feature_names" not in document:
            return TrainedModel(**common, baseline=baseline)
        with np.load(data / "arrays.npz") as archive:
            arrays = dict(archive)
    except (OSError, ValueError, KeyError) as error:
        raise _not_a_model(folder, error) from error
    lasso = Lasso(arrays["lasso_coefficients"], float(arrays["lasso_intercept"]), float(arrays["lasso_penalty"]))
    members = Members(lasso, Weights.from_arrays(arrays, "net"))
    return TrainedModel(
        **common, baseline=baseline, feature_names=tuple(document["feature_names"]),
        pooled_scaling=Scaling(arrays["pooled_mean"], arrays["pooled_spread"]),
        vocabulary=Vocabulary({name: tuple(values) for name, values in document["vocabulary"].items()}),
        # A model made before forecasts were pulled to whole numbers says nothing, and forecasts what it always did.
        ensemble=Ensemble(members, float(document["net_weight"]), bool(document.get("whole_units", False))),
    )


def segment_of(folder: Path) -> str:
    """Return the key that a model folder is of; raise IntegrityError if it is not one."""
    try:
        return str(json.loads((folder / "data/model.json").read_text())["segment"])
    except (OSError, ValueError, KeyError) as error:
        raise _not_a_model(folder, error) from error


def _not_a_model(folder: Path, error: Exception) -> IntegrityError:
    return IntegrityError(f"{folder} is not a model folder: {error}", field="models", file=str(folder))


def content_hash(folder: Path) -> str:
    """Return the SHA-256 over the files that decide forecasts: parameters and code."""
    digest = hashlib.sha256()
    for path in [*sorted((folder / "data").iterdir()), folder / CODE_ARCHIVE]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


@cache
def code_archive() -> bytes:
    """Return the library as a zip that Python imports from; equal code gives equal bytes."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in packed_files():
            archive.writestr(zipfile.ZipInfo(path.relative_to(ROOT).as_posix(), _EPOCH), path.read_bytes(),
                             compress_type=zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def packed_files() -> list[Path]:
    """Return the source files that travel with a model."""
    found = [path for pattern in PACKED for path in sorted(ROOT.glob(pattern))]
    return [path for path in found if path.name not in TRAINING_ONLY]


@cache
def code_hash() -> str:
    """Return the SHA-256 of all source that decides what a training makes."""
    digest = hashlib.sha256()
    for path in sorted({*packed_files(), *ROOT.glob("ml_jobs/forecasting/*.py"), *ROOT.glob("ml_jobs/*.py")}):
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _write_mlflow_files(model: TrainedModel, folder: Path) -> None:
    """Write MLmodel and the environment files that mlflow and Azure ML read."""
    version = platform.python_version()
    requirements = "".join(f"{line}\n" for line in SCORING_REQUIREMENTS)
    (folder / "requirements.txt").write_text(requirements)
    (folder / "python_env.yaml").write_text(
        f"python: {version}\nbuild_dependencies:\n- pip\ndependencies:\n- -r requirements.txt\n"
    )
    pip_lines = "".join(f"  - {line}\n" for line in SCORING_REQUIREMENTS)
    (folder / "conda.yaml").write_text(
        "name: shelfcast_scoring\nchannels:\n- conda-forge\n"
        f"dependencies:\n- python={version}\n- pip\n- pip:\n{pip_lines}"
    )
    inputs, outputs = _signature(model)
    (folder / "MLmodel").write_text(
        "flavors:\n  python_function:\n"
        f"    code: {CODE_ARCHIVE}\n    data: data\n"
        "    env:\n      conda: conda.yaml\n      virtualenv: python_env.yaml\n"
        f"    loader_module: ml_jobs.forecasting.pyfunc_model\n    python_version: {version}\n"
        f"model_uuid: {content_hash(folder)[:32]}\n"
        f"metadata:\n  segment: {model.segment}\n  kind: {model.kind}\n"
        f"signature:\n  inputs: '{_quoted(inputs)}'\n  outputs: '{_quoted(outputs)}'\n  params: null\n"
    )


def _signature(model: TrainedModel) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Return the columns that the model reads and gives."""
    inputs: list[Mapping[str, Any]] = [
        {"type": "string", "name": name, "required": name in ("store", "product")} for name in CATEGORIES
    ]
    if model.kind == ENSEMBLE and model.ensemble is not None:
        inputs += [{"type": "double", "name": name, "required": True} for name in model.feature_names]
    else:
        inputs.append({"type": "double", "name": "history_mean", "required": True})
    names = ("units",) if model.kind == BASELINE else ("units", "lasso_units", "embedding_net_units")
    return inputs, [{"type": "double", "name": name, "required": True} for name in names]


def _quoted(columns: list[Mapping[str, Any]]) -> str:
    return json.dumps(columns).replace("'", "''")
