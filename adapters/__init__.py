"""Adapters: the only modules that speak to the lake, Azure ML, the registry, SQL and Application Insights."""
