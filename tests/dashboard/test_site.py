"""The page's files over HTTP: what is sent, with which headers, and what is never sent."""

from __future__ import annotations

import gzip
import hashlib
import re

import azure.functions as func
import pytest

from dashboard.functions import ops_page
from dashboard.site import STATIC, answer, assets

FIRST_VIEW_BYTES = 150_000


def call(path: str, url: str = "http://host/api/ops/", **headers: str) -> func.HttpResponse:
    request = func.HttpRequest("GET", url + path, headers=headers, route_params={"path": path}, body=b"")
    return ops_page.build().get_user_function()(request)  # type: ignore[no-any-return]


def test_the_page_forbids_everything_that_is_not_its_own() -> None:
    found = call("")
    assert found.status_code == 200
    policy = found.headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert found.headers["X-Content-Type-Options"] == "nosniff"
    assert found.headers["Content-Type"].startswith("text/html")


@pytest.mark.parametrize("path", [
    "../site.py", "..%2fsite.py", "%2e%2e/site.py", "/etc/passwd", "static/../../settings.py", "views/../../site.py",
    "..\\site.py", "index.html\0", "vendor/", ".", "app.js/..", "//etc/passwd", "index.html/",
])
def test_no_path_leaves_the_folder(path: str) -> None:
    assert call(path).status_code == 404


def test_a_file_is_sent_once_and_then_confirmed_by_its_etag() -> None:
    first = answer("app.js", accept_encoding="br, gzip")
    assert first.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(first.body) == (STATIC / "app.js").read_bytes()
    again = answer("app.js", if_none_match=f'W/{first.headers["ETag"]}, "other"')
    assert (again.status, again.body) == (304, b"")
    plain = answer("app.js")
    assert "Content-Encoding" not in plain.headers and plain.body == (STATIC / "app.js").read_bytes()


def test_without_its_slash_the_page_moves_to_where_its_files_are_found() -> None:
    moved = call("", url="http://host/api/ops")
    assert (moved.status_code, moved.headers["Location"]) == (308, "ops/")


def test_the_first_view_is_small() -> None:
    index = assets()["index.html"].body.decode()
    names = {"index.html", *re.findall(r'(?:href|src)="([a-z/.]+)"', index)}
    assert "views/overview.js" in names
    assert sum(len(assets()[name].packed or assets()[name].body) for name in names) < FIRST_VIEW_BYTES / 3


def test_vendored_files_are_what_their_authors_published_with_their_licence() -> None:
    known = {
        "uplot-1.6.32.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
        "uplot-1.6.32.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
        "uplot-1.6.32.LICENSE.txt": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
    }
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (STATIC / "vendor").iterdir()}
    assert found == known


def test_no_file_asks_for_anything_from_elsewhere_or_writes_markup() -> None:
    for path in STATIC.rglob("*"):
        if path.suffix not in (".js", ".html", ".css") or path.parent.name == "vendor":
            continue
        text = path.read_text("utf-8").replace("http://www.w3.org/", "")
        assert not re.search(r"""(src|href|url|from|import)\s*[=(]?\s*["'(]?https?:""", text), path
        writers = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function"
        assert not re.search(writers, text), path


def test_every_module_that_is_imported_exists() -> None:
    for path in STATIC.rglob("*.js"):
        for name in re.findall(r"""(?:from|import\()\s*"(\.[^"]+)\"""", path.read_text("utf-8")):
            assert (path.parent / name).resolve().is_file(), f"{path.name}: {name}"


def test_modules_stay_small() -> None:
    for path in STATIC.rglob("*.js"):
        if path.parent.name != "vendor":
            assert len(path.read_text("utf-8").splitlines()) < 300, path.name


