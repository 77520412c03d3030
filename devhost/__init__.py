"""A local host for azure-functions v2 Python apps: durable, faithful, small. `python -m devhost --help`."""
