"""Loads a function_app.py and says what it holds; what would make a function vanish elsewhere is an error here.

The rules on parameters and annotations are those of the Python worker, so that what loads here loads on Azure.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import sys
import traceback
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import GenericAlias
from typing import Any

import azure.functions as func

from devhost.app_settings import resolve
from devhost.errors import AppLoadError, UnknownFunction

# Durable triggers: what orchestrations call such a function, and the setting that may name it.
_DURABLE = {
    "orchestrationTrigger": ("orchestrator", "orchestration"), "activityTrigger": ("activity", "activity"),
    "entityTrigger": ("entity", "entityName"),
}  # fmt: skip
_TRIGGERS = {"httpTrigger", "timerTrigger", "queueTrigger", "blobTrigger", "eventGridTrigger", *_DURABLE}
_BINDINGS = {"http", "queue", "blob", "durableClient"}


@dataclass(frozen=True)
class Binding:
    """One binding of a function; `settings` are spelled as in function.json."""

    name: str
    type: str
    is_output: bool
    settings: dict[str, Any]

    @property
    def connection(self) -> str:
        """Name of the setting with the connection string."""
        return str(self.settings.get("connection") or "AzureWebJobsStorage")

    def text(self, setting: str) -> str:
        """A setting with its %NAME% filled in. AppLoadError names one that is not set."""
        return resolve(str(self.settings[setting]), os.environ, f"{setting} of the binding {self.name!r}")


@dataclass(frozen=True)
class Function:
    """A function of the app, ready to be called."""

    name: str
    trigger: Binding
    bindings: tuple[Binding, ...]
    call: Callable[..., Any]
    is_async: bool
    wants_context: bool
    retries: bool
    raw_bindings: list[dict[str, Any]]
    script_file: str
    annotations: dict[str, Any]

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
    def route(self) -> str:
        """Route of an HTTP trigger below the prefix, without slashes around it."""
        return str(self.trigger.settings.get("route") or self.name).strip("/")

    @property
    def methods(self) -> list[str]:
        """Methods of an HTTP trigger in capitals; none: all."""
        return [str(method).upper() for method in self.trigger.settings.get("methods") or ()]

    @property
    def is_disabled(self) -> bool:
        """Whether the app setting AzureWebJobs.NAME.Disabled (or with underscores, as Linux plans spell it) says so."""
        spelled = {f"azurewebjobs.{self.name}.disabled".lower(), f"azurewebjobs_{self.name}_disabled".lower()}
        found = [value.strip().lower() for key, value in os.environ.items() if key.lower() in spelled]
        return "true" in found or "1" in found

    @property
    def durable_name(self) -> str:
        """Name that orchestrations use."""
        _, setting = _DURABLE.get(self.trigger.type, ("", ""))
        return str(self.trigger.settings.get(setting) or self.name)


class FunctionIndex:
    """The functions of an app, by name; names ignore case."""

    def __init__(self, functions: list[Function]) -> None:
        self.functions = functions
        self._by_name = {f.name.lower(): f for f in functions}
        self._durable = {
            (_DURABLE[f.trigger.type][0], f.durable_name.lower()): f for f in functions if f.trigger.type in _DURABLE
        }

    def find(self, name: str) -> Function | None:
        """Return the function of that name."""
        return self._by_name.get(name.lower())

    def durable(self, noun: str, name: str) -> Function:
        """Return the activity, orchestrator or entity that orchestrations know by a name; raises UnknownFunction."""
        function = self._durable.get((noun, name.lower()))
        if function is None:
            known = sorted(f"'{f.durable_name}'" for (kind, _), f in self._durable.items() if kind == noun)
            raise UnknownFunction(
                f"The function '{name}' doesn't exist, is disabled, or is not an {noun} function. Additional info: "
                f"The following are the known {noun} functions: {', '.join(known) or 'none'}."
            )
        return function

    def with_trigger(self, kind: str) -> list[Function]:
        """All functions with a kind of trigger; a disabled one is not triggered, only run by its admin route."""
        return [f for f in self.functions if f.trigger.type == kind and not f.is_disabled]

    @property
    def not_modelled(self) -> list[str]:
        """What the app asks for and this host does not do."""
        triggers = [f for f in self.functions if f.trigger.type not in _TRIGGERS]
        return [
            *(f"{f.trigger.type} of {f.name} (run it by POST /admin/functions/{f.name})" for f in triggers),
            *(f"retry policy of {f.name}" for f in self.functions if f.retries),
        ]


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
        if Path(module.__file__ or "").resolve() != path.resolve():
            raise ImportError(f"{script} was imported from {module.__file__}, not from {path}: rename one of them.")
        declared = _declared(module)
    except SyntaxError as problem:
        raise AppLoadError(f"{problem.filename}:{problem.lineno}: syntax error: {problem.msg}") from problem
    except Exception as problem:
        place = _place(problem, app_dir) or script
        raise AppLoadError(f"{place}: {type(problem).__name__}: {problem}") from problem
    return FunctionIndex([_function(item, script) for item in declared])


def converter_of(kind: str) -> Any:
    """Return the Functions SDK's converter for a kind of binding, or None if it has none."""
    return func.get_binding_registry().get(kind)  # type: ignore[no-untyped-call]


def _declared(module: Any) -> list[Any]:
    found = {id(value): value for value in vars(module).values() if isinstance(value, func.FunctionRegister)}
    if len(found) != 1:
        raise TypeError(f"{'More than one' if found else 'No'} top level function app instance is defined;"
                        " it must have exactly one, like `app = func.FunctionApp()`.")  # fmt: skip
    return list(next(iter(found.values())).get_functions())


def _place(problem: BaseException, app_dir: Path) -> str:
    """File and line inside the app where an exception came from; empty if it did not."""
    frames = [(Path(frame.filename), frame.lineno) for frame in traceback.extract_tb(problem.__traceback__)]
    inside = [(file, line) for file, line in frames if file.is_relative_to(app_dir) and ".venv" not in file.parts]
    return f"{inside[-1][0].relative_to(app_dir)}:{inside[-1][1]}" if inside else ""


def _function(declared: Any, script: str) -> Function:
    name, call, declared_trigger = declared.get_function_name(), declared.get_user_function(), declared.get_trigger()
    raw = [json.loads(text) for text in declared.get_raw_bindings()]
    bindings = tuple(
        Binding(b.name, b.type, b.direction == 1, settings)
        for b, settings in zip(declared.get_bindings(), raw, strict=True)
    )
    trigger = next(b for b in bindings if (b.type, b.name) == (declared_trigger.type, declared_trigger.name))
    parameters = set(inspect.signature(call).parameters)
    wants_context = "context" in parameters and all(b.name != "context" for b in bindings)
    try:
        annotations = typing.get_type_hints(call)
        _check(parameters - {"context"} if wants_context else parameters, annotations, bindings)
        if wants_context and getattr(annotations.get("context", func.Context), "__name__", "") != "Context":
            raise TypeError(f'"context" must be of type azure.functions.Context, got {annotations["context"]!r}')
    except Exception as problem:
        raise AppLoadError(f"{script}: cannot load the {name} function: {problem}") from problem
    retries = bool(declared.get_settings_dict("retry_policy"))
    return Function(name, trigger, bindings, call, inspect.iscoroutinefunction(call), wants_context, retries, raw,
                    script, annotations)  # fmt: skip


def _check(parameters: set[str], annotations: dict[str, Any], bindings: tuple[Binding, ...]) -> None:
    """Raise TypeError for what the worker refuses: parameters without bindings, annotations that do not fit."""
    bound = {b.name for b in bindings} - {"$return"}
    missing = "the following parameters are declared"
    if parameters - bound:
        raise TypeError(f"{missing} in Python but not in the function's decorators: {sorted(parameters - bound)}")
    if bound - parameters:
        raise TypeError(f"{missing} as bindings but are not present in Python: {sorted(bound - parameters)}")
    for binding in bindings:
        if binding.type not in _BINDINGS | _TRIGGERS and not binding.type.endswith("Trigger"):
            raise TypeError(f"its binding {binding.name!r} of type {binding.type!r} is not supported by this host")
        if binding.name in annotations:
            _check_annotation(binding, annotations[binding.name])
        elif binding.name == "$return" and not _is_type(annotations.get("return", str)):
            raise TypeError(f"it has the invalid non-type return annotation {annotations['return']!r}")


def _check_annotation(binding: Binding, annotation: Any) -> None:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    is_out = getattr(origin or annotation, "__name__", "") == "Out"
    if binding.is_output != is_out:
        wanted, got = ("out", "not azure.functions.Out") if binding.is_output else ("in", "azure.functions.Out")
        raise TypeError(f'binding {binding.name} has the "{wanted}" direction, but its annotation is {got}')
    inner = arguments[0] if is_out and arguments else annotation
    generic = not isinstance(inner, GenericAlias) and isinstance(inner, typing._GenericAlias)  # type: ignore[attr-defined]
    generic = generic and typing.get_origin(inner) is not typing.Union
    if not _is_type(inner) and not generic:
        raise TypeError(f"binding {binding.name} has invalid non-type annotation {annotation!r}")
    converter = converter_of(binding.type)
    free = binding.is_output or generic or inner in (str, bytes) or converter is None
    if not free and not converter.check_input_type_annotation(inner):
        raise TypeError(f'{binding.name}, a "{binding.type}", does not match its Python annotation "{inner.__name__}"')


def _is_type(annotation: Any) -> bool:
    return isinstance(annotation, type) and not isinstance(annotation, GenericAlias)
