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
    parts = [scaled]
    for i, name in enumerate(CATEGORIES):
        column = graph.node(
            "Gather", ["categories", graph.constant(f"{name}_column", i, np.int64)], f"{name}_codes", axis=1
        )
        table = graph.constant(f"{name}_table", members.net.embeddings[i])
        parts.append(graph.node("Gather", [table, column], f"{name}_embedded", axis=0))
    state = graph.node("Concat", parts, "net_input", axis=1)
    for depth, (weight, bias) in enumerate(members.net.layers):
        names = [graph.constant(f"weight_{depth}", weight), graph.constant(f"bias_{depth}", bias)]
        state = graph.node("Relu", [graph.node("Gemm", [state, *names], f"linear_{depth}")], f"hidden_{depth}")
    head = [
        graph.constant("head_weight", members.net.head[:, None]), graph.constant("head_bias", [members.net.head_bias])
    ]
    net = graph.node("Add", [level, graph.node("Gemm", [state, *head], "net_ratio")], "net_log")
    linear = [
        graph.constant("lasso_weight", members.lasso.coefficients[:, None]),
        graph.constant("lasso_bias", [members.lasso.intercept]),
    ]
    lasso = graph.node("Add", [level, graph.node("Gemm", [scaled, *linear], "lasso_ratio")], "lasso_log")
    share = graph.constant("net_share", [model.ensemble.net_weight])
    rest = graph.constant("lasso_share", [1.0 - model.ensemble.net_weight])
    both = graph.node(
        "Add", [graph.node("Mul", [net, share], "net_part"), graph.node("Mul", [lasso, rest], "lasso_part")], "log"
    )
    whole = model.ensemble.whole_units
    outputs = [
        _units(graph, logs, name, whole=whole)
        for logs, name in ((both, "units"), (lasso, "lasso_units"), (net, "embedding_net_units"))
    ]
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


def _scaled(graph: _Graph, scaling: Scaling) -> str:
    """Standardise and clip the features; NaN (a column that the data lacks) becomes the mean, zero."""
    centered = graph.node("Sub", ["features", graph.constant("mean", scaling.mean)], "centered")
    divided = graph.node("Div", [centered, graph.constant("spread", scaling.spread)], "divided")
    missing = graph.node("IsNaN", [divided], "missing")
    filled = graph.node("Where", [missing, graph.constant("zero", 0.0), divided], "filled")
    return graph.node("Clip", [filled, graph.constant("low", -CLIP), graph.constant("high", CLIP)], "scaled")


def _units(graph: _Graph, logs: str, name: str, *, whole: bool) -> str:
    """Turn log1p units into units, never below zero, and pull them to whole numbers: `objective.to_units` as nodes."""
    capped = graph.node("Min", [logs, graph.constant(f"{name}_cap", MAX_LOG)], f"{name}_capped")
    grown = graph.node("Sub", [graph.node("Exp", [capped], f"{name}_exp"), graph.constant(f"{name}_one", 1.0)],
                       f"{name}_grown")
    if not whole:
        return graph.node("Relu", [grown], name)
    units = graph.node("Relu", [grown], f"{name}_smooth")
    lower = graph.node("Floor", [units], f"{name}_lower")
    rest = graph.node("Sub", [units, lower], f"{name}_rest")
    middle = graph.node("Sub", [rest, graph.constant(f"{name}_middle", 0.5 - UNDECIDED / 2)], f"{name}_past")
    share = graph.node("Div", [middle, graph.constant(f"{name}_ramp", UNDECIDED)], f"{name}_share")
    bounds = [graph.constant(f"{name}_none", 0.0), graph.constant(f"{name}_full", 1.0)]
    return graph.node("Add", [lower, graph.node("Clip", [share, *bounds], f"{name}_pulled")], name)
