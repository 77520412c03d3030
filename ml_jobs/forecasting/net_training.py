"""Training the pooled embedding net with PyTorch: one net for all segments, at three origins.

The target is the log ratio of a week's units to the series' recent level. The net has two last layers while it
learns: one minimises the absolute error of the log (what orders feel: its minimiser is the median), the other adds the
absolute percentage error (what the acceptance gate reads). Pure MAPE would buy its figure with forecasts that are 40 %
too low, the median alone leaves cheap MAPE on the table. How much of the second layer is mixed in is chosen once per
training, on weeks that neither has seen, at a fixed rate of exchange; both being linear, one last layer leaves the
training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from ml_jobs.forecasting import features, rows
from ml_jobs.forecasting.embedding_net import STAGES, PooledNet, Vocabulary, Weights
from ml_jobs.forecasting.features import CATEGORIES
from ml_jobs.forecasting.lasso import Scaling
from ml_jobs.forecasting.objective import MAX_LOG, objective, to_units
from ml_jobs.forecasting.panel import Panel
from ml_jobs.forecasting.windows import Origins

PERCENTAGE_SHARE = 0.3  # of the absolute percentage error in the second layer's loss
MIXTURES = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Effort:
    """How much work a training may do; `standard` is for production, `quick` for checks on a developer's machine."""

    epochs: int
    update_epochs: int
    rows: int
    weeks: int
    hidden: tuple[int, ...]


EFFORTS = {
    "standard": Effort(epochs=3, update_epochs=1, rows=400_000, weeks=156, hidden=(64, 32)),
    "quick": Effort(epochs=2, update_epochs=1, rows=60_000, weeks=78, hidden=(32, 16)),
}
LEARNING_RATE = 4e-3
UPDATE_RATE = 1e-3
SHORTEST_CYCLE = 10  # steps; PyTorch divides by zero where a fifth of the cycle is a single one
WEIGHT_DECAY = 1.0  # decoupled, times the learning rate; strong, because demand of small counts is mostly noise


class _Net(nn.Module):
    """Embeddings beside the scaled features, hidden layers with ReLU, one output: the log ratio."""

    def __init__(self, width: int, sizes: Sequence[int], hidden: Sequence[int]) -> None:
        super().__init__()
        dimensions = [embedding_width(size) for size in sizes]
        self.embeddings = nn.ModuleList(
            nn.Embedding(size, dimension, padding_idx=0) for size, dimension in zip(sizes, dimensions, strict=True)
        )
        for category in range(len(dimensions)):
            table = self.table(category)
            nn.init.normal_(table.weight, std=0.05)
            with torch.no_grad():
                table.weight[0] = 0.0
        inputs = [width + sum(dimensions), *hidden[:-1]]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(inputs, hidden, strict=True))
        self.head = nn.Linear(hidden[-1], 2)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def table(self, category: int) -> nn.Embedding:
        """Return the embedding of a category."""
        table = self.embeddings[category]
        assert isinstance(table, nn.Embedding)
        return table

    def linear(self, depth: int) -> nn.Linear:
        """Return a hidden layer."""
        layer = self.layers[depth]
        assert isinstance(layer, nn.Linear)
        return layer

    def forward(self, scaled: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """Return the log ratio of each row by both last layers."""
        state = torch.cat([scaled, *(table(codes[:, i]) for i, table in enumerate(self.embeddings))], dim=1)
        for layer in self.layers:
            state = torch.relu(layer(state))
        return torch.as_tensor(self.head(state))


def embedding_width(size: int) -> int:
    """Return the dimensions that a category with `size` codes gets."""
    return int(min(8, 1 + size // 4))


def pretrain(
    panel: Panel, groups: features.Groups, origins: Origins, *, effort: str, seed: int, parent: PooledNet | None = None
) -> PooledNet:
    """Train the pooled net up to each origin in turn, each continuing from the one before it.

    With a `parent` the first origin starts from its parameters, matched by feature name and category text; what the
    parent does not know starts afresh. Same input, seed and machine give the same parameters to the bit.
    """
    work = EFFORTS[effort]
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    chosen = rows.collect(
        panel, groups, np.arange(panel.series), window=work.weeks, limit=work.rows, seed=seed
    )
    texts = features.category_texts(panel)
    vocabulary = Vocabulary.of(texts)
    early = chosen.week < origins.choose
    scaling = Scaling.of(chosen.values[early] if early.any() else chosen.values)
    hidden = work.hidden if parent is None else tuple(len(bias) for _, bias in parent.stages["final"].layers)
    net = _Net(len(chosen.names), vocabulary.sizes, hidden)
    if parent is not None:
        _inherit(net, parent, chosen.names, vocabulary)
    data = _Data(chosen, scaling, vocabulary.codes(texts)[chosen.series])
    generator = np.random.default_rng(seed)
    stages: dict[str, Weights] = {}
    mixture = 0.0
    for stage, end in zip(STAGES, (origins.choose, origins.judge, panel.weeks), strict=True):
        first = stage == STAGES[0]
        usable = np.flatnonzero(chosen.week < end)
        _fit(
            net, data, usable if len(usable) else np.arange(len(chosen.week)), generator,
            epochs=work.epochs if first else work.update_epochs, rate=LEARNING_RATE if first else UPDATE_RATE,
        )
        if first:
            unseen = (chosen.week >= origins.choose) & (chosen.week < origins.judge)
            mixture = _mixture(net, data, np.flatnonzero(unseen))
        stages[stage] = _exported(net, mixture)
    facts = {
        "cutoff": str(panel.cutoff), "effort": effort, "seed": seed, "mixture": mixture, "rows": len(chosen.week),
        "series": panel.series, "weeks": panel.weeks, "horizon": panel.horizon,
        "choose_before": str(panel.week_at(origins.choose)), "judge_before": str(panel.week_at(origins.judge)),
        "parent": dict(parent.facts) if parent is not None else None,
        "versions": {"torch": str(torch.__version__), "numpy": np.__version__},
    }
    return PooledNet(chosen.names, scaling, vocabulary, stages, facts)


def _inherit(net: _Net, parent: PooledNet, names: tuple[str, ...], vocabulary: Vocabulary) -> None:
    """Copy the parent's final parameters, input rows and embedding rows matched by name.

    Inputs are scaled by this data's own mean and spread, so the parent's weights read "spreads from the mean" in both.
    """
    weights = parent.stages["final"]
    old_columns = {name: i for i, name in enumerate(parent.feature_names)}
    with torch.no_grad():
        for i, category in enumerate(CATEGORIES):
            table = net.table(i).weight
            ranks = {value: rank + 1 for rank, value in enumerate(parent.vocabulary.values[category])}
            width = min(table.shape[1], weights.embeddings[i].shape[1])
            for row, value in enumerate(vocabulary.values[category], start=1):
                if value in ranks:
                    own = torch.from_numpy(weights.embeddings[i][ranks[value], :width].copy())
                    table[row, :width] = own
        for depth, (weight, bias) in enumerate(weights.layers):
            layer = net.linear(depth)
            layer.bias.copy_(torch.from_numpy(bias.copy()))
            if depth:
                layer.weight.copy_(torch.from_numpy(weight.T.copy()))
                continue
            for column, name in enumerate(names):
                if name in old_columns:
                    layer.weight[:, column] = torch.from_numpy(weight[old_columns[name]].copy())
            at, old_at = len(names), len(parent.feature_names)
            for i in range(len(CATEGORIES)):
                width, old_width = net.table(i).weight.shape[1], weights.embeddings[i].shape[1]
                shared = min(width, old_width)
                layer.weight[:, at : at + shared] = torch.from_numpy(weight[old_at : old_at + shared].T.copy())
                at, old_at = at + width, old_at + old_width
        for head in range(2):
            net.head.weight[head] = torch.from_numpy(weights.head.copy())
            net.head.bias[head] = weights.head_bias


class _Data:
    """Training rows as tensors."""

    def __init__(self, chosen: rows.Rows, scaling: Scaling, codes: np.ndarray[Any, np.dtype[np.int64]]) -> None:
        self.scaled = torch.from_numpy(scaling.apply(chosen.values))
        self.codes = torch.from_numpy(codes)
        self.level = torch.from_numpy(chosen.level)
        self.units = torch.from_numpy(chosen.units)
        self.logs = torch.log1p(self.units)


def _fit(
    net: _Net, data: _Data, usable: np.ndarray[Any, np.dtype[np.int64]], generator: np.random.Generator, *,
    epochs: int, rate: float,
) -> None:
    """Run AdamW with a one-cycle rate over shuffled batches; about two hundred steps an epoch or more."""
    batch = int(np.clip(2 ** int(np.log2(max(len(usable) / 200, 1))), 64, 2048))
    steps = max(1, len(usable) // batch)
    optimizer = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=WEIGHT_DECAY)
    total = max(epochs * steps + 1, SHORTEST_CYCLE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=total, pct_start=0.2)
    for _ in range(epochs):
        order = generator.permutation(usable)
        for step in range(steps):
            index = torch.from_numpy(order[step * batch : (step + 1) * batch])
            loss = _loss(net(data.scaled[index], data.codes[index]) + data.level[index, None], data, index)
            optimizer.zero_grad()
            torch.autograd.backward([loss])
            optimizer.step()
            schedule.step()


def _loss(logs: torch.Tensor, data: _Data, index: torch.Tensor) -> torch.Tensor:
    units = data.units[index]
    positive = units > 0
    medians = (logs - data.logs[index, None]).abs().mean()
    share = (torch.expm1(logs[:, 1].clamp(max=MAX_LOG)) - units).abs() / units.clamp(min=0.1)
    return 2.0 * medians + PERCENTAGE_SHARE * (share * positive).sum() / positive.sum().clamp(min=1)


def _mixture(net: _Net, data: _Data, window: np.ndarray[Any, np.dtype[np.int64]]) -> float:
    """Return the share of the second layer that does best on the given rows."""
    if not len(window):
        return 0.0
    index = torch.from_numpy(window)
    with torch.no_grad():
        logs = (net(data.scaled[index], data.codes[index]) + data.level[index, None]).double().numpy()
    actual = data.units[index].double().numpy()
    return float(min(
        MIXTURES, key=lambda share: objective(actual, to_units((1.0 - share) * logs[:, 0] + share * logs[:, 1]))
    ))


def _exported(net: _Net, mixture: float) -> Weights:
    """Copy the parameters out as float32 arrays, the two last layers mixed into one."""

    def array(tensor: torch.Tensor) -> np.ndarray[Any, np.dtype[np.float32]]:
        return np.ascontiguousarray(tensor.detach().numpy().astype(np.float32))

    tables = tuple(array(parameter) for parameter in net.embeddings.parameters())
    layers = []
    for depth in range(len(net.layers)):
        layer = net.linear(depth)
        layers.append((array(layer.weight.T), array(layer.bias)))
    shares = np.array([1.0 - mixture, mixture], dtype=np.float32)
    bias = float(np.float32(shares @ array(net.head.bias)))
    return Weights(tables, tuple(layers), shares @ array(net.head.weight), bias)
