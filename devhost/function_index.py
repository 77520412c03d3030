"""Loads a function_app.py and says what it holds; what would make a function vanish elsewhere is an error here.

The rules on parameters and annotations are those of the Python worker, so that what loads here loads on Azure.
"""

from __future__ import annotations

import importlib
import inspect
import json
import sys
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import GenericAlias
from typing import Any

from devhost.errors import AppLoadError

DURABLE_NOUNS = {"orchestrationTrigger": "orchestrator", "activityTrigger": "activity", "entityTrigger": "entity"}
_DURABLE_NAME = {"orchestrationTrigger": "orchestration", "activityTrigger": "activity", "entityTrigger": "entityName"}
SUPPORTED_TRIGGERS = frozenset({
    "httpTrigger", "timerTrigger", "queueTrigger", "blobTrigger", "eventGridTrigger", *DURABLE_NOUNS,
})  # fmt: skip
SUPPORTED_BINDINGS = frozenset({"http", "queue", "blob", "durableClient"})


@dataclass(frozen=True)
class Binding:
    """One binding of a function; `settings` are spelled as in function.json."""

    name: str
    type: str
    is_output: bool
    settings: dict[str, Any]


@dataclass(frozen=True)
class Function:
    """A function of the app, ready to be called."""

    name: str
    trigger: Binding
    bindings: tuple[Binding, ...]
    call: Callable[..., Any]
    is_async: bool
    wants_context: bool
    raw_bindings: list[dict[str, Any]]
    script_file: str
    annotations: dict[str, Any] = field(default_factory=dict)

    @property
    def outputs(self) -> list[Binding]:
        """Output bindings that are parameters."""
        return [b for b in self.bindings if b.is_output and b.name != "$return"]

    @property
    def inputs(self) -> list[Binding]:
        """Input bindings other than the trigger."""
        return [b for b in self.bindings if not b.is_output and b is not self.trigger]

    @property
    def return_binding(self) -> Binding | None:
        """The binding that takes the return value."""
        return next((b for b in self.bindings if b.name == "$return"), None)

    @property
    def durable_name(self) -> str:
        """Name that orchestrations use."""
        given = self.trigger.settings.get(_DURABLE_NAME.get(self.trigger.type, ""))
        return str(given or self.name)


class FunctionIndex:
    """The functions of an app, by name; names ignore case."""

    def __init__(self, functions: list[Function]) -> None:
        self.functions = functions
        self._by_name = {f.name.lower(): f for f in functions}
        self._durable: dict[str, dict[str, Function]] = {noun: {} for noun in DURABLE_NOUNS.values()}
        self._durable_names: dict[str, dict[str, str]] = {noun: {} for noun in DURABLE_NOUNS.values()}
        for function in functions:
            noun = DURABLE_NOUNS.get(function.trigger.type)
            if noun:
                self._durable[noun][function.durable_name.lower()] = function
                self._durable_names[noun][function.durable_name.lower()] = function.durable_name

    def find(self, name: str) -> Function | None:
        """Return the function of that name."""
        return self._by_name.get(name.lower())

    def durable_function(self, noun: str, name: str) -> Function:
        """Return an activity, orchestrator or entity; KeyError if the app has none of that name."""
        return self._durable[noun][name.lower()]

    def durable_names(self, noun: str) -> dict[str, str]:
        """Lower-case name -> name for all of a kind."""
        return self._durable_names[noun]

    def with_trigger(self, kind: str) -> list[Function]:
        """All functions with a kind of trigger."""
        return [f for f in self.functions if f.trigger.type == kind]


def load_app(app_dir: Path, environ: Mapping[str, str]) -> FunctionIndex:
    """Import the app and index it. The folder becomes the working directory's import root.

    Raises AppLoadError with the file, the line and the reason.
    """
    script = environ.get("PYTHON_SCRIPT_FILE_NAME") or "function_app.py"
    path = app_dir / script
    if not path.is_file():
        raise AppLoadError(f"{path} does not exist: --app names the folder that holds {script} and host.json.")
    sys.path.insert(0, str(app_dir))
    try:
        module = importlib.import_module(path.stem)
    except SyntaxError as problem:
        raise AppLoadError(f"{problem.filename}:{problem.lineno}: syntax error: {problem.msg}") from problem
    except Exception as problem:
        raise AppLoadError(f"{_place(problem, app_dir)}: {type(problem).__name__}: {problem}") from problem
    if Path(module.__file__ or "").resolve() != path.resolve():
        raise AppLoadError(f"{script} was imported from {module.__file__}, not from {path}: rename one of them.")
    return FunctionIndex([_function(item, script) for item in _declared(module, script, app_dir)])


def converter_of(kind: str) -> Any:
    """Return the Functions SDK's converter for a kind of binding, or None if it has none."""
    from azure.functions import get_binding_registry

    return get_binding_registry().get(kind)  # type: ignore[no-untyped-call]


def _declared(module: Any, script: str, app_dir: Path) -> list[Any]:
    from azure.functions import FunctionRegister

    found: dict[int, Any] = {}
    for name in dir(module):
        value = getattr(module, name, None)
        if isinstance(value, FunctionRegister):
            found[id(value)] = value
    if len(found) != 1:
        raise AppLoadError(f"{script}: {'More than one' if found else 'No'} top level function app instance is defined;"
                           " it must have exactly one, like `app = func.FunctionApp()`.")  # fmt: skip
    try:
        return list(next(iter(found.values())).get_functions())
    except Exception as problem:
        raise AppLoadError(f"{_place(problem, app_dir, script)}: {problem}") from problem


def _place(problem: BaseException, app_dir: Path, otherwise: str = "function_app.py") -> str:
    """File and line inside the app where an exception came from."""
    place = otherwise
    trace = problem.__traceback__
    while trace is not None:
        file = Path(trace.tb_frame.f_code.co_filename)
        if file.is_relative_to(app_dir) and ".venv" not in file.parts:
            place = f"{file.relative_to(app_dir)}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


def _function(declared: Any, script: str) -> Function:
    name = declared.get_function_name()
    call = declared.get_user_function()
    raw = [json.loads(text) for text in declared.get_raw_bindings()]
    bindings = tuple(
        Binding(b.name, b.type, b.direction == 1, as_json)
        for b, as_json in zip(declared.get_bindings(), raw, strict=True)
    )
    kind = declared.get_trigger().type
    trigger = next(b for b in bindings if b.type == kind and b.name == declared.get_trigger().name)
    parameters = list(inspect.signature(call).parameters)
    try:
        annotations = typing.get_type_hints(call)
    except Exception as problem:
        raise AppLoadError(f"{script}: cannot load the {name} function: unreadable annotations: {problem}") from problem
    wants_context = "context" in parameters and all(b.name != "context" for b in bindings)
    _check(name, script, parameters, annotations, bindings, wants_context=wants_context)
    is_async = inspect.iscoroutinefunction(call)
    return Function(name, trigger, bindings, call, is_async, wants_context, raw, script, annotations)


def _check(name: str, script: str, parameters: list[str], annotations: dict[str, Any], bindings: tuple[Binding, ...],
           *, wants_context: bool) -> None:  # fmt: skip
    def refuse(reason: str) -> typing.NoReturn:
        raise AppLoadError(f"{script}: cannot load the {name} function: {reason}")

    bound = {b.name: b for b in bindings if b.name != "$return"}
    declared = [p for p in parameters if not (wants_context and p == "context")]
    if set(declared) - set(bound):
        refuse("the following parameters are declared in Python but not in the function's decorators: "
               f"{sorted(set(declared) - set(bound))}")  # fmt: skip
    if set(bound) - set(declared):
        refuse("the following parameters are declared as bindings but are not present in Python: "
               f"{sorted(set(bound) - set(declared))}")  # fmt: skip
    if wants_context and "context" in annotations and getattr(annotations["context"], "__name__", "") != "Context":
        refuse(f'"context" is expected to be of type azure.functions.Context, got {annotations["context"]!r}')
    for binding in bound.values():
        problem = _annotation_problem(binding, annotations)
        if problem:
            refuse(problem)
        if binding.type not in SUPPORTED_BINDINGS | SUPPORTED_TRIGGERS and not binding.type.endswith("Trigger"):
            refuse(f"its binding {binding.name!r} of type {binding.type!r} is not supported by this host")
    if any(b.name == "$return" for b in bindings) and "return" in annotations:
        returns = annotations["return"]
        if not isinstance(returns, type) or isinstance(returns, GenericAlias):
            refuse(f"has invalid non-type return annotation {returns!r}")


def _annotation_problem(binding: Binding, annotations: dict[str, Any]) -> str | None:
    """Say what the worker would refuse about a parameter's annotation."""
    if binding.name not in annotations:
        return None
    annotation = annotations[binding.name]
    origin = typing.get_origin(annotation)
    is_out = getattr(origin or annotation, "__name__", "") == "Out"
    if binding.is_output != is_out:
        wanted, got = ("out", "not azure.functions.Out") if binding.is_output else ("in", "azure.functions.Out")
        return f'binding {binding.name} has the "{wanted}" direction, but its annotation is {got}'
    inner = typing.get_args(annotation)[0] if is_out and typing.get_args(annotation) else annotation
    generic = not isinstance(inner, GenericAlias) and isinstance(inner, typing._GenericAlias)  # type: ignore[attr-defined]
    generic = generic and typing.get_origin(inner) is not typing.Union
    if (not isinstance(inner, type) or isinstance(inner, GenericAlias)) and not generic:
        return f"binding {binding.name} has invalid non-type annotation {annotation!r}"
    if binding.is_output or generic or (inner in (str, bytes)):
        return None
    converter = converter_of(binding.type)
    if converter is not None and not converter.check_input_type_annotation(inner):
        return f'{binding.name}, a "{binding.type}", does not match its Python annotation "{inner.__name__}"'
    return None
