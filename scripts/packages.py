"""What the deployed code is made of: the closure of its requirements, each package with version and licence.

python -m scripts.packages             prints the list and fails on a licence that is not allowed
python -m scripts.packages --sbom FILE writes a CycloneDX 1.6 document
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DEPLOYED = ("requirements.txt", "ml_jobs/requirements.txt")

# Licences that ask for nothing but their notice, or (MPL, LGPL) only for changes of the library itself.
ALLOWED = re.compile(
    r"\b(MIT|BSD|0BSD|Apache|ISC|PSF|Python Software Foundation|MPL|Mozilla|HPND|Zlib|Unlicense|CC0|Public Domain|LGPL|"
    r"Lesser General Public|BSL-1\.0|CNRI)",
    re.IGNORECASE,
)
# Packages whose metadata does not say it, and what a person found in their licence file and accepted.
READ_BY_HAND = {
    "mssql-python": "MIT",
    "orderedmultidict": "Unlicense",
    "mssql-python-odbc": "Microsoft ODBC Driver licence (may be redistributed in applications)",
}
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Package:
    """An installed distribution."""

    name: str
    version: str
    licence: str
    needs: tuple[str, ...]

    @property
    def is_allowed(self) -> bool:
        """Whether the licence is one that we take."""
        return self.name in READ_BY_HAND or bool(ALLOWED.search(self.licence))

    def component(self) -> dict[str, Any]:
        """The package as CycloneDX describes it."""
        purl = f"pkg:pypi/{self.name}@{self.version}"
        licences = [{"license": {"name": self.licence}}]
        return {
            "type": "library",
            "bom-ref": purl,
            "name": self.name,
            "version": self.version,
            "purl": purl,
            "licenses": licences,
        }


def canonical(name: str) -> str:
    """Return a package's name as PyPI compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def deployed_packages(files: tuple[str, ...] = DEPLOYED) -> list[Package]:
    """Return every package that the requirement files bring, by name; raise LookupError if one is not installed."""
    waiting = [need for file in files for need in _requirements((ROOT / file).read_text("utf-8").splitlines())]
    found: dict[str, Package] = {}
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        try:
            package = _package(name)
        except metadata.PackageNotFoundError as error:
            raise LookupError(f"{name} is required and not installed: run make setup") from error
        found[name] = package
        waiting.extend(package.needs)
    return [found[name] for name in sorted(found)]


def _requirements(lines: list[str]) -> list[str]:
    names = []
    for line in lines:
        text = line.split("#")[0].strip()
        match = _NAME.match(text)
        if match and _applies(text):
            names.append(canonical(match[0]))
    return names


def _applies(requirement: str) -> bool:
    from packaging.requirements import Requirement

    marker = Requirement(requirement).marker
    return marker is None or marker.evaluate({"extra": ""})


def _package(name: str) -> Package:
    found = metadata.distribution(name)
    about = found.metadata
    fields = {name: about.get_all(name) or [""] for name in ("Classifier", "License-Expression", "License")}
    classifiers = [value.split(" :: ")[-1] for value in fields["Classifier"] if value.startswith("License")]
    text = fields["License-Expression"][0] or "; ".join(classifiers) or fields["License"][0].split("\n")[0]
    licence = READ_BY_HAND.get(name) or text.strip() or "unknown"
    return Package(name, found.version, licence, tuple(_requirements(found.requires or [])))


def sbom(code_version: str) -> dict[str, Any]:
    """Return the bill of materials of the deployed code; the same packages give the same document."""
    packages = deployed_packages()
    names = {package.name: f"pkg:pypi/{package.name}@{package.version}" for package in packages}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {"type": "application", "bom-ref": "shelfcast", "name": "shelfcast", "version": code_version}
        },
        "components": [package.component() for package in packages],
        "dependencies": [
            {"ref": names[package.name], "dependsOn": sorted({names[need] for need in package.needs})}
            for package in packages
        ],
    }


def main(arguments: list[str] | None = None) -> int:
    """Print the licences (exit 1 if one is not allowed), or write the bill of materials."""
    parser = argparse.ArgumentParser(description="List the deployed packages with their licences.")
    parser.add_argument("--sbom", type=Path)
    parser.add_argument("--code-version", default="unversioned")
    wish = parser.parse_args(arguments)
    if wish.sbom:
        wish.sbom.write_text(json.dumps(sbom(wish.code_version), indent=1) + "\n", "utf-8")
        return 0
    refused = 0
    for package in deployed_packages():
        refused += not package.is_allowed
        print(f"{'   ' if package.is_allowed else 'NO '}{package.name} {package.version}: {package.licence[:80]}")
    print(f"licences: {refused} not allowed")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
