"""Transfer (R28): a training may start from the net of an earlier one, also of another scenario."""

from __future__ import annotations

from pathlib import Path

from domain.errors import BadRequest
from ml_jobs.forecasting import model_files
from ml_jobs.forecasting.embedding_net import STAGES, PooledNet


def parent_net(folder: Path) -> PooledNet:
    """Return the net to start from: of a pooled folder, of a models folder, or of one segment's model folder."""
    for place in (folder, folder / "pooled"):
        if (place / "pooled.json").is_file():
            return PooledNet.load(place)
    if (folder / "MLmodel").is_file():
        model = model_files.load(folder)
        if model.ensemble is not None and model.pooled_scaling is not None and model.vocabulary is not None:
            net = model.ensemble.members.net
            return PooledNet(
                model.feature_names, model.pooled_scaling, model.vocabulary, dict.fromkeys(STAGES, net),
                {"segment": model.segment, "model_hash": model_files.content_hash(folder)},
            )
    raise BadRequest(
        f"{folder} holds neither a pooled net nor an ensemble's model", field="init_from", value=str(folder),
        remedy="name an output of pretrain or train",
    )
