"""The peers' own Python, made at the first use: some of them pin older packages than the app's."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "benchmarks/requirements.txt"
FOLDER = ROOT / ".tools/peers"


def python() -> Path:
    """Return the Python that has benchmarks/requirements.txt; make its environment if it is absent or out of date.

    Raise CalledProcessError where a package cannot be installed; the next call then starts over.
    """
    own, stamp = FOLDER / "bin/python", FOLDER / ".complete"
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    if not stamp.is_file() or stamp.read_text() != wanted:
        print(f"peers: Python packages into {FOLDER.relative_to(ROOT)} (once; some minutes)", flush=True)
        stamp.unlink(missing_ok=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", FOLDER], check=True)
        install = [own, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        # Older pip releases crash while they resolve these packages together.
        subprocess.run([*install, "--upgrade", "pip>=24"], check=True)
        subprocess.run([*install, "-r", REQUIREMENTS], check=True)
        stamp.write_text(wanted)
    return own
