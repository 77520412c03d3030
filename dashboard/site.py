"""The page's files, ready to be sent: a closed list read once, each with its ETag and a gzip form.

A request's path is only ever looked up in that list, so no path can leave the folder.
"""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

STATIC = Path(__file__).resolve().parent / "static"
INDEX = "index.html"
MIN_GZIP_BYTES = 1024  # below that the header costs more than the body saves

# No script, style or request but our own, no frame around the page, no form that leaves it.
SECURITY_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8",
          ".html": "text/html; charset=utf-8", ".svg": "image/svg+xml", ".txt": "text/plain; charset=utf-8"}


@dataclass(frozen=True)
class Asset:
    """One file of the page."""

    body: bytes
    packed: bytes
    etag: str
    content_type: str
    cache_control: str


@dataclass(frozen=True)
class Answer:
    """Status, headers and body of one answer."""

    status: int
    headers: dict[str, str]
    body: bytes


@cache
def assets() -> Mapping[str, Asset]:
    """Return the files by their path below the folder, with forward slashes."""
    return {
        path.relative_to(STATIC).as_posix(): _asset(path)
        for path in sorted(STATIC.rglob("*")) if path.is_file() and not path.name.startswith(".")
    }


def answer(path: str, *, if_none_match: str = "", accept_encoding: str = "") -> Answer:
    """Return the answer for a path below `ops/`; the empty path is the page itself."""
    asset = assets().get(path or INDEX)
    if asset is None:
        body = b"There is no such file of the operators' page.\n"
        return Answer(404, {**SECURITY_HEADERS, "Content-Type": "text/plain; charset=utf-8"}, body)
    headers = {**SECURITY_HEADERS, "ETag": asset.etag, "Cache-Control": asset.cache_control, "Vary": "Accept-Encoding"}
    if asset.etag in (tag.strip().removeprefix("W/") for tag in if_none_match.split(",")):
        return Answer(304, headers, b"")
    headers["Content-Type"] = asset.content_type
    if asset.packed and "gzip" in accept_encoding.lower():
        return Answer(200, {**headers, "Content-Encoding": "gzip"}, asset.packed)
    return Answer(200, headers, asset.body)


def _asset(path: Path) -> Asset:
    body = path.read_bytes()
    packed = gzip.compress(body, 9, mtime=0) if len(body) >= MIN_GZIP_BYTES else b""
    kind = _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    # Vendored files carry their version in the name; ours are asked for again and mostly answered 304.
    cached = "public, max-age=31536000, immutable" if path.parent.name == "vendor" else "no-cache"
    return Asset(body, packed, f'"{hashlib.sha256(body).hexdigest()[:24]}"', kind, cached)
