"""Make what a release consists of, in dist/.

python -m scripts.package [--out dist]

functions.zip   the Function app, as .funcignore leaves it
ml.zip          the jobs' code with components, pipelines and environments, as .amlignore leaves it
manifest.json   code version, and SHA-256 and size of every file in both; each component and environment by version
sbom.json       CycloneDX 1.6: every package of the deployed code with version and licence

The same commit gives the same bytes, wherever and whenever it is packaged.
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from scripts.compliance import tracked_files
from scripts.packages import sbom

ROOT = Path(__file__).resolve().parent.parent
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first date that a zip file can hold


def code_version(root: Path = ROOT) -> str:
    """Return the commit, with `-dirty` when the folder differs from it."""
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=root, check=True, capture_output=True, text=True
    ).stdout.strip()
    changed = subprocess.run(
        ["git", "status", "--porcelain"], cwd=root, check=True, capture_output=True, text=True
    ).stdout
    return f"{commit[:12]}-dirty" if changed.strip() else commit[:12]


def is_ignored(path: str, patterns: Iterable[str]) -> bool:
    """Return whether an ignore file excludes a path, as .gitignore means it.

    The last pattern that matches decides, `!` includes again, and nothing inside an excluded folder comes back.
    """
    parts = path.split("/")
    lines = [line.strip() for line in patterns if line.strip() and not line.startswith("#")]
    return any(_excluded("/".join(parts[: depth + 1]), lines) for depth in range(len(parts)))


def _excluded(path: str, lines: Iterable[str]) -> bool:
    excluded = False
    for line in lines:
        pattern = line.removeprefix("!").removesuffix("/")
        anchored = "/" in pattern
        if fnmatch.fnmatchcase(path if anchored else path.rsplit("/", maxsplit=1)[-1], pattern.removeprefix("/")):
            excluded = not line.startswith("!")
    return excluded


def files_of(ignore_file: str) -> list[str]:
    """Return the files that an ignore file leaves, as sorted paths from the root."""
    patterns = (ROOT / ignore_file).read_text("utf-8").splitlines()
    return sorted(path for path in tracked_files() if not is_ignored(path, patterns))


def write_zip(target: Path, paths: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Write a zip without times or owners; return hash and size of each file."""
    listed = {}
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as bundle:
        for path in paths:
            content = (ROOT / path).read_bytes()
            entry = zipfile.ZipInfo(path, _EPOCH)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            bundle.writestr(entry, content)
            listed[path] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    return listed


def assets() -> dict[str, dict[str, str]]:
    """Return components and environments: version, and a hash of everything that running them depends on."""
    import yaml

    code = hashlib.sha256()
    for path in files_of(".amlignore"):
        code.update(f"{path}\0{hashlib.sha256((ROOT / path).read_bytes()).hexdigest()}\n".encode())
    found: dict[str, dict[str, str]] = {}
    for file in sorted((ROOT / "ml_jobs" / "components").glob("*/component.yml")):
        about = yaml.safe_load(file.read_text("utf-8"))
        found[f"components/{about['name']}"] = {"version": str(about["version"]), "sha256": code.hexdigest()}
    for file in sorted((ROOT / "ml_jobs" / "environments").glob("*/environment.yml")):
        about = yaml.safe_load(file.read_text("utf-8"))
        content = hashlib.sha256(
            b"".join(part.read_bytes() for part in sorted(file.parent.iterdir()) if part.is_file())
        )
        found[f"environments/{about['name']}"] = {"version": str(about["version"]), "sha256": content.hexdigest()}
    return found


def build(out: Path) -> dict[str, Any]:
    """Write the four files into `out`; return the manifest."""
    out.mkdir(parents=True, exist_ok=True)
    version = code_version()
    manifest: dict[str, Any] = {
        "schema": "shelfcast.package/1",
        "code_version": version,
        "assets": assets(),
        "bundles": {},
    }
    for name, ignore in (("functions.zip", ".funcignore"), ("ml.zip", ".amlignore")):
        files = write_zip(out / name, files_of(ignore))
        digest = hashlib.sha256((out / name).read_bytes()).hexdigest()
        manifest["bundles"][name] = {"sha256": digest, "bytes": (out / name).stat().st_size, "files": files}
    (out / "sbom.json").write_text(json.dumps(sbom(version), indent=1) + "\n", "utf-8")
    manifest["sbom_sha256"] = hashlib.sha256((out / "sbom.json").read_bytes()).hexdigest()
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", "utf-8")
    return manifest


def verify(out: Path, here: str) -> list[str]:
    """Return what differs between the manifest, the files beside it and the commit `here`; [] = as packaged.

    Infrastructure, components and pipelines are deployed from the checkout: it must be what the package was made of.
    """
    manifest = json.loads((out / "manifest.json").read_text("utf-8"))
    faults = []
    if manifest["code_version"] != here:
        faults.append(
            f"the package is of {manifest['code_version']}, this folder is at {here}: check out the former, "
            "or run make package"
        )
    for name, bundle in manifest["bundles"].items():
        if hashlib.sha256((out / name).read_bytes()).hexdigest() != bundle["sha256"]:
            faults.append(f"{name} is not the file that was packaged")
    if hashlib.sha256((out / "sbom.json").read_bytes()).hexdigest() != manifest["sbom_sha256"]:
        faults.append("sbom.json is not the file that was packaged")
    return faults


def main(arguments: list[str] | None = None) -> int:
    """Package, or check a package before it is deployed (exit 1 if somebody changed it)."""
    parser = argparse.ArgumentParser(description="Make or check the release package.")
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    parser.add_argument("--verify", action="store_true")
    wish = parser.parse_args(arguments)
    if wish.verify:
        faults = verify(wish.out, code_version())
        print("\n".join(faults) or "package is as made")
        return 1 if faults else 0
    manifest = build(wish.out)
    for name, bundle in manifest["bundles"].items():
        print(f"{name}: {len(bundle['files'])} files, {bundle['bytes']:,} bytes, {bundle['sha256'][:16]}")
    print(
        f"code version {manifest['code_version']}; "
        + ", ".join(f"{k} {v['version']}" for k, v in manifest["assets"].items())
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
