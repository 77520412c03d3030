"""Command line of the Data Factory runner: run, check, list, triggers."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from devhost.adf.errors import AdfError, FactoryError, NotModelled, ParameterError
from devhost.adf.factory import Factory

OK, FAILED, REFUSED = 0, 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0 when it went well, 1 when the run failed or findings exist, 2 when it was refused."""
    options = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except NotModelled as error:
        print(f"refused: {error}", file=sys.stderr)
    except AdfError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("cancelled", file=sys.stderr)
        return FAILED
    return REFUSED


def _run(options: argparse.Namespace) -> int:
    from devhost.adf.display import Terminal
    from devhost.adf.runner import run_pipeline

    factory = load_factory(options)
    parameters = _pairs(options.parameter)
    if options.parameters:
        parameters = _json_file(options.parameters) | parameters
    with Terminal(live=False if options.plain else None) as terminal:
        run = run_pipeline(factory, options.pipeline, parameters, options=read_options(options), watcher=terminal)
    if options.json:
        print(json.dumps(run.to_json(), indent=1))
    else:
        print(f"{run.status} {run.pipeline} {run.run_id}")
        if run.message:
            print(run.message)
        if run.return_value:
            print(json.dumps(run.return_value, indent=1))
    return OK if run.succeeded else FAILED


def _check(options: argparse.Namespace) -> int:
    from devhost.adf.check import check_factory

    findings = check_factory(load_factory(options), openapi=options.openapi, base=options.api_base)
    for finding in findings:
        print(finding)
    print(f"{len(findings)} findings")
    return FAILED if findings else OK


def _list(options: argparse.Namespace) -> int:
    factory = load_factory(options)
    for pipeline in factory.pipelines.values():
        print(f"{pipeline.name}({', '.join(pipeline.parameters)})")
    for name, trigger in factory.triggers.items():
        print(f"{name}: {trigger.get('type')}")
    return OK


def _runs(options: argparse.Namespace) -> int:
    from devhost.adf.records import RunStore

    for record in RunStore(options.data).records():
        took = f"{(record['durationInMs'] or 0) / 1000:.1f} s"
        print(
            f"{record['runStart'][:19]}  {record['status']:<11} {took:>9}  {record['pipelineName']}  {record['runId']}"
        )
        if record["message"]:
            print(f"    {record['message']}")
    return OK


def _watch(options: argparse.Namespace) -> int:
    from devhost.adf.triggers.service import watch

    return watch(
        load_factory(options),
        read_options(options),
        names=options.only,
        storage=options.storage,
        poll_seconds=options.poll,
    )


def _backfill(options: argparse.Namespace) -> int:
    from devhost.adf.triggers.service import backfill

    return backfill(
        load_factory(options), read_options(options), options.trigger, start=options.start, end=options.end,
        rerun_failed=options.rerun_failed,
    )  # fmt: skip


def _next(options: argparse.Namespace) -> int:
    from devhost.adf.triggers.service import upcoming

    return upcoming(load_factory(options), options.trigger, after=options.after, count=options.count)


def _fire(options: argparse.Namespace) -> int:
    from devhost.adf.triggers.service import fire

    return fire(load_factory(options), read_options(options), options.trigger, at=options.at)


def load_factory(options: argparse.Namespace) -> Factory:
    """The factory of the command line, with its overrides applied. Raises FactoryError."""
    from devhost.adf.environments import apply_parameter_file

    factory = Factory.load(options.factory)
    for file in options.environment:
        apply_parameter_file(factory, Path(file))
    for name, value in _pairs(options.global_parameter, json_values=True).items():
        factory.override_global(name, value)
    for name, value in _pairs(options.linked_service).items():
        factory.override_linked_service(name, value)
    return factory


def read_options(options: argparse.Namespace) -> Any:
    """The runner's options of the command line."""
    from devhost.adf.runner import Options

    return Options(
        url=options.url,
        addresses=tuple(_pairs(options.map).items()),
        identity_headers={name: _secret(value) for name, value in _pairs(options.identity_header).items()},
        storage=options.storage,
        answers=_pairs(options.answer, json_values=True),
        secrets={name: _secret(value) for name, value in _pairs(options.secret).items()},
        wait_scale=options.time_scale,
        limit_scale=options.timeout_scale,
        data=options.data,
        callback_host=options.callback_host,
        callback_port=options.callback_port,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="devhost adf", description="Run a Data Factory's JSON on this machine.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = _command(commands, "run", _run, "run one pipeline and wait for its end")
    run.add_argument("pipeline")
    run.add_argument(
        "--parameter", "-p", action="append", default=[], metavar="NAME=VALUE", help="lists and objects as JSON"
    )
    run.add_argument("--parameters", type=Path, metavar="FILE", help="a JSON object of parameters")
    run.add_argument("--json", action="store_true", help="print the run record")
    run.add_argument("--plain", action="store_true", help="no live tree")
    _run_options(run)

    check = _command(commands, "check", _check, "validate references, parameters, expressions and called routes")
    check.add_argument("--openapi", type=Path, metavar="FILE", help="OpenAPI document of the called app")
    check.add_argument("--api-base", metavar="URL", help="its address (default: the function linked services)")

    _command(commands, "list", _list, "pipelines and triggers")

    runs = commands.add_parser("runs", help="records of earlier runs")
    runs.add_argument("--data", type=Path, default=Path(".data"))
    runs.set_defaults(command=_runs)

    watch = _command(commands, "watch", _watch, "run triggers until stopped: schedules, windows, storage events")
    watch.add_argument("--only", action="append", default=[], metavar="TRIGGER", help="default: all")
    watch.add_argument("--poll", type=float, default=5.0, metavar="SECONDS", help="how often blobs are looked at")
    _run_options(watch)

    backfill = _command(commands, "backfill", _backfill, "run a tumbling window trigger's windows to their end")
    backfill.add_argument("trigger")
    backfill.add_argument("--start", metavar="INSTANT", help="first window at or after (default: the trigger's start)")
    backfill.add_argument("--end", metavar="INSTANT", help="windows ending at or before (default: now)")
    backfill.add_argument("--rerun-failed", action="store_true", help="failed and cancelled windows again")
    _run_options(backfill)

    fire = _command(commands, "fire", _fire, "fire a schedule trigger once, as if its time had come")
    fire.add_argument("trigger")
    fire.add_argument("--at", metavar="INSTANT", help="the scheduled time (default: the last one due)")
    _run_options(fire)

    upcoming = _command(commands, "next", _next, "the next fire times of schedule triggers")
    upcoming.add_argument("trigger", nargs="*")
    upcoming.add_argument("--after", metavar="INSTANT", help="default: now")
    upcoming.add_argument("--count", type=int, default=10)
    return parser


def _command(
    commands: Any, name: str, command: Callable[[argparse.Namespace], int], help_text: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=help_text)
    parser.set_defaults(command=command)
    parser.add_argument("--factory", default="adf", metavar="FOLDER", help="the factory's folder (default: adf)")
    parser.add_argument("--environment", action="append", default=[], metavar="FILE", help="ARM parameter file")
    parser.add_argument("--global", dest="global_parameter", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--linked-service", action="append", default=[], metavar="NAME=ADDRESS")
    return parser


def _run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", help="where the factory's function apps answer on this machine")
    parser.add_argument("--map", action="append", default=[], metavar="FROM=TO", help="another address to redirect")
    parser.add_argument("--storage", metavar="CONNECTION", help="connection string for every storage linked service")
    parser.add_argument("--identity-header", action="append", default=[], metavar="NAME=VALUE", help="or NAME=env:VAR")
    parser.add_argument(
        "--secret", action="append", default=[], metavar="NAME=VALUE", help="a Key Vault secret, or env:VAR"
    )
    parser.add_argument("--answer", action="append", default=[], metavar="ACTIVITY=JSON", help="output without a call")
    parser.add_argument("--data", type=Path, default=Path(".data"), help="records and trigger states (default .data)")
    parser.add_argument("--time-scale", type=float, default=1.0, help="divide waits (default 1)")
    parser.add_argument("--timeout-scale", type=float, default=1.0, help="divide timeouts (default 1)")
    parser.add_argument("--callback-host", default="127.0.0.1")
    parser.add_argument("--callback-port", type=int, default=0)


def _pairs(texts: Sequence[str], *, json_values: bool = False) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ParameterError(f"{text!r} is not NAME=VALUE")
        found[name] = _json_or_text(value) if json_values else value
    return found


def _json_or_text(text: str) -> Any:
    if text[:1] in ("{", "[", '"') or text in ("true", "false", "null"):
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text


def _json_file(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise FactoryError(f"{path}: {error}") from None
    if not isinstance(found, dict):
        raise FactoryError(f"{path}: expected an object of parameters")
    return found


def _secret(text: str) -> str:
    if not text.startswith("env:"):
        return text
    value = os.environ.get(text[4:])
    if value is None:
        raise ParameterError(f"environment variable {text[4:]!r} is not set")
    return value
