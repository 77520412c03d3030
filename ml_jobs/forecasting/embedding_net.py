"""The embedding net as arrays: categorical embeddings and two hidden layers, run forward by NumPy.

Training needs PyTorch (`net_training`); whoever only scores or calibrates does not, and starts in a tenth of the time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from domain.errors import IntegrityError
from ml_jobs.forecasting.features import CATEGORIES
from ml_jobs.forecasting.lasso import Scaling
from ml_jobs.forecasting.tables import IntArray

Matrix = np.ndarray[Any, np.dtype[np.float32]]
UNKNOWN_CODE = 0


@dataclass(frozen=True)
class Vocabulary:
    """Text categories to codes, 0 for anything that training had not seen."""

    values: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, texts: Mapping[str, list[str]]) -> Vocabulary:
        """Number the distinct texts of each category in sorted order."""
        return cls({name: tuple(sorted(set(texts[name]))) for name in CATEGORIES})

    @property
    def sizes(self) -> list[int]:
        """Codes per category, the unknown one included."""
        return [len(self.values[name]) + 1 for name in CATEGORIES]

    def codes(self, texts: Mapping[str, list[str]]) -> IntArray:
        """Return rows x categories codes."""
        columns = []
        for name in CATEGORIES:
            ranks = {value: rank + 1 for rank, value in enumerate(self.values[name])}
            columns.append(np.array([ranks.get(value, UNKNOWN_CODE) for value in texts[name]], dtype=np.int64))
        return np.stack(columns, axis=1)


@dataclass(frozen=True)
class Weights:
    """Parameters of one trained net; `head` (last layer) is what a segment re-tunes."""

    embeddings: tuple[Matrix, ...]
    layers: tuple[tuple[Matrix, Matrix], ...]
    head: Matrix
    head_bias: float

    def hidden(self, scaled: Matrix, codes: IntArray) -> Matrix:
        """Return the activations of the last hidden layer."""
        parts = [scaled] + [table[codes[:, i]] for i, table in enumerate(self.embeddings)]
        state = np.concatenate(parts, axis=1)
        for weight, bias in self.layers:
            state = np.maximum(state @ weight + bias, np.float32(0.0))
        return np.asarray(state)

    def ratio(self, hidden: Matrix) -> Matrix:
        """Return the log ratio to the recent level."""
        return np.asarray(hidden @ self.head + np.float32(self.head_bias), dtype=np.float32)

    def with_head(self, head: Matrix, bias: float) -> Weights:
        """Return the net with another last layer."""
        return replace(self, head=head.astype(np.float32), head_bias=float(np.float32(bias)))

    def arrays(self, prefix: str) -> dict[str, Any]:
        """Return the parameters as named arrays."""
        named: dict[str, Any] = {f"{prefix}.embedding{i}": table for i, table in enumerate(self.embeddings)}
        for i, (weight, bias) in enumerate(self.layers):
            named[f"{prefix}.weight{i}"], named[f"{prefix}.bias{i}"] = weight, bias
        named[f"{prefix}.head"], named[f"{prefix}.head_bias"] = self.head, np.float32(self.head_bias)
        return named

    @classmethod
    def from_arrays(cls, named: Mapping[str, Any], prefix: str) -> Weights:
        """Read what `arrays` named; raise IntegrityError if something is missing."""
        try:
            embeddings = tuple(named[f"{prefix}.embedding{i}"] for i in range(len(CATEGORIES)))
            layers: list[tuple[Matrix, Matrix]] = []
            while f"{prefix}.weight{len(layers)}" in named:
                i = len(layers)
                layers.append((named[f"{prefix}.weight{i}"], named[f"{prefix}.bias{i}"]))
            return cls(embeddings, tuple(layers), named[f"{prefix}.head"], float(named[f"{prefix}.head_bias"]))
        except KeyError as error:
            raise IntegrityError(f"the net {prefix!r} lacks {error}", field=str(error)) from error


STAGES = ("choose", "judge", "final")


@dataclass(frozen=True)
class PooledNet:
    """One net over all segments, trained up to three origins: to choose with, to judge with, and the final one.

    `ends` are week indices relative to `first_week`: stage s saw target weeks before ends[s] only.
    """

    feature_names: tuple[str, ...]
    scaling: Scaling
    vocabulary: Vocabulary
    stages: Mapping[str, Weights]
    facts: Mapping[str, Any]

    def save(self, folder: Path) -> None:
        """Write `pooled.npz` and `pooled.json`; equal content gives equal bytes."""
        folder.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = {"mean": self.scaling.mean, "spread": self.scaling.spread}
        for stage, weights in self.stages.items():
            arrays.update(weights.arrays(stage))
        np.savez(folder / "pooled.npz", **arrays)
        document = {
            "schema": "shelfcast.pooled_net/1", "feature_names": list(self.feature_names),
            "vocabulary": {name: list(values) for name, values in self.vocabulary.values.items()}, **self.facts,
        }
        (folder / "pooled.json").write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")

    @classmethod
    def load(cls, folder: Path) -> PooledNet:
        """Read a saved net; raise IntegrityError if the folder does not hold one."""
        try:
            document = json.loads((folder / "pooled.json").read_text())
            with np.load(folder / "pooled.npz") as archive:
                arrays = dict(archive)
        except (OSError, ValueError) as error:
            raise IntegrityError(f"{folder} holds no pooled net: {error}", field="pooled") from error
        vocabulary = Vocabulary({name: tuple(values) for name, values in document.pop("vocabulary").items()})
        names = tuple(document.pop("feature_names"))
        stages = {stage: Weights.from_arrays(arrays, stage) for stage in STAGES}
        return cls(names, Scaling(arrays["mean"], arrays["spread"]), vocabulary, stages, document)
