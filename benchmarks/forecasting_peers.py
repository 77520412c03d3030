"""The peers' side of benchmarks/forecasting.py; runs in an environment of its own (see requirements.txt beside it).

Reads panel.csv (unique_id, ds, y, display, mailer, store, product, region, store_format), forecasts every origin one
week ahead and writes forecasts.csv (engine, unique_id, ds, units) and seconds.json (CPU seconds, all origins).
Started with OMP_NUM_THREADS=1 and NIXTLA_ID_AS_COL=1.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import lightgbm as lgb
import numpy as np
import pandas as pd
from mlforecast import MLForecast
from mlforecast.lag_transforms import ExpandingMean, RollingMean
from mlforecast.target_transforms import GlobalSklearnTransformer
from sklearn.preprocessing import FunctionTransformer
from statsforecast import StatsForecast
from statsforecast.models import AutoETS

STATIC = ["store", "product", "region", "store_format"]
KNOWN = ["display", "mailer"]


def lightgbm(panel: pd.DataFrame, origin: int, *, objective: str, logs: bool) -> pd.DataFrame:
    history, future = panel[panel.ds < origin], panel[panel.ds == origin]
    booster = lgb.LGBMRegressor(
        objective=objective, n_estimators=300, learning_rate=0.06, num_leaves=63, min_child_samples=50,
        subsample=0.7, subsample_freq=1, colsample_bytree=0.7, n_jobs=1, verbosity=-1, random_state=7,
    )
    transforms = [GlobalSklearnTransformer(FunctionTransformer(np.log1p, np.expm1))] if logs else None
    model = MLForecast(
        booster, freq=1, lags=[1, 2, 3, 4, 8], target_transforms=transforms, num_threads=1,
        lag_transforms={1: [RollingMean(4, 1), RollingMean(8, 1), RollingMean(26, 1), ExpandingMean()]},
    )
    model.fit(history, static_features=STATIC)
    known = history.unique_id.unique()
    found = model.predict(1, X_df=future[future.unique_id.isin(known)][["unique_id", "ds", *KNOWN]])
    return found.rename(columns={"LGBMRegressor": "units"})[["unique_id", "ds", "units"]]


def auto_ets(panel: pd.DataFrame, origin: int) -> pd.DataFrame:
    history = panel[panel.ds < origin][["unique_id", "ds", "y"]]
    found = StatsForecast([AutoETS(season_length=1, model="ZZN")], freq=1, n_jobs=1).forecast(df=history, h=1)
    return found.rename(columns={"AutoETS": "units"})[["unique_id", "ds", "units"]]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--origins", required=True)
    parser.add_argument("--engines", default="lightgbm_l1,lightgbm_log,auto_ets")
    options = parser.parse_args()
    panel = pd.read_csv(options.folder / "panel.csv", dtype=dict.fromkeys(STATIC, "category"))
    engines = {
        "lightgbm_l1": lambda origin: lightgbm(panel, origin, objective="regression_l1", logs=False),
        "lightgbm_log": lambda origin: lightgbm(panel, origin, objective="regression", logs=True),
        "auto_ets": lambda origin: auto_ets(panel, origin),
    }
    parts, seconds = [], {}
    for name in options.engines.split(","):
        began = time.process_time()
        for origin in (int(text) for text in options.origins.split(",")):
            parts.append(engines[name](origin).assign(engine=name))
        seconds[name] = round(time.process_time() - began, 1)
        print(name, seconds[name], flush=True)
    pd.concat(parts).to_csv(options.folder / "forecasts.csv", index=False)
    (options.folder / "seconds.json").write_text(json.dumps(seconds))


if __name__ == "__main__":
    main()
