"""Routes like those of HTTP triggers: literals, {name}, {name?}, {*rest}, constraints; the most specific one wins."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from typing import Generic, TypeVar
from urllib.parse import unquote

from devhost.errors import AppLoadError

Target = TypeVar("Target")
_FLOAT = r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?"
_PATTERNS = {
    "int": r"-?\d+", "long": r"-?\d+", "alpha": r"[A-Za-z]*", "bool": r"(?i:true|false)", "required": r".+",
    "guid": r"[0-9A-Fa-f]{8}-?(?:[0-9A-Fa-f]{4}-?){3}[0-9A-Fa-f]{12}", "decimal": r"-?\d+(?:\.\d+)?",
    "double": _FLOAT, "float": _FLOAT, "datetime": r"\d{1,4}[-/].*",
}  # fmt: skip
_RULES: dict[str, Callable[..., bool]] = {  # ValueError: the value is no number
    "length": lambda value, low, high=None: int(low) <= len(value) <= int(high or low),
    "minlength": lambda value, low: len(value) >= int(low),
    "maxlength": lambda value, high: len(value) <= int(high),
    "min": lambda value, low: int(value) >= int(low),
    "max": lambda value, high: int(value) <= int(high),
    "range": lambda value, low, high: int(low) <= int(value) <= int(high),
    "regex": lambda value, pattern: re.search(pattern, value, re.IGNORECASE) is not None,
    **{name: lambda value, *_, form=form: re.fullmatch(form, value) is not None for name, form in _PATTERNS.items()},
}
_SLASH_IN_SEGMENT = "\0"  # stands for %2F while a path is matched


class RouteTable(Generic[Target]):
    """Targets by methods (none: all) and route template. AppLoadError if a template cannot be read."""

    def __init__(self, routes: Iterable[tuple[Collection[str], str, Target]]) -> None:
        read = [(_Template(template), methods, target) for methods, template, target in routes]
        self._routes = sorted(read, key=lambda route: (route[0].ranks, route[0].text))

    def find(self, method: str, path: str) -> tuple[Target, dict[str, str]] | None:
        """Target and values of the first route that fits an encoded path."""
        segments = path.strip("/").split("/") if path.strip("/") else []
        decoded = "".join("/" + unquote(segment).replace("/", _SLASH_IN_SEGMENT) for segment in segments)
        for template, methods, target in self._routes:
            if not methods or method in methods:
                values = template.match(decoded)
                if values is not None:
                    return target, values
        return None


class _Template:
    """A template as a regular expression over the path's decoded segments, each with a slash before it."""

    def __init__(self, template: str) -> None:
        self.text = template.strip("/")
        self.ranks: list[int] = []  # of its segments, smaller is more specific
        self._rules: list[tuple[str, str, list[str]]] = []  # name, constraint, its limits
        pattern = "".join(self._segment(segment) for segment in self.text.split("/")) if self.text else ""
        self._pattern = re.compile(pattern, re.IGNORECASE)

    def _segment(self, text: str) -> str:
        text = text.replace("{{", "\1").replace("}}", "\2")  # doubled braces stand for themselves
        whole = re.fullmatch(r"\{(\*{0,2})(\w+)((?::[^{}]+?)?)(\??)\}", text)
        if whole is None:
            return self._literal(text)
        stars, name, rules, optional = whole.groups()
        for rule, quoted in re.findall(r":(\w+)(?:\((.*?)\))?(?=:|$)", rules):
            if rule not in _RULES:
                raise AppLoadError(f"The route {self.text!r} uses the unknown constraint {rule!r}.")
            limits = quoted.replace("\1", "{").replace("\2", "}")
            self._rules.append((name, rule, [limits] if rule == "regex" or not limits else limits.split(",")))
        self.ranks.append(4 if stars else 2 if rules else 3)
        value = f"/(?P<{name}>{'.*' if stars else '[^/]+'})"
        return f"(?:{value})?" if stars or optional else value

    def _literal(self, text: str) -> str:
        pieces = re.split(r"\{(\w+)\}", text)
        if any("{" in piece or "}" in piece for piece in pieces[::2]):
            raise AppLoadError(f"The route {self.text!r} cannot be read at {text!r}.")
        self.ranks.append(1 if len(pieces) > 1 else 0)
        return "/" + "".join(f"(?P<{p}>[^/]+?)" if i % 2 else re.escape(p) for i, p in enumerate(pieces))

    def match(self, decoded: str) -> dict[str, str] | None:
        found = self._pattern.fullmatch(decoded)
        if found is None:
            return None
        values = {k: v.replace(_SLASH_IN_SEGMENT, "/") for k, v in found.groupdict().items() if v is not None}
        fits = all(_accepts(rule, limits, values[name]) for name, rule, limits in self._rules if name in values)
        return values if fits else None


def _accepts(rule: str, limits: list[str], value: str) -> bool:
    try:
        return _RULES[rule](value, *limits)
    except ValueError:
        return False
