"""Stands for `ml_jobs` in a test's app folder: same components, pipelines and files, arithmetic instead of models."""
