"""Reads a one-step pipeline YAML and its component the way Azure ML does, without its SDK (2 s of CPU to import).

    pipelines/train.yml --azureml:train_segment:3--> components/train_segment/component.yml (version must be 3)

The YAML is the one source of what runs; here a JobSpec's values are only put into its places. Both platforms check a
job with it before they take it. A pipeline file of Azure ML cannot declare an optional input, so an input that the
component declares and the pipeline does not may come with the job; it is then bound to the step under its own name.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from domain.errors import BadRequest, JobRejected
from domain.job_states import JobSpec
from domain.lake_paths import parse_datastore_uri

_REFERENCE = re.compile(r"^azureml:([a-z0-9_.-]+):([A-Za-z0-9_.-]+)$")
_PARENT = re.compile(r"^\$\{\{\s*parent\.(inputs|outputs)\.([A-Za-z_]\w*)\s*\}\}$")
_PLACE = re.compile(r"\$\{\{\s*(inputs|outputs)\.([A-Za-z_]\w*)\s*\}\}")
_OPTIONAL = re.compile(r"\$\[\[(.*?)\]\]", re.DOTALL)
_NUMBERS: dict[str, tuple[type, ...]] = {"integer": (int,), "number": (int, float)}


@dataclass(frozen=True)
class Launch:
    """Everything that a runner needs to know about a job; no YAML is read after submission."""

    component: str  # azureml:NAME:VERSION
    command: str  # with its ${{...}} places
    code: str  # folder that the command runs in
    literals: dict[str, str]  # input -> text
    folders: dict[str, str]  # input -> datastore URI
    outputs: dict[str, str]  # output -> datastore URI

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return dict(vars(self))


def pipeline_file(project: Path, spec: JobSpec) -> Path:
    """Return the pipeline YAML of a job."""
    return project / "ml_jobs" / "pipelines" / f"{spec.pipeline}.yml"


def step_bindings(project: Path, spec: JobSpec) -> dict[str, str]:
    """Return what the pipeline's step lacks for inputs that only the job brings: path in the YAML -> binding."""
    pipeline = _read_yaml(pipeline_file(project, spec), spec)
    name, _ = _only_step(spec, pipeline)
    extra = [key for key in spec.inputs if key not in (pipeline.get("inputs") or {})]
    return {f"jobs.{name}.inputs.{key}": f"${{{{parent.inputs.{key}}}}}" for key in extra}


def load_launch(project: Path, spec: JobSpec) -> Launch:
    """Join a job's values with its pipeline and component; raise JobRejected naming what does not fit."""
    pipeline = _read_yaml(pipeline_file(project, spec), spec)
    _, step = _only_step(spec, pipeline)
    reference = str(step.get("component", ""))
    folder = project / "ml_jobs" / "components"
    component_file, component = _component(folder, reference, spec)
    literals, folders = _inputs(spec, *(part.get("inputs") or {} for part in (pipeline, step, component)))
    outputs = _outputs(spec, step.get("outputs") or {}, component.get("outputs") or {})
    code = (component_file.parent / component.get("code", ".")).resolve()
    if not code.is_dir():
        raise _rejected(spec, f"{component_file} names the code folder {code}, which does not exist")
    launch = Launch(reference, str(component.get("command", "")), str(code), literals, folders, outputs)
    command_line(launch, dict.fromkeys(folders, "x"), dict.fromkeys(outputs, "x"), spec.name)
    return launch


def _only_step(spec: JobSpec, pipeline: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    steps: dict[str, Any] = pipeline.get("jobs") or {}
    if len(steps) != 1:
        raise _rejected(spec, f"{spec.pipeline}.yml has {len(steps)} steps; the platforms run one-step pipelines")
    return next(iter(steps.items()))


def command_line(launch: Launch, inputs: Mapping[str, str], outputs: Mapping[str, str], job: str = "") -> str:
    """Return the command with every place filled (quoted for the shell); `inputs` are the local folders.

    A `$[[ ... ]]` group is dropped when an input inside it has no value. Raise JobRejected for a place without value.
    """
    values = {"inputs": {**launch.literals, **inputs}, "outputs": dict(outputs)}

    def fill(match: re.Match[str]) -> str:
        kind, name = match[1], match[2]
        if name not in values[kind]:
            text = f"the command of {launch.component} wants {kind}.{name}, which has no value"
            raise JobRejected(text, job=job, field=name)
        return shlex.quote(values[kind][name])

    def group(match: re.Match[str]) -> str:
        wanted = [(place[1], place[2]) for place in _PLACE.finditer(match[1])]
        return match[1] if all(name in values[kind] for kind, name in wanted) else ""

    return _PLACE.sub(fill, _OPTIONAL.sub(group, launch.command)).strip()


def _component(folder: Path, reference: str, spec: JobSpec) -> tuple[Path, dict[str, Any]]:
    match = _REFERENCE.match(reference)
    if not match:
        raise _rejected(spec, f"{spec.pipeline}.yml must name its component as azureml:NAME:VERSION, not {reference!r}")
    component_file = folder / match[1] / "component.yml"
    component = _read_yaml(component_file, spec)
    wanted, found = f"{match[1]}:{match[2]}", f"{component.get('name')}:{component.get('version')}"
    if found != wanted:
        raise _rejected(spec, f"{spec.pipeline}.yml wants component {wanted}, {component_file} is {found}")
    return component_file, component


def _inputs(
    spec: JobSpec, of_pipeline: Mapping[str, Any], of_step: Mapping[str, Any], of_component: Mapping[str, Any]
) -> tuple[dict[str, str], dict[str, str]]:
    unknown = sorted(set(spec.inputs) - set(of_pipeline) - set(of_component))
    if unknown:
        known = ", ".join(sorted({*of_pipeline, *of_component}))
        raise _rejected(spec, f"{spec.pipeline}.yml has no input {', '.join(unknown)}; it has {known}")
    literals: dict[str, str] = {}
    folders: dict[str, str] = {}
    for name, declared in of_component.items():
        value = _value(spec, of_step[name], of_pipeline) if name in of_step else spec.inputs.get(name)
        if value is None:
            value = declared.get("default")
        if value is None:
            if not declared.get("optional"):
                raise _rejected(spec, f"input {name} of {spec.pipeline}.yml has no value", field=name)
            continue
        if str(declared.get("type", "")).startswith("uri_"):
            folders[name] = _checked_uri(spec, name, value)
        else:
            numbers = _NUMBERS.get(str(declared.get("type")))
            if numbers and (isinstance(value, bool) or not isinstance(value, numbers)):
                text = f"input {name} must be {declared['type']}, not {value!r}"
                raise _rejected(spec, text, field=name, value=value)
            choices = declared.get("enum")
            if choices and value not in choices:
                text = f"input {name} must be one of {', '.join(map(str, choices))}, not {value!r}"
                raise _rejected(spec, text, field=name, value=value)
            literals[name] = str(value).lower() if isinstance(value, bool) else str(value)
    undeclared = sorted(set(of_step) - set(of_component))
    if undeclared:
        raise _rejected(spec, f"{spec.pipeline}.yml gives its component undeclared inputs: {', '.join(undeclared)}")
    return literals, folders


def _value(spec: JobSpec, given: Any, of_pipeline: Mapping[str, Any]) -> Any:
    """A step's input: a literal, or a binding to the pipeline's input (the job's value, else the default)."""
    match = _PARENT.match(given) if isinstance(given, str) else None
    if not match:
        return given
    name = match[2]
    if name not in of_pipeline:
        raise _rejected(spec, f"{spec.pipeline}.yml binds a step to its input {name}, which it does not declare")
    if name in spec.inputs:
        return spec.inputs[name]
    declared = of_pipeline[name]
    if isinstance(declared, dict):
        return declared.get("default", declared.get("path"))
    return declared


def _outputs(spec: JobSpec, of_step: Mapping[str, Any], of_component: Mapping[str, Any]) -> dict[str, str]:
    outputs: dict[str, str] = {}
    for name in of_component:
        match = _PARENT.match(str(of_step.get(name, "")))
        if not match or match[2] not in spec.outputs:
            raise _rejected(spec, f"output {name} of {spec.pipeline}.yml has no destination", field=name)
        outputs[name] = _checked_uri(spec, name, spec.outputs[match[2]])
    unknown = sorted(set(spec.outputs) - {match[2] for text in of_step.values() if (match := _PARENT.match(str(text)))})
    if unknown:
        raise _rejected(spec, f"{spec.pipeline}.yml has no output {', '.join(unknown)}")
    return outputs


def _checked_uri(spec: JobSpec, name: str, value: Any) -> str:
    try:
        parse_datastore_uri(str(value))
    except BadRequest as error:
        raise _rejected(spec, f"{name}: {error.message}", field=name, value=value) from error
    return str(value)


def _read_yaml(path: Path, spec: JobSpec) -> dict[str, Any]:
    try:
        stamp = path.stat().st_mtime_ns
    except OSError as error:
        raise _rejected(spec, f"{path} does not exist") from error
    return _parsed(path, stamp)


@lru_cache(maxsize=64)
def _parsed(path: Path, stamp: int) -> dict[str, Any]:  # noqa: ARG001 - the stamp makes an edited file another key
    import yaml

    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(document, dict):
        raise JobRejected(f"{path} is not a YAML mapping", file=str(path))
    return document


def _rejected(spec: JobSpec, message: str, **fields: Any) -> JobRejected:
    return JobRejected(f"job {spec.name}: {message}", job=spec.name, **fields)
