"""Known vulnerabilities of the installed packages, as PyPI lists them.

python -m scripts.audit [--if-reachable]

There is nothing to look up without PyPI's JSON API: behind a mirror or with no network the audit says so and exits with
2, or with 0 where it was asked for `--if-reachable` (`make ci` on a developer's machine; the pipelines never do).
"""

from __future__ import annotations

import argparse
import importlib.metadata
import subprocess
import sys
from pathlib import Path

# What pip-audit asks for each package; mirrors that have the packages often have no such pages.
ADVISORIES = f"https://pypi.org/pypi/pip/{importlib.metadata.version('pip')}/json"
SECONDS = 15
COMMAND = (
    str(Path(sys.executable).with_name("pip-audit")), "--local", "--skip-editable", "--strict",
    "--progress-spinner", "off",
)


def unreachable(url: str) -> str:
    """Return why the advisories cannot be had, in a few words; empty = they can."""
    import requests  # as pip-audit does: same proxies, same certificates

    try:
        answer = requests.get(url, timeout=SECONDS)
        answer.raise_for_status()
        document = answer.json()
    except (OSError, ValueError) as error:  # every error of requests is an OSError
        return f"{type(error).__name__}: {error}"
    return "" if "vulnerabilities" in document else "the answer lists no vulnerabilities"


def main(arguments: list[str] | None = None) -> int:
    """Return pip-audit's exit code (a package that it cannot look up is a failure), or 2 if there is none to ask."""
    parser = argparse.ArgumentParser(description="Look up known vulnerabilities of the installed packages.")
    parser.add_argument("--if-reachable", action="store_true", help="no advisories to ask is not a failure")
    wish = parser.parse_args(arguments)
    if why := unreachable(ADVISORIES):
        print(f"audit: NOTHING WAS LOOKED UP, {ADVISORIES} cannot be asked ({why})", file=sys.stderr)
        return 0 if wish.if_reachable else 2
    return subprocess.run(COMMAND, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
