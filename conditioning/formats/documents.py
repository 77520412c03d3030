"""JSON tables: a list of objects, a list of lists with a header, or one object a line."""

from __future__ import annotations

import json
from typing import Any

from conditioning.raw_input import Limits, Stream, read_document
from conditioning.reasons import FileRefused

SPARSE_CELLS = 1_000_000  # a table of so many cells may be as empty as it likes,
SPARSE_RATIO = 20  # a larger one holds a cell in so many


def load_json(stream: Stream, file: str, limits: Limits) -> Any:
    """Parse a JSON document exactly (numbers as they are written); refuse a malformed one."""
    data = read_document(stream, file, limits.document_bytes)
    try:
        return _parsed(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise FileRefused(
            "undecodable_file", f"{file} is not UTF-8 at byte {error.start}", file=file, field="encoding"
        ) from error
    except (ValueError, RecursionError) as error:
        lines = _json_lines(data)
        if lines is not None:
            return lines
        raise FileRefused(
            "malformed_document", f"{file} is not JSON: {error}", file=file, row=getattr(error, "lineno", 0)
        ) from error


def _parsed(text: str) -> Any:
    return json.loads(text, parse_float=str, parse_int=str, parse_constant=str, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object whose names are text and occur once: of two values for a name neither can be trusted."""
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"the name {twice!r} occurs twice in one object")
    for name in found:
        if not name.isascii() and any("\ud800" <= char <= "\udfff" for char in name):
            raise ValueError(f"the name {name!r} is no text")
    return found


def _json_lines(data: bytes) -> list[Any] | None:
    try:
        found = [
            _parsed(line)
            for line in data.decode("utf-8-sig").splitlines()
            if line.strip()
        ]
    except (ValueError, RecursionError):
        return None
    return found if len(found) > 1 else None


def as_records(document: Any, file: str, key: str = "") -> tuple[list[str], list[list[str]]]:
    """Return (header, rows of text) of a JSON table; refuse anything that is no table."""
    if key and isinstance(document, dict):
        document = document.get(key)
    if isinstance(document, dict):
        lists = [value for value in document.values() if isinstance(value, list)]
        document = lists[0] if len(lists) == 1 else document
    if isinstance(document, list) and document and all(isinstance(item, dict) for item in document):
        header = list(dict.fromkeys(name for item in document for name in item))
        if len(header) * len(document) > SPARSE_CELLS + SPARSE_RATIO * sum(map(len, document)):
            raise FileRefused(
                "malformed_document",
                f"{file} is no table: its {len(document)} objects have {len(header)} different names",
                file=file,
                value=f"{len(header)} names",
                remedy="give objects that have the same names",
            )
        return header, [[json_text(item.get(name)) for name in header] for item in document]
    if isinstance(document, list) and document and all(isinstance(item, list) for item in document):
        return [json_text(cell) for cell in document[0]], [[json_text(cell) for cell in item] for item in document[1:]]
    if document == []:
        raise FileRefused("no_records", f"{file} holds an empty list", file=file)
    raise FileRefused(
        "malformed_document",
        f"{file} is no table: give a list of objects, or a list of lists with a header",
        file=file,
        value=type(document).__name__,
    )


def json_text(value: Any) -> str:
    """Write a JSON value as a cell."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return (
        value
        if isinstance(value, str)
        else json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    )
