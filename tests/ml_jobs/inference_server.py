"""Azure ML's own inference server with our scoring script, in an environment of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SERVER = ROOT / ".tools" / "inference"


@contextmanager
def inference_server(models: Path) -> Iterator[str]:
    """Serve a folder of models until the block ends; yield the base URL."""
    if not (SERVER / "bin/azmlinfsrv").is_file():
        subprocess.run([str(ROOT / ".venv/bin/python"), "-m", "venv", str(SERVER)], check=True)
        packages = ["azureml-inference-server-http==1.5.1", "numpy==2.4.6", "pyarrow==26.0.1"]
        subprocess.run([str(SERVER / "bin/pip"), "install", "-q", *packages], check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {"PATH": f"{SERVER / 'bin'}:{os.environ['PATH']}", "AZUREML_MODEL_DIR": str(models)}
    script = str(ROOT / "ml_jobs/endpoints/online/score.py")
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [str(SERVER / "bin/azmlinfsrv"), "--entry_script", script, "--port", str(port)],
            cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )
        base = f"http://127.0.0.1:{port}"
        try:
            for _ in range(300):
                try:
                    with urllib.request.urlopen(base, timeout=2):
                        break
                except (urllib.error.URLError, OSError):
                    time.sleep(0.2)
            yield base
        finally:
            os.killpg(process.pid, 15)
            process.wait(20)
