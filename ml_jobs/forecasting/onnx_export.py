"""The ensemble as one ONNX graph: both members, their weights and the way back to units, for onnxruntime anywhere.

Built node by node from the stored arrays, so neither PyTorch nor an exporter is needed. Inputs: `features` (rows x
feature, single precision, as the library makes them) and `categories` (rows x category codes). Outputs: units per week.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from domain.errors import BadRequest
from ml_jobs.forecasting.embedding_net import Matrix, Weights
from ml_jobs.forecasting.features import CATEGORIES
from ml_jobs.forecasting.lasso import CLIP, Scaling
from ml_jobs.forecasting.model_files import TrainedModel
from ml_jobs.forecasting.objective import MAX_LOG, UNDECIDED

OPSET = 17
IR_VERSION = 9  # the newest that every onnxruntime since 1.16 reads


class _Graph:
    """Collects nodes and constants; every method returns the name of its result."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, name: str, value: Any, dtype: Any = np.float32) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype=dtype), name))
        return name

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=f"make_{output}", **attributes))
        return output


def export(model: TrainedModel, path: Path) -> Path:
    """Write the ensemble of a trained segment as ONNX; raise BadRequest for a model that has none."""
    if model.ensemble is None or model.pooled_scaling is None:
        raise BadRequest(f"{model.segment} has no ensemble to export", field="segment", value=model.segment)
    graph = _Graph()
    members = model.ensemble.members
    level_at = graph.constant("level_column", [model.feature_names.index("level")], np.int64)
    level = graph.node("Gather", ["features", level_at], "level", axis=1)
    scaled = _scaled(graph, model.pooled_scaling)
    linear = [
        graph.constant("lasso_weight", members.lasso.coefficients[:, None]),
        graph.constant("lasso_bias", [members.lasso.intercept]),
    ]
    ratios = [graph.node("Gemm", [scaled, *linear], "lasso_ratio"), _net_ratio(graph, members.net, scaled)]
    logs = graph.node("Add", [graph.node("Concat", ratios, "ratios", axis=1), level], "logs")
    share = model.ensemble.net_weight
    mixture = graph.constant("mixture", [[1.0 - share, 1.0, 0.0], [share, 0.0, 1.0]])
    units = _units(graph, graph.node("MatMul", [logs, mixture], "outputs_log"), whole=model.ensemble.whole_units)
    outputs = ["units", "lasso_units", "embedding_net_units"]
    graph.nodes.append(helper.make_node("Split", [units], outputs, name="make_outputs", axis=1))
    built = helper.make_model(
        helper.make_graph(
            graph.nodes, "shelfcast_ensemble",
            [
                helper.make_tensor_value_info("features", TensorProto.FLOAT, ["rows", len(model.feature_names)]),
                helper.make_tensor_value_info("categories", TensorProto.INT64, ["rows", len(CATEGORIES)]),
            ],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", 1]) for name in outputs],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)], producer_name="shelfcast", ir_version=IR_VERSION,
    )
    onnx.checker.check_model(built, full_check=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(built.SerializeToString(deterministic=True))
    return path


def _net_ratio(graph: _Graph, net: Weights, scaled: str) -> str:
    """Run the embedding net. All tables are one, so that a row's categories are a single look-up."""
    width = max(table.shape[1] for table in net.embeddings)
    table = np.concatenate([np.pad(own, ((0, 0), (0, width - own.shape[1]))) for own in net.embeddings])
    first = np.cumsum([0, *(len(own) for own in net.embeddings)])[:-1]
    places = graph.node("Add", ["categories", graph.constant("first_rows", first, np.int64)], "places")
    found = graph.node("Gather", [graph.constant("embeddings", table), places], "embedded", axis=0)
    flat = graph.node("Reshape", [found, graph.constant("flat", [-1, width * len(first)], np.int64)], "embedded_flat")
    state = graph.node("Concat", [scaled, flat], "net_input", axis=1)
    for depth, (weight, bias) in enumerate(net.layers):
        own = weight if depth else _spread(weight, [own.shape[1] for own in net.embeddings], width)
        names = [graph.constant(f"weight_{depth}", own), graph.constant(f"bias_{depth}", bias)]
        state = graph.node("Relu", [graph.node("Gemm", [state, *names], f"linear_{depth}")], f"hidden_{depth}")
    head = [graph.constant("head_weight", net.head[:, None]), graph.constant("head_bias", [net.head_bias])]
    return graph.node("Gemm", [state, *head], "net_ratio")


def _spread(weight: Matrix, dimensions: list[int], width: int) -> Matrix:
    """Return the first layer for embeddings of equal width: rows of zeros where a category has fewer dimensions."""
    at = len(weight) - sum(dimensions)
    parts = [weight[:at]]
    for own in dimensions:
        parts.append(np.pad(weight[at : at + own], ((0, width - own), (0, 0))))
        at += own
    return np.concatenate(parts)


def _scaled(graph: _Graph, scaling: Scaling) -> str:
    """Standardise and clip the features; NaN (a column that the data lacks) becomes the mean, zero."""
    centered = graph.node("Sub", ["features", graph.constant("mean", scaling.mean)], "centered")
    divided = graph.node("Div", [centered, graph.constant("spread", scaling.spread)], "divided")
    missing = graph.node("IsNaN", [divided], "missing")
    filled = graph.node("Where", [missing, graph.constant("zero", 0.0), divided], "filled")
    return graph.node("Clip", [filled, graph.constant("low", -CLIP), graph.constant("high", CLIP)], "scaled")


def _units(graph: _Graph, logs: str, *, whole: bool) -> str:
    """Turn log1p units into units, never below zero, and pull them to whole numbers: `objective.to_units` as nodes."""
    capped = graph.node("Min", [logs, graph.constant("cap", MAX_LOG)], "capped")
    grown = graph.node("Sub", [graph.node("Exp", [capped], "exp"), graph.constant("one", 1.0)], "grown")
    units = graph.node("Relu", [grown], "smooth")
    if not whole:
        return units
    lower = graph.node("Floor", [units], "lower")
    rest = graph.node("Sub", [units, lower], "rest")
    past = graph.node("Sub", [rest, graph.constant("ramp_begin", 0.5 - UNDECIDED / 2)], "past")
    share = graph.node("Div", [past, graph.constant("ramp", UNDECIDED)], "share")
    pulled = graph.node("Clip", [share, graph.constant("none", 0.0), graph.constant("full", 1.0)], "pulled")
    return graph.node("Add", [lower, pulled], "all_units")
