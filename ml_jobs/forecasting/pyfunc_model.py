"""What mlflow.pyfunc loads: feature rows in, units out. The features come from the same library as in training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ml_jobs.forecasting import model_files
from ml_jobs.forecasting.features import CATEGORIES

if TYPE_CHECKING:
    import pandas as pd


class SegmentModel:
    """One trained model behind MLflow's `predict`."""

    def __init__(self, trained: model_files.TrainedModel) -> None:
        self._trained = trained

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Return units (and both members' units) for feature rows; `params` is part of MLflow's interface, unused."""
        del params
        import pandas as pd

        trained = self._trained
        if trained.ensemble is None:
            return pd.DataFrame({"units": model_input["history_mean"].to_numpy(dtype=np.float64)})
        assert trained.pooled_scaling is not None
        assert trained.vocabulary is not None
        values = model_input[list(trained.feature_names)].to_numpy(dtype=np.float32)
        texts = {
            name: [str(text) for text in model_input[name]] if name in model_input else [""] * len(model_input)
            for name in CATEGORIES
        }
        level = values[:, trained.feature_names.index("level")]
        units = trained.ensemble.forecast(trained.pooled_scaling, values, trained.vocabulary.codes(texts), level)
        return pd.DataFrame({
            "units": units["ensemble"], "lasso_units": units["lasso"], "embedding_net_units": units["embedding_net"],
        })


def _load_pyfunc(path: str) -> SegmentModel:
    """Load from the model's `data` folder; the name and the argument are MLflow's."""
    return SegmentModel(model_files.load(Path(path).parent))
