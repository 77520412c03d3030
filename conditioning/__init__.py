"""Conditioning: one raw file of one source -> one version of a standard CSV, a quarantine list and an outcome document."""
