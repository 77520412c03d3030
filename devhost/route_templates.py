"""Route templates of HTTP triggers: literals, {name}, {name?}, {*rest} and the usual constraints; literals win."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from urllib.parse import unquote

from devhost.errors import AppLoadError

_PATTERNS = {
    "int": r"-?\d+", "long": r"-?\d+", "alpha": r"[A-Za-z]*", "bool": r"(?i:true|false)",
    "guid": r"[0-9A-Fa-f]{8}-?(?:[0-9A-Fa-f]{4}-?){3}[0-9A-Fa-f]{12}", "decimal": r"-?\d+(?:\.\d+)?",
    "double": r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?", "float": r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?",
    "datetime": r"\d{1,4}[-/].*", "required": r".+",
}  # fmt: skip
_LIMITS: dict[str, Callable[[str, list[str]], bool]] = {
    "length": lambda v, a: len(v) == int(a[0]) if len(a) == 1 else int(a[0]) <= len(v) <= int(a[1]),
    "minlength": lambda v, a: len(v) >= int(a[0]),
    "maxlength": lambda v, a: len(v) <= int(a[0]),
    "min": lambda v, a: v.lstrip("-").isdigit() and int(v) >= int(a[0]),
    "max": lambda v, a: v.lstrip("-").isdigit() and int(v) <= int(a[0]),
    "range": lambda v, a: v.lstrip("-").isdigit() and int(a[0]) <= int(v) <= int(a[1]),
    "regex": lambda v, a: re.search(",".join(a), v) is not None,
}


@dataclass(frozen=True)
class _Part:
    literal: re.Pattern[str] | None
    name: str
    constraints: tuple[tuple[str, tuple[str, ...]], ...]
    optional: bool
    rest: bool

    @property
    def rank(self) -> int:
        """Smaller is more specific."""
        if self.literal is not None:
            return 0 if not self.literal.groups else 1
        return 4 if self.rest else 2 if self.constraints else 3

    def accepts(self, value: str) -> bool:
        return all(
            re.fullmatch(_PATTERNS[rule], value) is not None if rule in _PATTERNS else _LIMITS[rule](value, list(limit))
            for rule, limit in self.constraints
        )


class RouteTemplate:
    """One route below the prefix. AppLoadError if it cannot be read."""

    def __init__(self, template: str) -> None:
        self.template = template.strip("/")
        self._parts = [self._part(text) for text in self.template.split("/")] if self.template else []

    def _part(self, text: str) -> _Part:
        text = text.replace("{{", "\1").replace("}}", "\2")  # doubled braces stand for themselves
        whole = re.fullmatch(r"\{(\*{0,2})(\w+)((?::[^{}]+?)?)(\?)?\}", text)
        if whole is not None:
            stars, name, rules, optional = whole.groups()
            constraints = []
            for rule in re.findall(r":(\w+)(?:\((.*?)\))?(?=:|$)", rules):
                if rule[0] not in _PATTERNS and rule[0] not in _LIMITS:
                    raise AppLoadError(f"The route {self.template!r} uses the unknown constraint {rule[0]!r}.")
                limits = rule[1].replace("\1", "{").replace("\2", "}").split(",") if rule[1] else []
                constraints.append((rule[0], tuple(a.strip() for a in limits)))
            return _Part(None, name, tuple(constraints), bool(optional) or bool(stars), bool(stars))
        pieces = re.split(r"\{(\w+)\}", text)
        if any("{" in piece or "}" in piece for piece in pieces[::2]):
            raise AppLoadError(f"The route {self.template!r} cannot be read at {text!r}.")
        pattern = "".join(re.escape(p) if i % 2 == 0 else f"(?P<{p}>[^/]+?)" for i, p in enumerate(pieces))
        return _Part(re.compile(pattern, re.IGNORECASE), "", (), False, False)

    @property
    def precedence(self) -> tuple[int, ...]:
        """Order in which templates are tried."""
        return tuple(part.rank for part in self._parts)

    def match(self, path: str) -> dict[str, str] | None:
        """Values of a path that fits, else None."""
        given = [unquote(piece) for piece in path.strip("/").split("/")] if path.strip("/") else []
        values: dict[str, str] = {}
        for at, part in enumerate(self._parts):
            if part.rest:
                values[part.name] = "/".join(given[at:])
                return values
            if at >= len(given):
                if not part.optional:
                    return None
                continue
            if part.literal is not None:
                found = part.literal.fullmatch(given[at])
                if found is None:
                    return None
                values.update(found.groupdict())
            elif not given[at] or not part.accepts(given[at]):
                return None
            else:
                values[part.name] = given[at]
        return values if len(given) <= len(self._parts) else None


def ordered(templates: Iterable[RouteTemplate]) -> list[RouteTemplate]:
    """Most specific first."""
    return sorted(templates, key=lambda t: (t.precedence, t.template))
