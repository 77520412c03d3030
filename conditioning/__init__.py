"""Conditioning: a raw file of a source becomes a version of a standard CSV, a quarantine list and an outcome."""
