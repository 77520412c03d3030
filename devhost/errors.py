"""Errors that end the host, or one call, with one clear line."""

from __future__ import annotations


class HostError(Exception):
    """The host cannot start or go on; the text is the whole message for the user and names the remedy."""


class AppLoadError(HostError):
    """The app has an error that would make functions vanish silently on other hosts."""


class UnknownFunction(Exception):
    """Work for a function that the app does not have; the text is as on Azure."""


class StorageFull(HostError):
    """The disk with the data directory takes no more writes; what was acknowledged is safe."""
