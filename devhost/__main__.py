"""A local host for azure-functions v2 Python apps.

Runs any azure-functions v2 Python app (a folder with function_app.py and host.json), unchanged, on this machine:
HTTP, timer, queue, blob (Event Grid and polling), Event Grid and all durable triggers. Settings come from the Values
of local.settings.json, else local.settings.sample.json; the environment wins. If a setting says
UseDevelopmentStorage=true, Azurite is started on the data directory and the setting becomes its connection string.

The data directory holds everything: the task hub (hub.sqlite), Azurite's files, the access keys (keys.json) and,
while the host runs, host.json with its address and pid. A killed host loses nothing; start it again on the same
directory.

  python -m devhost --app . --port 7071             run the app in this folder
  python -m devhost --app . --reload --verbose      start anew when code changes, log every replay
  python -m devhost list --app . [--json]           functions, triggers, routes
  python -m devhost adf --help                      run and check Data Factory pipelines on this machine

Ready when GET /admin/host/status answers. Durable management: /runtime/webhooks/durabletask. Ctrl-C ends the host and
everything it started.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import threading
import time
from pathlib import Path
from typing import NoReturn

from devhost.errors import HostError

_GRACE_SECONDS = 2.0


def _parser() -> argparse.ArgumentParser:
    summary, _, more = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser("python -m devhost", description=summary, epilog=more,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    add = parser.add_argument
    add("command", nargs="?", choices=("run", "list"), default="run", help="run (default) or list")
    add("--app", type=Path, default=Path(), metavar="DIR", help="folder of the app (default: this one)")
    add("--port", type=int, default=7071, help="port of the host (default 7071; 0 takes a free one)")
    add("--data", type=Path, metavar="DIR", help="data directory (default: APP/.data/host)")
    add("--azurite", metavar="PATH", help="azurite executable (default: in node_modules or on PATH)")
    add("--auth", action="store_true", help="ask for keys (DATA/keys.json) as Azure does")
    add("--reload", action="store_true", help="start anew when a file of the app changes")
    add("--verbose", action="store_true", help="log every replay")
    add("--json", action="store_true", help="list: print JSON with all bindings")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code (2: an error that the user can mend, said in one line)."""
    words = sys.argv[1:] if arguments is None else arguments
    if words[:1] == ["adf"]:
        from devhost.adf.cli import main as data_factory

        return data_factory(words[1:])
    given = _parser().parse_args(words)
    app_dir = given.app.resolve()
    try:
        if given.command == "list":
            return _list(app_dir, as_json=given.json)
        from devhost import logs
        from devhost.host import HostOptions, run

        logs.set_up(verbose=given.verbose)
        data_dir = (given.data or app_dir / ".data" / "host").resolve()
        options = HostOptions(app_dir, data_dir, given.port, given.azurite, given.auth, given.reload, Path.cwd())
        if app_dir.is_dir():
            os.chdir(app_dir)  # functions find their files where they are on Azure
        run(options)
    except (HostError, OSError) as problem:
        print(f"devhost: {problem}", file=sys.stderr)
        return 2
    return 0


def _leave(code: int) -> NoReturn:
    """End the process; activities that still run are given up after a moment (the next host runs them again)."""
    deadline = time.monotonic() + _GRACE_SECONDS
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                logging.shutdown()
                sys.stdout.flush()
                os._exit(code)
    sys.exit(code)


def _list(app_dir: Path, *, as_json: bool) -> int:
    from devhost.app_settings import HostConfig, read_settings
    from devhost.function_index import load_app

    logging.disable(logging.WARNING)
    os.environ.update(read_settings(app_dir, os.environ))
    index = load_app(app_dir, os.environ)
    prefix = HostConfig.read(app_dir, os.environ, 1).route_prefix
    if as_json:
        print(json.dumps({f.name: f.raw_bindings for f in index.functions}, indent=1))
        return 0
    for function in index.functions:
        settings = function.trigger.settings
        where = next((settings[k] for k in ("path", "queueName", "schedule") if k in settings), "")
        if function.trigger.type == "httpTrigger":
            where = f"{','.join(function.methods) or 'any'} /{prefix}/{function.route}".replace("//", "/")
        elif function.durable_name != function.name:
            where = f"as {function.durable_name}"
        print(f"{function.name:<40} {function.trigger.type:<22} {where}".rstrip())
    return 0


if __name__ == "__main__":
    _leave(main())
