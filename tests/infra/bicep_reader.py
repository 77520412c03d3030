"""Reads resources of Bicep files: type, symbol and body text; enough for rules about them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import tree_sitter_bicep
from tree_sitter import Language, Node, Parser

INFRA = Path(__file__).resolve().parents[2] / "infra"
_PARSER = Parser(Language(tree_sitter_bicep.language()))


@dataclass(frozen=True)
class Resource:
    """One resource declaration; `text` is its source."""

    file: str
    symbol: str
    type: str
    text: str

    def says(self, name: str) -> list[str]:
        """The values of every property of a name, as source."""
        return re.findall(rf"^\s*{re.escape(name)}: (.+)$", self.text, re.MULTILINE)


def resources(kind: str = "") -> list[Resource]:
    """Every resource below infra/, those of a type when given."""
    found = []
    for path in sorted(INFRA.rglob("*.bicep")):
        tree = _PARSER.parse(path.read_bytes())
        assert not tree.root_node.has_error, path
        found += [_resource(path, node) for node in _declarations(tree.root_node)]
    return [one for one in found if not kind or one.type == kind]


def _declarations(node: Node) -> list[Node]:
    found = [node] if node.type == "resource_declaration" else []
    for child in node.named_children:
        found += _declarations(child)
    return found


def _resource(path: Path, node: Node) -> Resource:
    names = [child for child in node.named_children if child.type in ("identifier", "string")]
    spec = (names[1].text or b"").decode().strip("'")
    return Resource(path.name, (names[0].text or b"").decode(), spec.split("@")[0], (node.text or b"").decode())


def variable(file: str, name: str) -> str:
    """The source of `var NAME = {...}` of a file."""
    text = (INFRA / file).read_text("utf-8")
    match = re.search(rf"^var {name} = [\[{{]\n(.*?)^[\]}}]", text, re.MULTILINE | re.DOTALL)
    assert match, f"{file} has no variable {name}"
    return match[1]
