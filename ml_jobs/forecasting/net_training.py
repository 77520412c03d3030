"""Training the pooled embedding net with PyTorch: one net for all segments, at three origins.

The target is the log ratio of a week's units to the series' recent level, the loss the absolute error of the log, each
row weighed by what an error in it costs (`objective`): a weighted median does not depend on the scale that it is
sought on, so the net seeks the very forecast that the choices of a training prefer.
"""

from __future__ import annotations

import math
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
from ml_jobs.forecasting.objective import percentage_rate, row_costs, typical_sale
from ml_jobs.forecasting.panel import Panel
from ml_jobs.forecasting.tables import FloatArray
from ml_jobs.forecasting.windows import Origins


@dataclass(frozen=True)
class Effort:
    """How much work a training may do; `standard` is for production, `quick` for checks on a developer's machine."""

    epochs: int
    rows: int
    weeks: int
    hidden: tuple[int, ...]


EFFORTS = {
    "standard": Effort(epochs=4, rows=500_000, weeks=rows.LEARNED_WEEKS, hidden=(64, 32)),
    "quick": Effort(epochs=2, rows=60_000, weeks=78, hidden=(32, 16)),
}
LEARNING_RATE = 4e-3
REPLAY = 3  # older rows seen again for each new one, when the net moves on to a later origin
STEPS = 100  # an epoch, at least
SEEN_ROWS = 600_000  # times seen, all epochs together: what few rows teach in four epochs, many teach in two
FEWEST_EPOCHS = 2
WARM_SHARE, START_SHARE = 0.2, 0.04  # the rate rises over the first fifth of the steps, from this share of its peak
WEIGHT_DECAY = 1.0  # decoupled, times the learning rate; strong, because demand of small counts is mostly noise
MEAN_DECAY, SQUARE_DECAY, EPSILON = 0.9, 0.999, 1e-8  # Adam's usual ones


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
        self.head = nn.Linear(hidden[-1], 1)
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
        """Return the log ratio of each row."""
        state = torch.cat([scaled, *(table(codes[:, i]) for i, table in enumerate(self.embeddings))], dim=1)
        for layer in self.layers:
            state = torch.relu(layer(state))
        return torch.as_tensor(self.head(state)[:, 0])


def embedding_width(size: int) -> int:
    """Return the dimensions that a category with `size` codes gets."""
    return int(min(8, 1 + size // 4))


def training_rows(panel: Panel, groups: features.Groups, effort: str, seed: int) -> rows.Rows:
    """Return the rows that a pooled net of this effort learns from."""
    work = EFFORTS[effort]
    return rows.collect(panel, groups, np.arange(panel.series), window=work.weeks, limit=work.rows, seed=seed)


def pretrain(
    panel: Panel, chosen: rows.Rows, origins: Origins, *, effort: str, seed: int, parent: PooledNet | None = None
) -> PooledNet:
    """Train the pooled net on the chosen rows up to each origin in turn, each continuing from the one before it.

    With a `parent` the first origin starts from its parameters, matched by feature name and category text; what the
    parent does not know starts afresh. Same input, seed and machine give the same parameters to the bit.
    """
    work = EFFORTS[effort]
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    texts = features.category_texts(panel)
    vocabulary = Vocabulary.of(texts)
    early = chosen.week < origins.choose
    scaling = Scaling.of(chosen.values[early] if early.any() else chosen.values)
    hidden = work.hidden if parent is None else tuple(len(bias) for _, bias in parent.stages["final"].layers)
    net = _Net(len(chosen.names), vocabulary.sizes, hidden)
    if parent is not None:
        _inherit(net, parent, chosen.names, vocabulary)
    usable = np.flatnonzero(early) if early.any() else np.arange(len(chosen.week))
    sale = typical_sale(chosen.units[usable])
    rate = percentage_rate(chosen.units[usable], np.expm1(chosen.level[usable]))
    data = _Data(chosen, scaling, vocabulary.codes(texts)[chosen.series], row_costs(chosen.units, sale, rate))
    generator = np.random.default_rng(seed)
    stages: dict[str, Weights] = {}
    epochs = int(np.clip(SEEN_ROWS // max(len(usable), 1), FEWEST_EPOCHS, work.epochs))
    _fit(net, data, usable, generator, epochs=epochs)
    stages[STAGES[0]] = _exported(net)
    steps = ((origins.choose, origins.judge), (origins.judge, panel.weeks))
    for stage, (begin, end) in zip(STAGES[1:], steps, strict=True):
        new = np.flatnonzero((chosen.week >= begin) & (chosen.week < end))
        old = generator.permutation(np.flatnonzero(chosen.week < begin))[: REPLAY * len(new)]
        _fit(net, data, np.concatenate([new, old]), generator, epochs=1)
        stages[stage] = _exported(net)
    facts = {
        "cutoff": str(panel.cutoff), "effort": effort, "seed": seed, "typical_sale": sale, "percentage_rate": rate,
        "rows": len(chosen.week), "series": panel.series, "weeks": panel.weeks, "horizon": panel.horizon,
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
        net.head.weight[0] = torch.from_numpy(weights.head.copy())
        net.head.bias[0] = weights.head_bias


class _Data:
    """Training rows as tensors."""

    def __init__(
        self, chosen: rows.Rows, scaling: Scaling, codes: np.ndarray[Any, np.dtype[np.int64]], costs: FloatArray
    ) -> None:
        self.scaled = torch.from_numpy(scaling.apply(chosen.values))
        self.codes = torch.from_numpy(codes)
        self.target = torch.from_numpy(np.log1p(chosen.units) - chosen.level)
        self.cost = torch.from_numpy((costs * (len(costs) / max(costs.sum(), 1.0))).astype(np.float32))



def _fit(
    net: _Net, data: _Data, usable: np.ndarray[Any, np.dtype[np.int64]], generator: np.random.Generator, *,
    epochs: int,
) -> None:
    """Run AdamW with a one-cycle rate over shuffled batches; about a hundred steps an epoch or more."""
    batch = int(np.clip(2 ** int(np.log2(max(len(usable) / STEPS, 1))), 64, 2048))
    steps = max(1, len(usable) // batch)
    optimizer = _AdamW(list(net.parameters()))
    for epoch in range(epochs):
        order = torch.from_numpy(generator.permutation(usable))
        for step in range(steps):
            index = order[step * batch : (step + 1) * batch]
            error = net(data.scaled[index], data.codes[index]) - data.target[index]
            rate = LEARNING_RATE * cycle((epoch + step / steps) / epochs)
            optimizer.step((error.abs() * data.cost[index]).mean(), rate)


def cycle(done: float) -> float:
    """Return the share of the peak rate after a share of all steps: up and down again along half waves."""
    if done < WARM_SHARE:
        return START_SHARE + (1.0 - START_SHARE) * 0.5 * (1.0 - math.cos(math.pi * done / WARM_SHARE))
    return 0.5 * (1.0 + math.cos(math.pi * (done - WARM_SHARE) / (1.0 - WARM_SHARE)))


class _AdamW:
    """AdamW (Adam with decoupled weight decay). PyTorch's own loads its compiler, seconds of CPU in every job."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self._parameters = parameters
        self._means = [torch.zeros_like(parameter) for parameter in parameters]
        self._squares = [torch.zeros_like(parameter) for parameter in parameters]
        self._steps = 0

    def step(self, loss: torch.Tensor, rate: float) -> None:
        """Move every parameter down the loss's gradient."""
        gradients = torch.autograd.grad(loss, self._parameters)
        self._steps += 1
        size = rate / (1.0 - MEAN_DECAY**self._steps)
        bias = 1.0 - SQUARE_DECAY**self._steps
        with torch.no_grad():
            for parameter, gradient, mean, square in zip(
                self._parameters, gradients, self._means, self._squares, strict=True
            ):
                mean.lerp_(gradient, 1.0 - MEAN_DECAY)
                square.mul_(SQUARE_DECAY).addcmul_(gradient, gradient, value=1.0 - SQUARE_DECAY)
                parameter.mul_(1.0 - rate * WEIGHT_DECAY)
                parameter.addcdiv_(mean, (square / bias).sqrt_().add_(EPSILON), value=-size)


def _exported(net: _Net) -> Weights:
    """Copy the parameters out as float32 arrays."""

    def array(tensor: torch.Tensor) -> np.ndarray[Any, np.dtype[np.float32]]:
        return np.ascontiguousarray(tensor.detach().numpy().astype(np.float32))

    tables = tuple(array(parameter) for parameter in net.embeddings.parameters())
    layers = []
    for depth in range(len(net.layers)):
        layer = net.linear(depth)
        layers.append((array(layer.weight.T), array(layer.bias)))
    return Weights(tables, tuple(layers), array(net.head.weight[0]), float(array(net.head.bias)[0]))
