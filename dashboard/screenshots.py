"""Pictures of the operators' page for the documentation: `python -m dashboard.screenshots --data FOLDER`.

FOLDER is the data folder of a local host that runs (its address and key are there); `--url` takes any page instead.
Needs Playwright (requirements-dev.txt) and a Chromium on the machine; nothing is downloaded.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urljoin

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

DESKTOP, PHONE = (1440, 900), (390, 844)
VIEWS = {
    "overview": "#/overview", "runs": "#/runs", "models": "#/models", "quality": "#/quality",
    "forecasts": "#/forecasts", "audit": "#/audit", "factory": "#/pipelines",
}
TALLEST = 1700  # pixels of a desktop picture; the rest of a long table tells nothing new
LOOKS = {"desktop": (DESKTOP, "light"), "dark": (DESKTOP, "dark"), "phone": (PHONE, "light")}
SETTLE_MS = 300  # counts, earlier weeks and the chart come after the view itself; they need a moment to be drawn


def chromium_path() -> str:
    """Return the browser to use: CHROMIUM, or what the machine has; exit with the remedy if there is none."""
    found = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if not found:
        raise SystemExit("no Chromium found: install it (apt-get install chromium) or set CHROMIUM to its path")
    return found


def page_address(url: str | None, data: Path | None) -> str:
    """Return the page's address, with the key of the local host if there is one; exit with the remedy if none runs."""
    key = ""
    if url is None and data is not None:
        try:
            url = str(json.loads((data / "host.json").read_text("utf-8"))["url"])
            key = "?code=" + str(json.loads((data / "keys.json").read_text("utf-8"))["function"])
        except (OSError, ValueError, KeyError) as error:
            raise SystemExit(f"no local host has its data in {data} ({error}); start one with `make run`") from error
    page = str(url)
    return f"{page if '/ops' in page else page.rstrip('/') + '/api/ops/'}{key}"


def take(url: str, folder: Path, views: list[str], looks: list[str]) -> list[Path]:
    """Take each view in each look and return the files."""
    from playwright.sync_api import sync_playwright

    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=["--no-sandbox"])
        try:
            return [path for look in looks for path in _take_look(browser, url, folder, views, look)]
        finally:
            browser.close()


def _take_look(browser: Browser, url: str, folder: Path, views: list[str], look: str) -> list[Path]:
    (width, height), scheme = LOOKS[look]
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme="dark" if scheme == "dark" else "light",
        reduced_motion="reduce", device_scale_factor=2 if look == "phone" else 1,
    )
    page, files = context.new_page(), []
    for name in [*views, *(("run", "forecast") if len(views) > 1 else ())]:
        if not _open(page, url, name):
            continue
        path = folder / f"{name}-{look}.png"
        if look == "phone":
            page.screenshot(path=str(path))
        else:
            tall = min(page.evaluate("document.documentElement.scrollHeight"), TALLEST)
            page.screenshot(path=str(path), full_page=True, clip={"x": 0, "y": 0, "width": width, "height": tall})
        files.append(path)
    context.close()
    return files


def _open(page: Page, url: str, name: str) -> bool:
    """Open a view and wait until it is there; the two detail views are reached by a click, if there is anything."""
    start = {"run": "#/runs", "forecast": "#/forecasts"}.get(name) or VIEWS[name]
    page.goto(urljoin(url, start), wait_until="load")
    page.wait_for_selector("main[aria-busy=false] h1")
    if name in ("run", "forecast"):
        first = page.locator("tbody th a").first
        if not first.count():
            return False
        first.click()
        page.wait_for_selector("main[aria-busy=false] .figures" if name == "run" else "#explain .figures")
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(SETTLE_MS)
    return True


def main() -> None:
    """Read the command line and take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--url", help="address of the host or of the page, e.g. http://127.0.0.1:7071")
    place.add_argument("--data", type=Path, help="data folder of a running local host, e.g. .data/complete_journey")
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    parser.add_argument("--views", nargs="+", choices=list(VIEWS), default=list(VIEWS))
    parser.add_argument("--looks", nargs="+", choices=list(LOOKS), default=list(LOOKS))
    wanted = parser.parse_args()
    for path in take(page_address(wanted.url, wanted.data), wanted.out, wanted.views, wanted.looks):
        sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
