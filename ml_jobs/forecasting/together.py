"""Whether several models can live in one process (R102): one Python, one set of packages, one reader."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from domain.errors import IntegrityError
from ml_jobs.forecasting import model_files


def conflicts(folders: Iterable[Path]) -> list[str]:
    """Return what keeps the models of these folders from sharing a deployment, each with the models that differ.

    Looked at: the Python version (major.minor), the packages of requirements.txt, that the folder can be read by this
    code, and that no two folders hold the same segment.
    """
    pythons: dict[str, list[str]] = defaultdict(list)
    needs: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    segments: dict[str, list[str]] = defaultdict(list)
    found: list[str] = []
    for folder in sorted(folders):
        try:
            segments[model_files.load(folder).segment].append(folder.name)
            pythons[_python(folder)].append(folder.name)
            for line in (folder / "requirements.txt").read_text("utf-8").splitlines():
                if line.strip():
                    name, wanted = _requirement(line)
                    needs[name][wanted].append(folder.name)
        except IntegrityError as error:
            found.append(error.message)
        except (OSError, ValueError) as error:
            found.append(f"{folder.name}: its requirements cannot be read: {error}")
    if len(pythons) > 1:
        found.append(f"models need different Pythons: {_who(pythons)}")
    found += [f"models need different {name}: {_who(wanted)}" for name, wanted in sorted(needs.items())
              if not _satisfiable(wanted)]
    found += [f"{' and '.join(names)} are both models of {segment}" for segment, names in segments.items()
              if len(names) > 1]
    return found


def _python(folder: Path) -> str:
    for line in (folder / "python_env.yaml").read_text("utf-8").splitlines():
        if line.startswith("python:"):
            return ".".join(line.removeprefix("python:").strip().split(".")[:2])
    raise ValueError(f"{folder.name}/python_env.yaml names no Python")


def _requirement(line: str) -> tuple[str, str]:
    from packaging.requirements import Requirement  # a dependency of onnxruntime, so every environment has it

    found = Requirement(line)
    return found.name.lower(), str(found.specifier)


def _satisfiable(wanted: Iterable[str]) -> bool:
    """Whether one version fits all specifiers; where their bounds meet is the place to look for it."""
    from packaging.specifiers import SpecifierSet
    from packaging.version import Version

    every = SpecifierSet(",".join(text for text in wanted if text))
    bounds = {specifier.version.removesuffix(".*") for specifier in every} | {"0"}
    return any(every.contains(Version(version), prereleases=True)
               for bound in bounds for version in (bound, f"{bound}.0.1"))


def _who(wanted: Mapping[str, list[str]]) -> str:
    def some(names: list[str]) -> str:
        return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

    return "; ".join(f"{text or 'any'} ({some(names)})" for text, names in sorted(wanted.items()))
