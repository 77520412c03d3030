"""Policies that every commit must keep: no secret, no personal data, only allowed licences.

python -m scripts.compliance [FILE ...]     without files: everything that git tracks

A finding names file, line and rule, never the value.
"""

from __future__ import annotations

import argparse
import io
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from scripts.packages import deployed_packages

ROOT = Path(__file__).resolve().parent.parent

# Azurite's account key is printed in its documentation and opens nothing but a local emulator.
EMULATOR_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
ALLOW = "compliance: allow"  # in a line whose match is no secret; the rest of the line says why

SECRETS = {
    "private key": re.compile(r"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----\s*[A-Za-z0-9+/=\\n]{20}"),
    "storage account key": re.compile(r"AccountKey=(?!\{)[A-Za-z0-9+/]{40,}={0,2}"),
    "shared access key": re.compile(r"SharedAccessKey=[A-Za-z0-9+/]{30,}"),
    "shared access signature": re.compile(r"[?&]sig=[A-Za-z0-9%+/]{30,}"),
    "GitHub token": re.compile(r"\bgh[pousr]_[A-Za-z0-9]{30,}\b|\bgithub_pat_[A-Za-z0-9_]{40,}"),
    "Azure DevOps token": re.compile(r"\b[a-z2-7]{52}\b(?=['\"\s]*$)"),
    "AWS key": re.compile(r"\bAKIA[0-9A-Z]{16}\b"),
    "JSON web token": re.compile(r"\beyJ[A-Za-z0-9_-]{20,}\.eyJ[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{10,}"),
    "Entra client secret": re.compile(r"\b[A-Za-z0-9_~.-]{3}8Q~[A-Za-z0-9_~.-]{34}\b"),
    "password in a URL": re.compile(r"://[^/\s:@{}$<'\"]+:[^/\s:@{}$<'\"]{6,}@"),
    "password": re.compile(
        r"(?i)\b(?:password|passwd|pwd|client_secret|api_key)['\"]?\s*[:=]\s*['\"][^'\"{}$<\s]{8,}['\"]"
    ),
}

# Fixtures and samples hold invented or published data only; these shapes would say otherwise.
_RESERVED = re.compile(r"@(?:[\w.-]+\.)?(?:example|test|invalid|localhost)(?:\.(?:com|org|net))?$", re.IGNORECASE)
PERSONAL = {
    "e-mail address": re.compile(r"\b[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}\b"),
    "telephone number": re.compile(
        r"(?<![\d.-])(?:\+1[ .-]?)?\(?[2-9]\d{2}\)[ .-]\d{3}[ .-]\d{4}(?!\d)"
        r"|(?<![\d.-])[2-9]\d{2}-\d{3}-\d{4}(?![\d-])"
    ),
    "social security number": re.compile(r"(?<![\d-])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\d-])"),
    "payment card": re.compile(r"(?<![\d.])(?:\d{4}[ -]){3}\d{4}(?!\d)"),
    "IBAN": re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){4,7}\b"),
}
_DATA = re.compile(r"^(samples/.*/data/|tests/.*\.(csv|tsv|txt|json|jsonl|ics|edi|x12|xml|xlsx|parquet)$|notebooks/)")
_TEXT_LIMIT = 5_000_000


@dataclass(frozen=True)
class Finding:
    """A rule that a line breaks. The value itself is never kept."""

    path: str
    line: int
    rule: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}"


def tracked_files() -> list[str]:
    """Return what git tracks and what it would track, as paths from the root."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    return [name for name in listed if (ROOT / name).is_file()]


def secrets_in(path: str, text: str) -> Iterator[Finding]:
    """Yield each line that holds what looks like a secret."""
    for number, line in enumerate(text.splitlines(), 1):
        if ALLOW in line:
            continue
        shown = line.replace(EMULATOR_KEY, "")
        for rule, pattern in SECRETS.items():
            if pattern.search(shown):
                yield Finding(path, number, rule)


def personal_data_in(path: str, text: str) -> Iterator[Finding]:
    """Yield each line of a data file that holds what looks like somebody's data."""
    for number, line in enumerate(text.splitlines(), 1):
        for rule, pattern in PERSONAL.items():
            for match in pattern.finditer(line):
                if rule == "e-mail address" and _RESERVED.search(match[0]):
                    continue
                if rule == "payment card" and not _luhn(re.sub(r"\D", "", match[0])):
                    continue
                yield Finding(path, number, rule)


def scan(paths: Iterable[str]) -> list[Finding]:
    """Return the findings in files, given as paths from the root."""
    findings: list[Finding] = []
    for path in paths:
        for text in _texts(ROOT / path):
            findings += secrets_in(path, text)
            if _DATA.match(path):
                findings += personal_data_in(path, text)
    return findings


def _texts(path: Path) -> Iterator[str]:
    """Yield the text of a file; of a spreadsheet, that of its parts."""
    raw = path.read_bytes()[:_TEXT_LIMIT]
    if path.suffix == ".xlsx":
        with zipfile.ZipFile(io.BytesIO(raw)) as book:
            yield from (
                book.read(name).decode("utf-8", "replace") for name in book.namelist() if name.endswith(".xml")
            )
    elif b"\0" not in raw[:8000]:
        yield raw.decode("utf-8", "replace")


def _luhn(digits: str) -> bool:
    doubled = [int(d) * (1 + index % 2) for index, d in enumerate(reversed(digits))]
    return sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0


def main(arguments: list[str] | None = None) -> int:
    """Print the findings; exit 1 if there is one."""
    parser = argparse.ArgumentParser(description="Scan for secrets, personal data and licences.")
    parser.add_argument("files", nargs="*")
    wish = parser.parse_args(arguments)
    files = wish.files or tracked_files()
    findings = scan(files)
    print("\n".join(map(str, findings)), end="\n" if findings else "")
    packages = deployed_packages()
    refused = [package for package in packages if not package.is_allowed]
    print("".join(f"licence not allowed: {package.name} ({package.licence})\n" for package in refused), end="")
    print(
        f"compliance: {len(files)} files, {len(findings)} findings; {len(packages)} packages, {len(refused)} refused"
    )
    return 1 if findings or refused else 0


if __name__ == "__main__":
    sys.exit(main())
