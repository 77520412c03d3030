"""The crash-consistency kit: replays any orchestrator from every point at which a host may have died."""
