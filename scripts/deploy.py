"""Deploy one environment from a package, in the order that keeps runs in flight unharmed.

python -m scripts.deploy --environment dev [--dist dist] [--plan] [--steps verify,pipelines | --from-step NAME]

Steps (each safe to repeat; a failed deployment is continued by calling it again):
  verify          the package is the one that CI made
  infrastructure  Bicep, subscription scope; its outputs feed the other steps
  drain           wait until no run is in flight, at most --drain-minutes (0 = deploy beside them, see below)
  components      environments and components by version: new versions stand beside those that running jobs use
  application     the zip; Durable Functions resume from their history on the new code
  access          the app's identity in the database
  events          Event Grid subscriptions, which need the running app
  pipelines       Data Factory: triggers stopped, written, started
  smoke           /api/health answers with the code version just deployed

Runs in flight continue on new code from their recorded history; tests replay recorded histories against the code, so
that a change of an orchestrator's shape fails in CI. When it must change its shape, deploy with --drain-minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from scripts.start_run import call, headers

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Step:
    """A named command."""

    name: str
    command: tuple[str, ...]


def steps(environment: str, dist: Path, version: str, env: Mapping[str, str], drain_minutes: float) -> list[Step]:
    """Return the steps in their order. Values that only Azure knows stand as {NAME} until infrastructure has run."""
    python = sys.executable

    def known(name: str) -> str:
        return env.get(name, f"{{{name}}}")

    parameters = {
        "environmentName": known("AZURE_ENV_NAME"),
        "environmentType": environment,
        "location": known("AZURE_LOCATION"),
        "administratorsGroupId": known("SHELFCAST_ADMINISTRATORS_ID"),
        "administratorsGroupName": known("SHELFCAST_ADMINISTRATORS_NAME"),
        "entraClientId": known("SHELFCAST_ENTRA_CLIENT_ID"),
        "alertEmail": known("SHELFCAST_ALERT_EMAIL"),
        "codeVersion": version,
    }
    bicep = (
        "az",
        "deployment",
        "sub",
        "create",
        "--name",
        f"shelfcast-{environment}",
        "--location",
        parameters["location"],
        "--template-file",
        "infra/main.bicep",
        "--query",
        "properties.outputs",
        "--output",
        "json",
        "--parameters",
        *(f"{name}={value}" for name, value in parameters.items()),
    )
    package = (
        "az",
        "functionapp",
        "deployment",
        "source",
        "config-zip",
        "--resource-group",
        known("AZURE_RESOURCE_GROUP"),
        "--name",
        known("FUNCTION_APP_NAME"),
        "--src",
        str(dist / "functions.zip"),
        "--build-remote",
        "true",
    )
    found = [
        Step("verify", (python, "-m", "scripts.package", "--verify", "--out", str(dist))),
        Step("infrastructure", bicep),
        Step("components", (python, "-m", "scripts.publish_ml")),
        Step("application", package),
        Step("access", (python, "-m", "scripts.sql_access")),
        Step("events", (python, "-m", "scripts.event_subscriptions")),
        Step("pipelines", (python, "-m", "scripts.deploy_data_factory", "--environment", environment)),
        Step(
            "smoke",
            (python, "-m", "scripts.deploy", "--environment", environment, "--only", "smoke", "--expect", version),
        ),
    ]
    if drain_minutes > 0:
        wait = (
            python,
            "-m",
            "scripts.deploy",
            "--environment",
            environment,
            "--only",
            "drain",
            "--drain-minutes",
            str(drain_minutes),
        )
        found.insert(2, Step("drain", wait))
    return found


def drain(url: str, who: Mapping[str, str], minutes: float, pause: float = 30.0) -> bool:
    """Wait until no run is in flight; False if some still are after `minutes`."""
    deadline = time.monotonic() + minutes * 60
    while True:
        status, document, _ = call("GET", f"{url}/api/runs?limit=200", None, who)
        running = [run["run_id"] for run in document.get("runs", []) if run["status"] == "running"]
        if status == 200 and not running:
            return True
        if time.monotonic() >= deadline:
            print(f"drain: still running: {', '.join(running) or f'cannot look ({status})'}", file=sys.stderr)
            return False
        time.sleep(pause)


def smoke(url: str, expected: str, minutes: float = 10, pause: float = 10.0) -> bool:
    """Wait until /api/health answers with the expected code version; False if it does not within `minutes`."""
    deadline = time.monotonic() + minutes * 60
    seen = ""
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}/api/health", timeout=60) as answer:  # noqa: S310 (the app's address)
                seen = str(json.loads(answer.read()).get("code_version"))
        except (OSError, ValueError) as error:
            seen = str(error)
        if seen == expected:
            return True
        time.sleep(pause)
    print(f"smoke: {url} answers {seen!r}, expected {expected!r}", file=sys.stderr)
    return False


def _run(step: Step, env: dict[str, str], outputs: Path) -> int:
    print(f"== {step.name}", flush=True)
    if step.name != "infrastructure":
        return subprocess.run(step.command, cwd=ROOT, env=env, check=False).returncode
    done = subprocess.run(step.command, cwd=ROOT, env=env, check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode == 0:
        found = {name: str(item["value"]) for name, item in json.loads(done.stdout).items()}
        env.update(found)
        outputs.write_text(json.dumps(found, indent=1) + "\n", "utf-8")  # names and addresses, nothing secret
    return done.returncode


def main(arguments: list[str] | None = None) -> int:
    """Deploy; exit with the code of the step that failed, which is named."""
    parser = argparse.ArgumentParser(description="Deploy one environment from a package.")
    parser.add_argument("--environment", required=True, choices=("dev", "staging", "prod"))
    parser.add_argument("--dist", type=Path, default=ROOT / "dist")
    parser.add_argument("--plan", action="store_true", help="print the commands and run none")
    parser.add_argument("--from-step", default="verify")
    parser.add_argument("--steps", default="", help="only these, comma-separated")
    parser.add_argument("--only", choices=("drain", "smoke"))
    parser.add_argument("--drain-minutes", type=float, default=0)
    parser.add_argument("--expect", default="")
    wish = parser.parse_args(arguments)
    if wish.only == "drain":
        return 0 if drain(os.environ["FUNCTION_APP_URL"], headers(os.environ), wish.drain_minutes) else 1
    if wish.only == "smoke":
        return 0 if smoke(os.environ["FUNCTION_APP_URL"], wish.expect) else 1
    manifest = wish.dist / "manifest.json"
    version = json.loads(manifest.read_text("utf-8"))["code_version"] if manifest.exists() else "{CODE_VERSION}"
    if not wish.plan and not manifest.exists():
        print(f"deploy: {manifest} is missing: run make package", file=sys.stderr)
        return 1
    env = dict(os.environ)
    names = [step.name for step in steps(wish.environment, wish.dist, version, env, wish.drain_minutes)]
    chosen = wish.steps.split(",") if wish.steps else names[names.index(wish.from_step) :]
    if unknown := sorted(set(chosen) - set(names)):
        parser.error(f"no such step: {', '.join(unknown)}; there are {', '.join(names)}")
    for name in chosen:  # made anew for each step: infrastructure fills in names
        step = next(s for s in steps(wish.environment, wish.dist, version, env, wish.drain_minutes) if s.name == name)
        if wish.plan:
            print(f"{step.name}: {' '.join(step.command)}")
        elif code := _run(step, env, wish.dist / "outputs.json"):
            print(f"deploy: {name} failed; continue with --from-step {name}", file=sys.stderr)
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
