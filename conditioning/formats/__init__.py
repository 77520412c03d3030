"""Readers of formats that are taken row by row."""
