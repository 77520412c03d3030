"""A loopback stand-in for Azure Resource Manager and Azure ML, for tests of the real SDK (see server.py)."""
