"""Expressions are Microsoft's; here is what we add around the engine."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from devhost.adf.errors import ExpressionError
from devhost.adf.expressions import Bindings, evaluate, parse
from devhost.adf.scope import resolve

ROOT = Path(__file__).parents[2]
TRIGGER = {"scheduledTime": "2017-01-02T12:00:00Z", "outputs": {"windowStartTime": "2017-01-02T00:00:00Z"}}
SEEN = Bindings(
    pipeline={"RunId": "r1", "parameters": {"list": [1, 2], "object": {"k": 'a "b"'}, "text": "x"}},
    variables={"v": ["a"]},
    activities={"Step one": {"output": {"n": 1, "none": None}, "status": "Succeeded"}},
    item={"name": "it"},
    context={"trigger": TRIGGER, "triggerBody": {"fileName": "f.csv"}, "dataset": {"path": "p"}},
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", "plain"),
        ("someone@example.com", "someone@example.com"),
        ("@@text", "@text"),
        ("@@{text}", "@{text}"),
        ("@pipeline().parameters.list", [1, 2]),
        ("@{pipeline().parameters.list}", "[1,2]"),
        ("run @{pipeline().RunId}, @{item().name}", "run r1, it"),
        ("@activity('Step one').output.n", 1),
        ("@activity('step ONE').Status", "Succeeded"),
        ("@activity('Step one').output?.missing", None),
        ("@coalesce(activity('Step one').output.none, 'else')", "else"),
        ('{"o": @{pipeline().parameters.object}, "v": @{variables(\'v\')}}', '{"o": {"k":"a \\"b\\""}, "v": ["a"]}'),
        ("@trigger().scheduledTime", "2017-01-02T12:00:00Z"),
        ("@{trigger().outputs.windowStartTime}", "2017-01-02T00:00:00Z"),
        ("@concat('trigger()', triggerBody().fileName)", "trigger()f.csv"),
        ("trigger() @{'trigger()'} @{ triggerBody( ).fileName }", "trigger() trigger() f.csv"),
        ("@dataset().path", "p"),
        ("@convertFromUtc('2017-07-03T11:00:00Z', 'Central Standard Time')", "2017-07-03T06:00:00.0000000"),
    ],
)
def test_a_text_gives(text: str, value: object) -> None:
    assert evaluate(text, SEEN) == value


@pytest.mark.parametrize("item", [0, "", False, None, [], {}])
def test_an_item_may_be_anything(item: object) -> None:
    assert evaluate("@item()", Bindings(item=item)) == item


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("@item()", "'item' is not expected"),
        ("@nope()", "'nope' is not defined"),
        ("@concat('a'", "Unable to parse"),
        ("@activity('Other').output", "The output of activity 'Other' can't be referenced"),
        ("@variables('w')", "variable 'w' cannot be found"),
        ("@pipeline().parameters.missing", "property 'missing' doesn't exist"),
        ("@trigger().scheduledTime", "trigger() is not known here"),
    ],
)
def test_a_wrong_expression_is_named_with_its_text(text: str, message: str) -> None:
    with pytest.raises(ExpressionError) as error:
        evaluate(text, Bindings(pipeline={"parameters": {}}))
    assert message in str(error.value)
    assert text in str(error.value)


def test_expressions_are_found_wherever_they_stand() -> None:
    value = {"a": ["@item().name", {"b": {"value": "@{item().name}!", "type": "Expression"}}], "type": "x", "n": 1}
    assert resolve(value, SEEN) == {"a": ["it", {"b": "it!"}], "type": "x", "n": 1}
    assert resolve({"content": "@add(1, 1)", "type": "Expression"}, SEEN) == 2
    assert resolve({"value": False, "type": "Expression"}, SEEN) is False


def test_the_tree_of_an_expression_names_functions_and_reads() -> None:
    tree = parse("@concat(activity('A').output.rows[0]?['x'], variables('v'))")
    read = tree.arguments[0]
    assert (tree.value, read.value, read.keys()) == ("concat", "activity", ("output", "rows", 0, "x"))
    assert [node.value for node in parse("@triggerBody().fileName").walk() if node.kind == "call"] == ["triggerBody"]


def test_threads_may_evaluate_at_the_same_time() -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: evaluate("@add(item(), 1)", Bindings(item=n)), range(400)))
    assert found == list(range(1, 401))


def test_a_machine_without_the_engine_is_told_what_to_do(tmp_path: Path) -> None:
    code = (
        "from devhost.adf.runner import load_engine, ExpressionEngineUnavailable\n"
        "try: load_engine()\n"
        "except ExpressionEngineUnavailable as error: print(error)\n"
    )
    environment = {**os.environ, "DOTNET_ROOT": str(tmp_path), "PYTHONPATH": str(ROOT)}
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert "expression engine cannot be loaded" in told.stdout
    assert "pip install data-factory-testing-framework" in told.stdout


def test_loading_the_engine_leaves_the_process_its_signals() -> None:
    """.NET takes SIGTERM for itself; whoever ends a pipeline run by it must end what the run has started."""
    code = (
        "import os, signal\n"
        "from devhost.adf.expressions import evaluate, load_engine, Bindings\n"
        "signal.signal(signal.SIGTERM, signal.default_int_handler)\n"
        "load_engine()\n"
        "try:\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    signal.pause()\n"
        "except KeyboardInterrupt:\n"
        "    print(evaluate('@toUpper(pipeline().RunId)', Bindings(pipeline={'RunId': 'ended in order'})))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.stdout.strip() == "ENDED IN ORDER", ended
