"""Turn notebooks into modules: `python -m scripts.export_notebooks [--check]`.

A notebook in `notebooks/` names its module in its metadata (`"shelfcast": {"module": "ml_jobs/..."}`); the cells that
carry the tag `export` become that module, in order. All other cells are the experiment, which no job ever runs.
`--check` writes nothing and fails where a module differs from its notebook, or a notebook carries outputs.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TAG = "export"


def main(arguments: list[str] | None = None) -> int:
    """Export or check all notebooks; return 1 if something is wrong, with a sentence for each on stderr."""
    parser = argparse.ArgumentParser(prog="scripts.export_notebooks", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail on a difference")
    parser.add_argument("--root", type=Path, default=ROOT, help="the repository")
    options = parser.parse_args(arguments)
    faults: list[str] = []
    for path in sorted((options.root / "notebooks").glob("*.ipynb")):
        notebook = json.loads(path.read_text("utf-8"))
        faults += stored_outputs(path, notebook)
        module = notebook["metadata"].get("shelfcast", {}).get("module")
        if not module:
            continue
        text, target = exported(path, notebook), options.root / module
        if not options.check:
            target.write_text(text, "utf-8")
            print(f"{path.name} -> {module}")
        elif not target.is_file() or target.read_text("utf-8") != text:
            faults.append(f"{module} differs from {path.name}: change the notebook, then run make notebooks")
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


def exported(path: Path, notebook: dict[str, Any]) -> str:
    """Return the module that a notebook's tagged code cells make."""
    cells = [
        "".join(cell["source"]).strip("\n") for cell in notebook["cells"]
        if cell["cell_type"] == "code" and TAG in cell["metadata"].get("tags", ())
    ]
    if not cells:
        raise SystemExit(f"{path.name} names a module, but no code cell has the tag {TAG!r}")
    return f"# Exported from notebooks/{path.name}: change it there.\n" + "\n\n\n".join(cells) + "\n"


def stored_outputs(path: Path, notebook: dict[str, Any]) -> list[str]:
    """Return a sentence for each code cell with an output or a count: results are not kept under version control."""
    return [
        f"{path.name}, cell {number}: has outputs; clear them before committing"
        for number, cell in enumerate(notebook["cells"], start=1)
        if cell["cell_type"] == "code" and (cell["outputs"] or cell["execution_count"] is not None)
    ]


if __name__ == "__main__":
    sys.exit(main())
