"""What one activity can see: results of activities that surely ended, variables, the item of its loop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from devhost.adf.expressions import MISSING, Bindings, evaluate, is_dynamic
from devhost.adf.factory import Activity

Result = dict[str, Any]


def ancestors(activities: tuple[Activity, ...]) -> dict[str, frozenset[str]]:
    """For each activity of a scope: the names of all that end before it starts."""
    direct = {a.name: {d.activity for d in a.depends_on} for a in activities}
    found: dict[str, frozenset[str]] = {}

    def reach(name: str) -> frozenset[str]:
        if name not in found:
            found[name] = frozenset(direct[name].union(*(reach(n) for n in direct[name])))
        return found[name]

    for name in direct:
        reach(name)
    return found


class Scope:
    """One level of a run: the pipeline itself, an iteration, a branch. Results of outer levels show through."""

    def __init__(
        self,
        *,
        pipeline: Mapping[str, Any],
        variables: dict[str, Any],
        outer: Mapping[str, Result] | None = None,
        item: Any = MISSING,
        path: tuple[str, ...] = (),
        iteration: str | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> None:
        self.pipeline = pipeline
        self.variables = variables
        self.item = item
        self.path = path
        self.iteration = iteration
        self.context = dict(context or {})
        self._outer = dict(outer or {})
        self._results: dict[str, Result] = {}
        self._inner: dict[str, dict[str, Result]] = {}

    def record(self, name: str, result: Result, inner: Mapping[str, Result] | None = None) -> None:
        """Note an ended activity's result, and those of its inner activities when it is a container."""
        self._results[name] = result
        if inner:
            self._inner[name] = dict(inner)

    def results(self) -> dict[str, Result]:
        """Everything that this level knows, inner results included; a nearer one hides a farther one."""
        found: dict[str, Result] = {}
        for inner in self._inner.values():
            found.update(inner)
        return {**found, **self._results}

    def seen_by(self, before: frozenset[str]) -> dict[str, Result]:
        """Results that an activity may read when these activities of the level end before it."""
        found = dict(self._outer)
        for name in before:
            found.update(self._inner.get(name, {}))
        return found | {name: self._results[name] for name in before if name in self._results}

    def inside(
        self,
        path: str,
        seen: Mapping[str, Result],
        *,
        item: Any = MISSING,
        iteration: str | None = None,
    ) -> Scope:
        """A level inside a container that sees these results; without an item the loop's item stays visible."""
        return Scope(
            pipeline=self.pipeline,
            variables=self.variables,
            outer=seen,
            item=self.item if item is MISSING else item,
            path=(*self.path, path),
            iteration=iteration or self.iteration,
            context=self.context,
        )

    def bindings(self, seen: Mapping[str, Result], *, item: Any = MISSING) -> Bindings:
        """What expressions evaluated here can see."""
        return Bindings(
            pipeline=self.pipeline,
            variables=self.variables,
            activities=seen,
            item=self.item if item is MISSING else item,
            context=self.context,
        )


def resolve(value: Any, bindings: Bindings) -> Any:
    """A JSON value with every expression in it evaluated. Raises ExpressionError.

    Expressions are `{"value": "...", "type": "Expression"}` (or `content`) and text with @ at its start or @{ in it.
    """
    if isinstance(value, str):
        return evaluate(value, bindings)
    if isinstance(value, list):
        return [resolve(part, bindings) for part in value]
    if isinstance(value, dict):
        if is_expression(value):
            return resolve(value.get("value", value.get("content")), bindings)
        return {key: resolve(part, bindings) for key, part in value.items()}
    return value


def is_expression(value: Any) -> bool:
    """True for a JSON value that is an `Expression` object."""
    return (
        isinstance(value, dict)
        and str(value.get("type", "")).lower() == "expression"
        and ("value" in value or "content" in value)
    )


def expressions_in(value: Any) -> Iterator[str]:
    """Every text with an expression in a JSON value."""
    if isinstance(value, str):
        if is_dynamic(value):
            yield value
    elif isinstance(value, list):
        for part in value:
            yield from expressions_in(part)
    elif isinstance(value, dict):
        inner = [value.get("value", value.get("content"))] if is_expression(value) else list(value.values())
        for part in inner:
            yield from expressions_in(part)
