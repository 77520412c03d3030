"""A page in headless Chromium; a script error or a refused resource fails the test that caused it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from dashboard.screenshots import chromium_path
from tests.dashboard.api_server import PageServer, SampleApi

Opened = Callable[..., Page]
DEADLINE = 30_000  # milliseconds for anything that the page is to show: the machine may be busy with other things


@pytest.fixture(scope="module")  # the driver keeps an event loop in the thread: it must end before other tests
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=DEADLINE)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=chromium_path(), args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def api() -> SampleApi:
    return SampleApi()


@pytest.fixture
def server(api: SampleApi) -> Iterator[PageServer]:
    with PageServer(api) as started:
        yield started


@pytest.fixture
def opened(browser: Browser, server: PageServer) -> Iterator[Opened]:
    faults: list[str] = []
    contexts = []

    def open_view(place: str = "#/overview", wait_for: str = "main[aria-busy=false]", **options: Any) -> Page:
        usual: dict[str, Any] = {"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce"}
        context = browser.new_context(**usual | options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text) if "Content Security" in message.text else None)
        page.goto(server.url + place)
        page.wait_for_selector(wait_for)
        return page

    yield open_view
    for context in contexts:
        context.close()
    assert faults == []
