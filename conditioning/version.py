"""Version of the engine: part of every data version, so that a changed rule gives a new version beside the old one."""

CONDITIONER_VERSION = "1.3"
