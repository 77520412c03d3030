"""The host as a program: errors in one line, one host a hub, listing, code reload, settings."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from devhost.errors import HostError
from scripts.host_process import HostProcess
from tests.devhost.conftest import APPS, HostFactory, eventually

ROOT = Path(__file__).resolve().parents[2]
HEAD = "import azure.functions as func\napp = func.FunctionApp()\n"


def devhost(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "devhost", *arguments], cwd=ROOT, capture_output=True, text=True,
                          timeout=60, check=False)  # fmt: skip


def write_app(folder: Path, code: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "function_app.py").write_text(code)
    return folder


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("def broken(:\n", r"function_app.py:1: syntax error: invalid syntax"),
        ("import nothing_like_it\n", r"function_app.py:1: ModuleNotFoundError: No module named 'nothing_like_it'"),
        ("x = 1\n", r"No top level function app instance"),
        (f"{HEAD}other = func.FunctionApp()\n", r"More than one top level function app instance"),
        (f"{HEAD}@app.route()\ndef a(req: func.HttpRequest) -> str: ...\n@app.route()\n@app.function_name('a')\n"
         "def b(req: func.HttpRequest) -> str: ...\n", r"a .*unique"),
        (f"{HEAD}@app.route()\ndef a(req: list[str]) -> str: ...\n", r"cannot load the a function: .*list\[str\]"),
        (f"{HEAD}@app.route()\ndef a(req: func.QueueMessage) -> str: ...\n", r"does not match its Python annotation"),
        (f"{HEAD}@app.route()\ndef a(request) -> str: ...\n", r"parameters are declared in Python but not"),
        (f"{HEAD}@app.route()\ndef a(req, context: str) -> str: ...\n", r"of type azure.functions.Context"),
        (f"{HEAD}@app.function_name('a')\ndef a(req) -> str: ...\n", r"does not have a trigger"),
        (f"{HEAD}@app.timer_trigger(arg_name='t', schedule='0 0 25 * * *')\ndef a(t) -> None: ...\n", r"hour .*25"),
        (f"{HEAD}@app.timer_trigger(arg_name='t', schedule='%WHEN%')\ndef a(t) -> None: ...\n", r"app setting 'WHEN'"),
        (f"{HEAD}@app.route(route='{{a:week}}')\ndef a(req) -> str: ...\n", r"constraint 'week'"),
    ],
)  # fmt: skip
def test_load_errors_stop_the_host_with_the_reason(tmp_path: Path, code: str, reason: str) -> None:
    app = write_app(tmp_path / "app", code)
    ended = devhost("--app", str(app), "--data", str(tmp_path / "data"), "--port", "0")
    assert ended.returncode == 2
    lines = [line for line in ended.stderr.splitlines() if line.startswith("devhost:")]
    assert len(lines) == 1 and "Traceback" not in ended.stderr
    assert re.search(reason, lines[0]), lines[0]


def test_missing_app_and_busy_port_are_one_line(tmp_path: Path, host: HostFactory) -> None:
    ended = devhost("--app", str(tmp_path / "none"), "--data", str(tmp_path / "d"))
    assert ended.returncode == 2 and "does not exist" in ended.stderr
    sample = host("chaining")
    port = sample.url.rpartition(":")[2]
    ended = devhost("--app", str(APPS / "chaining"), "--data", str(tmp_path / "other"), "--port", port)
    assert ended.returncode == 2 and f"Port {port} cannot be used" in ended.stderr and "Traceback" not in ended.stderr


def test_second_host_on_the_same_hub_is_refused(host: HostFactory) -> None:
    sample = host("chaining")
    with pytest.raises(HostError, match=f"Another host \\(pid {sample.pid}\\) runs on"):
        HostProcess(APPS / "chaining", sample.data).start()
    assert sample.call("GET", "/admin/host/status")[0] == 200


def test_hub_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "hub.sqlite").write_text("this is no database, " * 100)
    ended = devhost("--app", str(APPS / "chaining"), "--data", str(tmp_path), "--port", "0")
    assert ended.returncode == 2 and "cannot be opened (file is not a database)" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_host_ends_soon_though_an_activity_runs(host: HostFactory) -> None:
    sample = host("operations")
    instance = sample.begin("sleeps")
    eventually(lambda: sample.status(instance)["runtimeStatus"] == "Running")
    began = time.monotonic()
    assert sample.stop() == 0
    assert time.monotonic() - began < 5
    sample.start()
    assert sample.finish(instance) == "slept"


def test_list_prints_functions_triggers_and_routes() -> None:
    shown = devhost("list", "--app", str(APPS / "blueprint")).stdout.split()
    assert {"greet", "Ping", "GET", "/api/ping/{number:int}", "Greeting"} <= set(shown)
    bindings = json.loads(devhost("list", "--json", "--app", str(APPS / "blueprint")).stdout)
    assert bindings["say_activity"] == [
        {"direction": "IN", "type": "activityTrigger", "name": "names", "activity": "Say"}
    ]
    assert [b["type"] for b in bindings["greet"]] == ["durableClient", "httpTrigger", "http"]


def test_help_is_documentation() -> None:
    shown = devhost("--help").stdout
    assert all(word in shown for word in ("--reload", "hub.sqlite", "UseDevelopmentStorage=true", "/admin/host/status"))


def test_code_is_reloaded_when_it_changes(tmp_path: Path, host: HostFactory) -> None:
    app = write_app(tmp_path / "app", f"{HEAD}@app.route()\ndef a(req: func.HttpRequest) -> str:\n    return 'one'\n")
    sample = host(app, "--reload")
    assert sample.call("GET", "/api/a")[1] == "one"
    write_app(app, f"{HEAD}@app.route()\ndef a(req: func.HttpRequest) -> str:\n    return 'two'\n")

    def answer() -> str:
        try:
            return str(sample.call("GET", "/api/a")[1])
        except OSError:
            return ""

    eventually(lambda: answer() == "two")


def test_settings_of_the_file_yield_to_the_environment(tmp_path: Path, host: HostFactory) -> None:
    app = write_app(tmp_path / "app", f"{HEAD}import os\n@app.route()\ndef a(req: func.HttpRequest) -> str:\n"
                    "    return os.environ['ONE'] + os.environ['TWO'] + os.getcwd()\n")  # fmt: skip
    (app / "local.settings.sample.json").write_text('{"Values": {"ONE": "sample", "TWO": "sample"}}')
    assert host(app, TWO="real").call("GET", "/api/a")[1] == f"samplereal{app}"
    (app / "local.settings.json").write_text('{"Values": {"ONE": "local", "TWO": "local"}}')
    assert host(app).call("GET", "/api/a")[1] == f"locallocal{app}"


def test_what_is_not_modelled_is_named_at_start(tmp_path: Path, host: HostFactory) -> None:
    app = write_app(tmp_path / "app", f"{HEAD}@app.route()\n@app.retry(strategy='fixed_delay', max_retry_count='3', "
                    "delay_interval='00:00:01')\ndef a(req: func.HttpRequest) -> str:\n    return 'a'\n")  # fmt: skip
    (app / "host.json").write_text(json.dumps({"version": "2.0", "functionTimeout": "00:01:00", "extensions": {
        "http": {"routePrefix": "x", "hsts": {"isEnabled": True}}, "queues": {"batchSize": 4}}}))  # fmt: skip
    (app / "local.settings.json").write_text(json.dumps({"Values": {}, "Host": {"CORS": "*"}}))
    sample = host(app)
    (line,) = [line for line in sample.log.splitlines() if "not modelled" in line]
    for name in ("functionTimeout", "extensions.http.hsts.isEnabled", "local.settings.json Host.CORS",
                 "retry policy of a"):  # fmt: skip
        assert name in line, line
    assert "routePrefix" not in line and "batchSize" not in line
    assert sample.call("GET", "/x/a")[1] == "a"


def test_encrypted_settings_are_refused(tmp_path: Path) -> None:
    app = write_app(tmp_path / "app", HEAD)
    (app / "local.settings.json").write_text('{"IsEncrypted": true, "Values": {"A": "?"}}')
    ended = devhost("--app", str(app), "--data", str(tmp_path / "data"), "--port", "0")
    assert ended.returncode == 2 and "is encrypted" in ended.stderr


def test_state_file_tells_others_where_the_host_is(host: HostFactory) -> None:
    sample = host("chaining")
    state = sample.state
    assert (state.pid, state.url, state.azurite) == (sample.pid, sample.url, None)
    assert sample.stop() == 0 and not (sample.data / "host.json").exists()


def test_host_stays_small_and_its_lines_have_fields(host: HostFactory) -> None:
    sample = host("fan_out")
    assert sample.finish(sample.begin("total", {"count": 1000}, "big")) == sum(range(1000))
    resident = int(Path(f"/proc/{sample.pid}/status").read_text().partition("VmRSS:")[2].split()[0])
    assert resident < 100_000, f"{resident} KiB"
    line = next(line for line in sample.log.splitlines() if "devhost.durable orchestration" in line)
    assert "function=total" in line and "instance=big" in line and "status=Completed" in line


def test_full_disk_ends_the_host_with_one_line(tmp_path: Path, host: HostFactory) -> None:
    """A file-size limit on the process stands for the disk that is full."""
    sample = host("chaining")
    import resource

    resource.prlimit(sample.pid, resource.RLIMIT_FSIZE, (300_000, 300_000))
    for n in range(200):
        try:
            sample.call("POST", f"/api/orders/{'x' * 5000}?id=o{n}")
        except OSError:
            break
    eventually(lambda: not Path(f"/proc/{sample.pid}/status").exists() or "zombie" in
               Path(f"/proc/{sample.pid}/status").read_text())  # fmt: skip
    said = [line for line in sample.log.splitlines() if line.startswith("devhost:")]
    assert len(said) == 1 and "free some disk space" in said[0]
    assert os.environ.get("EFFECTS") is None
    sample.start()
    sample.finish("o0")


def test_host_that_is_not_ready_in_time_is_ended(tmp_path: Path) -> None:
    """Also when the caller is told to end while the host starts: nothing is left behind."""
    app = write_app(tmp_path / "app", f"{HEAD}import time\ntime.sleep(60)\n")
    host = HostProcess(app, tmp_path / "data")
    with pytest.raises(HostError, match="not ready after"):
        host.start(timeout=0.5)
    with pytest.raises(ProcessLookupError):
        os.kill(host.pid, 0)
