"""Runs any Data Factory's JSON on this machine: real HTTP, Microsoft's expression engine, the service's flow rules."""
