"""`python -m ml_jobs.export_onnx --models DIR`: write `model.onnx` beside every ensemble's model and check it.

Each graph is run on random feature rows and held to the native forward pass; the speed of both is printed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from domain.errors import IntegrityError, ShelfcastError
from ml_jobs.failure import explained

TOLERANCE = 1e-4  # relative to max(1, units): single precision against double
ROWS = 200  # about one store's assortment


def main(arguments: list[str] | None = None) -> int:
    """Export every ensemble of the folder; return 1 if one of them differs from its native model."""
    parser = argparse.ArgumentParser(prog="ml_jobs.export_onnx", description=__doc__)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--segments", default="", help="comma-separated keys; default: every ensemble")
    options = parser.parse_args(arguments)
    from ml_jobs.forecasting import scoring

    wanted = {part for part in options.segments.split(",") if part}
    try:
        for key, folder in scoring.model_folders(options.models).items():
            if not wanted or key in wanted:
                print(json.dumps({"segment": key, **export_and_check(folder)}))
    except ShelfcastError as error:
        print(explained("export", error), file=sys.stderr)
        return 1
    return 0


def export_and_check(folder: Path) -> dict[str, object]:
    """Write `model.onnx` in a model folder; return the largest difference and the speed of both.

    Raises IntegrityError if the graph and the native model differ by more than the tolerance.
    """
    import numpy as np

    from ml_jobs.forecasting import model_files, onnx_export

    model = model_files.load(folder)
    if model.ensemble is None or model.pooled_scaling is None or model.vocabulary is None:
        return {"exported": False, "reason": "no ensemble"}
    path = onnx_export.export(model, folder / "model.onnx")
    generator = np.random.default_rng(0)
    spread = model.pooled_scaling.spread
    values = (model.pooled_scaling.mean + spread * generator.standard_normal((ROWS, len(spread)))).astype(np.float32)
    codes = np.stack([generator.integers(0, size, ROWS) for size in model.vocabulary.sizes], axis=1)
    level = values[:, model.feature_names.index("level")]
    onnxruntime: Any = importlib.import_module("onnxruntime")  # its stubs hide what it exports
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feed = {"features": values, "categories": codes}
    graph_units = np.asarray(session.run(["units"], feed)[0])[:, 0]
    ensemble, scaling = model.ensemble, model.pooled_scaling
    native = ensemble.forecast(scaling, values, codes, level)["ensemble"]
    difference = float(np.max(np.abs(graph_units - native) / np.maximum(native, 1.0)))
    if not difference <= TOLERANCE:
        raise IntegrityError(f"{model.segment}: the ONNX graph differs by {difference}", field="onnx", value=difference)
    native_seconds = _best(lambda: ensemble.forecast(scaling, values, codes, level))
    graph_seconds = _best(lambda: session.run(["units"], feed))
    return {
        "exported": True, "difference": difference, "rows": ROWS, "native_ms": round(native_seconds * 1e3, 3),
        "onnx_ms": round(graph_seconds * 1e3, 3), "ratio": round(native_seconds / graph_seconds, 2),
    }


def _best(call: Callable[[], object], repeats: int = 30) -> float:
    """Return the seconds of the quickest of some calls."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return min(times)


if __name__ == "__main__":
    sys.exit(main())
