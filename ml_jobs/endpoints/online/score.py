"""Scoring script of the online deployment: every model of AZUREML_MODEL_DIR behind one `run`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

# The server's package is in the serving environment only: it pins older libraries than the app runs with.
from azureml_inference_server_http.api.aml_request import AMLRequest, rawhttp  # type: ignore[import-not-found]
from azureml_inference_server_http.api.aml_response import AMLResponse  # type: ignore[import-not-found]

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))  # the server starts the script as a file

if TYPE_CHECKING:
    from ml_jobs.forecasting.serving import Scorer

_state: dict[str, Scorer] = {}


def init() -> None:
    """Load all models once; a deployment without a model must not become healthy."""
    from ml_jobs.forecasting.serving import Scorer

    _state["scorer"] = Scorer.open(Path(os.environ["AZUREML_MODEL_DIR"]))


@rawhttp  # type: ignore[untyped-decorator]
def run(request: AMLRequest) -> Any:
    """Answer one request; a caller's mistake is a 4xx problem document, never a 500."""
    from ml_jobs.forecasting.serving import respond

    status, document = respond(_state["scorer"], request.get_data())
    return AMLResponse(document, status, json_str=True)
