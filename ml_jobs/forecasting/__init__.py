"""The forecasting library: features, models, evaluation; knows nothing of Azure and nothing of the app."""
