"""Start a run on a deployed (or local) app, wait until it has ended, and fail unless it ended well.

python -m scripts.start_run --url URL --kind validate [--week 2017-W45] [--reason TEXT] [--minutes 600]

FUNCTION_APP_URL and FUNCTIONS_AUDIENCE come from the environment, else from --outputs FILE, which a deployment wrote.
Signs in as whoever runs it when FUNCTIONS_AUDIENCE is set, else sends FUNCTION_KEY if that is set (local host).
The same kind and week is the same run, so a pipeline that is started again waits for the run it had started.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

WELL = ("succeeded", "degraded")
TRIES = 8


def headers(env: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that say who calls."""
    if env.get("FUNCTIONS_AUDIENCE"):
        from scripts.azure_rest import sign_in

        return {"Authorization": f"Bearer {sign_in(env['FUNCTIONS_AUDIENCE'] + '/.default')()}"}
    return {"x-functions-key": env["FUNCTION_KEY"]} if env.get("FUNCTION_KEY") else {}


def call(method: str, url: str, body: Any, who: Mapping[str, str]) -> tuple[int, dict[str, Any], Mapping[str, str]]:
    """Return status, JSON object and headers; waits and repeats what only a retry cures. Raise OSError after that."""
    data = None if body is None else json.dumps(body).encode()
    for attempt in range(1, TRIES + 1):
        request = urllib.request.Request(url, data, {"Content-Type": "application/json", **who}, method=method)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=230) as answer:  # noqa: S310
                return answer.status, json.loads(answer.read() or b"{}"), dict(answer.headers)
        except urllib.error.HTTPError as problem:
            if problem.code not in (429, 502, 503, 504) or attempt == TRIES:
                return (
                    problem.code,
                    {"detail": problem.read().decode("utf-8", "replace")[:1000]},
                    dict(problem.headers),
                )
        except OSError:
            if attempt == TRIES:
                raise
        time.sleep(min(2**attempt, 30))
    raise AssertionError("the loop returns or raises")


def run(url: str, wish: Mapping[str, Any], who: Mapping[str, str], minutes: float) -> dict[str, Any]:
    """Start (or adopt) a run and return its outcome; raise RuntimeError if refused, TimeoutError if it lasts."""
    status, document, _ = call("POST", f"{url.rstrip('/')}/api/runs", dict(wish), who)
    if status >= 400:
        raise RuntimeError(f"the app refused the run ({status}): {document['detail']}")
    print(f"run {document['run_id']} ({'new' if document['is_new'] else 'adopted'})", flush=True)
    deadline = time.monotonic() + minutes * 60
    while time.monotonic() < deadline:
        status, outcome, answer = call("GET", document["wait_url"], None, who)
        if status == 200:
            return outcome
        if status != 202:
            raise RuntimeError(f"waiting for {document['run_id']} failed ({status}): {outcome}")
        time.sleep(float(answer.get("Retry-After", 10)))
    raise TimeoutError(f"{document['run_id']} has not ended after {minutes} minutes; it goes on without this process")


def main(arguments: list[str] | None = None) -> int:
    """Run and print the outcome; exit 1 unless it ended well."""
    parser = argparse.ArgumentParser(description="Start a run over HTTP and wait for it.")
    parser.add_argument("--url", default="", help="default: FUNCTION_APP_URL, else the local host")
    parser.add_argument("--outputs", type=Path, help="outputs.json of a deployment")
    parser.add_argument("--kind", required=True, choices=("train", "score", "weekly", "validate", "backfill"))
    parser.add_argument("--week", default="", help="sales week, default the current one")
    parser.add_argument("--reason", default="pipeline")
    parser.add_argument("--minutes", type=float, default=600)
    wish = parser.parse_args(arguments)
    written = json.loads(wish.outputs.read_text("utf-8")) if wish.outputs and wish.outputs.exists() else {}
    env = {**written, **os.environ}
    url = wish.url or env.get("FUNCTION_APP_URL", "http://127.0.0.1:7071")
    request = {
        "kind": wish.kind,
        "sales_week": wish.week or time.strftime("%G-W%V", time.gmtime()),
        "reason": wish.reason,
    }
    try:
        outcome = run(url, request, headers(env), wish.minutes)
    except (RuntimeError, TimeoutError, OSError) as error:
        print(f"start_run: {error}", file=sys.stderr)
        return 1
    print(json.dumps(outcome, indent=1))
    return 0 if outcome.get("status") in WELL else 1


if __name__ == "__main__":
    sys.exit(main())
