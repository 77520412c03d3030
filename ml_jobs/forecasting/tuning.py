"""Hyper-parameters of an ensemble that a sweep may choose, one set for each class of segments (R29)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from domain.errors import BadRequest


@dataclass(frozen=True)
class Tuning:
    """The defaults are what is used without a sweep."""

    prior_net_weight: float = 0.6  # what a segment with little evidence starts from
    prior_strength: float = 0.03  # objective points that the whole way from the prior weight to 0 or 1 must earn
    small_residual: float = 0.25  # log errors below this count as squared in the LASSO: no row weighs without bound

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Tuning:
        """Read a tuning; raise BadRequest for an unknown name or a value that is not between 0 and 10."""
        known = [field.name for field in fields(cls)]
        for name, value in data.items():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if name not in known or not number or not 0 <= value <= 10:
                raise BadRequest(f"{name}={value!r} is no tuning", field=name, value=value,
                                 remedy=f"give numbers from 0 to 10 for {', '.join(known)}")
        return cls(**data)

    def to_dict(self) -> dict[str, float]:
        """Return what from_dict reads."""
        return asdict(self)


DEFAULT = Tuning()


def class_of(key: str) -> str:
    """Return a segment's class: the last part of its key, velocity in the default scheme."""
    return key.rsplit("-", 1)[-1]


def read_tunings(path: Path) -> dict[str, Tuning]:
    """Return the best tuning of each class from a sweep's result; raise BadRequest if the file is none."""
    try:
        classes = json.loads(path.read_text("utf-8"))["classes"]
        return {name: Tuning.from_dict(found["best"]) for name, found in classes.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadRequest(f"{path} is not the result of a sweep: {error}", field="tuning", value=str(path),
                         remedy="name the sweep.json that ml_jobs.sweep wrote") from error
