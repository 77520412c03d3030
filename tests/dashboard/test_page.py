"""The page in a real browser: what it shows, what its buttons send, and that data can never become script."""

from __future__ import annotations

import re
import threading
from itertools import takewhile
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.dashboard import sample_data as data
from tests.dashboard.api_server import PageServer, SampleApi
from tests.dashboard.conftest import Opened

RUN = data.runs(1)[0]["run_id"]
VIEWS = (
    "overview", "runs", f"runs/{RUN}", "models", "models/r01-large-fast", "quality", "quality/deliveries", "forecasts",
    "audit", "pipelines",
)
PHONE = {"width": 390, "height": 844}
LOOKS: dict[str, dict[str, Any]] = {
    "desktop": {"viewport": {"width": 1280, "height": 900}},
    "phone": {"viewport": PHONE, "color_scheme": "dark"},
}


def test_overview_says_what_needs_somebody_worst_first(opened: Opened) -> None:
    page = opened()
    expect(page.locator("h1")).to_have_text(f"Week {data.week(0)}")
    findings = page.locator(".findings li")
    expect(findings.first).to_contain_text("failed")
    expect(page.locator(".findings")).to_contain_text("promotions is late")
    expect(page.locator(".figures")).to_contain_text("61,204")
    expect(page.locator(".grid tbody tr")).to_have_count(14)
    expect(page.locator(".grid thead th")).to_have_count(9)  # the region and eight weeks
    expect(page.locator(".figures")).to_contain_text(re.compile(r"\d of [\d.]+K|M read"))


def test_a_rejected_file_needs_somebody_and_says_why(opened: Opened, api: SampleApi) -> None:
    api.rejected = ("deliveries",)
    page = opened()
    finding = page.locator(".findings li", has_text=f"deliveries of {data.week(1)} rejected")
    expect(finding).to_contain_text("week.csv.gz: the gzip data ends in the middle")
    finding.get_by_role("link", name="Ask").click()
    expect(page.locator("h1")).to_have_text("Deliveries")


def test_slow_models_do_not_keep_the_runs_from_being_seen(opened: Opened, api: SampleApi) -> None:
    api.slow["models"] = threading.Event()
    page = opened()
    expect(page.locator("h1")).to_have_text(f"Week {data.week(0)}")
    expect(page.locator(".figures")).to_contain_text("looking at the models")
    api.slow["models"].set()
    expect(page.locator(".figures")).to_contain_text("of 56 segments")


def test_a_slow_run_does_not_keep_the_figures_from_being_seen_and_a_broken_one_says_so(
    opened: Opened, api: SampleApi
) -> None:
    api.slow[f"runs/{RUN}"] = threading.Event()
    page = opened()
    expect(page.locator(".figures")).to_contain_text("61,204")
    expect(page.locator(".figures")).to_contain_text("gap 0")
    expect(page.locator(".timeline")).to_have_count(0)
    api.slow[f"runs/{RUN}"].set()
    expect(page.locator(".timeline li")).to_have_count(10)
    expect(page.locator(".figures")).to_contain_text("of 56 segments")
    api.broken[f"runs/{RUN}"] = (503, {"title": "unavailable", "detail": "the storage account cannot be reached"})
    page = opened()
    expect(page.locator(".toast.bad")).to_contain_text("the storage account cannot be reached")
    expect(page.locator("main")).to_contain_text("They could not be read.")


def test_the_next_week_is_counted_down_and_what_is_late_or_missing_is_named(opened: Opened, api: SampleApi) -> None:
    for view in ("overview", "runs"):
        expect(opened(f"#/{view}").locator(".page-head .chip")).to_have_text(f"Next {data.week(-1)} due in 1 day 3 h")
    api.next = data.next_week(-2) | {"missing": [data.week(2)]}
    page = opened()
    expect(page.locator(".page-head .chip.bad")).to_have_text(f"Next {data.week(-1)} is late by 1 h 59 min")
    expect(page.locator(".findings")).to_contain_text(f"{data.week(2)} was never published")
    expect(opened("#/runs").locator(".notice.bad")).to_contain_text(data.week(2))


def test_models_that_lose_in_reality_are_named_and_shown(opened: Opened) -> None:
    expect(opened().locator(".findings")).to_contain_text("2 models lost to the history average for two weeks")
    page = opened("#/models?show=losing")
    expect(page.get_by_role("region", name="Models", exact=True).locator("tbody tr")).to_have_count(2)
    page.locator("tbody th a", has_text="r12-small-fast").click()
    expect(page.locator(".figures")).to_contain_text("lost 2 weeks running")


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("look", LOOKS)
def test_every_view_is_accessible_and_fits(look: str, view: str, opened: Opened) -> None:
    page = opened(f"#/{view}", **LOOKS[look])
    page.wait_for_load_state("networkidle")
    assert page.evaluate("document.documentElement.scrollWidth") <= LOOKS[look]["viewport"]["width"]
    judged = Axe().run(page)
    assert not judged.response["violations"], judged.generate_report()
    assert len(judged.response["passes"]) > 20


@pytest.mark.parametrize(("view", "button"), [(f"runs/{RUN}", "Replay…"), ("models/r01-large-fast", "Promote…")])
def test_dialogs_are_accessible_too(view: str, button: str, opened: Opened) -> None:
    page = opened(f"#/{view}")
    page.get_by_role("button", name=button).click()
    judged = Axe().run(page)
    assert not judged.response["violations"], judged.generate_report()


def test_runs_are_filtered_sorted_and_the_filter_is_kept(opened: Opened) -> None:
    page = opened("#/runs")
    expect(page.locator("tbody tr")).to_have_count(9)
    page.get_by_label("Search").fill("scoring gate")
    expect(page.locator("tbody tr")).to_have_count(1)
    assert page.evaluate("document.activeElement.dataset.keep") == "runs-text"
    page.reload()
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_label("Search").fill("")
    page.get_by_role("button", name="MAPE").click()
    values = [float(text.split()[0]) for text in page.locator("tbody tr td:nth-child(6)").all_text_contents()]
    assert values == sorted(values, reverse=True)


def test_a_replay_is_previewed_and_then_started_with_its_reason(opened: Opened, api: SampleApi) -> None:
    page = opened(f"#/runs/{RUN}")
    page.get_by_role("button", name="Replay…").click()
    dialog = page.locator("dialog")
    dialog.get_by_role("button", name="Preview").click()
    assert api.posted == []  # the reason is missing
    dialog.get_by_label("Reason").fill("the store list was corrected")
    dialog.get_by_label("Segments").fill("r01-large-fast, r02-small-slow")
    dialog.get_by_role("button", name="Preview").click()
    expect(page.locator("#plan")).to_contain_text("weekly-2017-W45-a2 would")
    expect(page.locator("#plan")).to_contain_text("2 jobs: r01-large-fast, r02-large-fast")
    dialog.get_by_role("button", name="Start the replay").click()
    expect(page.locator(".toast")).to_contain_text("Replay started")
    wish = {"reason": "the store list was corrected", "data": "same", "segments": ["r01-large-fast", "r02-small-slow"]}
    assert [body for _, body in api.posted] == [wish | {"dry_run": True}, wish | {"dry_run": False}]
    assert {path for path, _ in api.posted} == {f"runs/{RUN}/replay"}


def test_an_error_of_the_api_stays_in_the_dialog_in_its_own_words(opened: Opened, api: SampleApi) -> None:
    problem = {"title": "conflict", "detail": f"{RUN} is still running", "remedy": "wait"}
    api.broken[f"runs/{RUN}/replay"] = (409, problem)
    page = opened(f"#/runs/{RUN}")
    page.get_by_role("button", name="Replay…").click()
    page.locator("dialog").get_by_label("Reason").fill("because it must")
    page.locator("dialog").get_by_role("button", name="Preview").click()
    expect(page.locator("dialog .notice.bad")).to_contain_text("is still running")
    expect(page.locator("dialog .notice.bad")).to_contain_text("Remedy: wait")
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_have_count(0)


def test_a_running_run_is_followed_without_a_reload(opened: Opened, api: SampleApi) -> None:
    api.running = True
    page = opened(f"#/runs/{RUN}")
    expect(page.locator(".page-head .badge")).to_have_text(re.compile("running"))
    expect(page.get_by_role("button", name="Cancel…")).to_be_visible()
    expect(page.get_by_role("button", name="Replay…")).to_have_count(0)  # it would be refused
    page.locator("summary").first.focus()
    api.running = False
    expect(page.locator(".page-head .badge")).to_have_text(re.compile("degraded"))


def test_a_refresh_does_not_take_the_button_from_under_a_press(opened: Opened, api: SampleApi) -> None:
    api.running = True
    page = opened(f"#/runs/{RUN}")
    page.get_by_role("button", name="Cancel…").hover()
    with page.expect_response(f"**/api/runs/{RUN}"):  # it is asked for every 2.5 s
        page.mouse.down()
    page.wait_for_timeout(300)  # for the page to draw it, as it must not
    page.mouse.up()
    expect(page.locator("dialog")).to_be_visible()


def test_cancel_asks_for_a_reason(opened: Opened, api: SampleApi) -> None:
    api.running = True
    page = opened(f"#/runs/{RUN}")
    page.get_by_role("button", name="Cancel…").click()
    page.locator("dialog").get_by_label("Reason").fill("wrong week was started")
    page.locator("dialog").get_by_role("button", name="Cancel the run").click()
    expect(page.locator("dialog")).to_have_count(0)
    assert api.posted == [(f"runs/{RUN}/cancel", {"reason": "wrong week was started"})]


def test_models_are_filtered_and_one_is_promoted(opened: Opened, api: SampleApi) -> None:
    page = opened("#/models?show=stale")
    expect(page.get_by_role("button", name=re.compile("^Stale"))).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".tiles tbody tr")).to_have_count(14)
    expect(page.locator(".tiles tbody a.tile")).to_have_count(84)
    page.locator("a.tile").first.click()
    expect(page.locator("h1")).to_have_text("r01-large-fast")
    page.get_by_role("button", name="Promote…").click()
    page.locator("dialog").get_by_label("Version").select_option("0ld")
    page.locator("dialog").get_by_label("Reason").fill("the older one was better")
    page.locator("dialog").get_by_role("button", name="Promote").click()
    expect(page.locator(".toast")).to_contain_text("promoted")
    assert api.posted == [("models/r01-large-fast/promote", {"reason": "the older one was better", "version": "0ld"})]


def test_a_model_is_rolled_back(opened: Opened, api: SampleApi) -> None:
    page = opened("#/models/r01-large-fast")
    page.get_by_role("button", name="Roll back…").click()
    page.locator("dialog").get_by_label("Reason").fill("forecasts twice too high")
    page.locator("dialog").get_by_role("button", name="Roll back").click()
    expect(page.locator(".toast")).to_contain_text("rolled back")
    assert api.posted[0][0] == "models/r01-large-fast/rollback"


def test_the_quarantine_is_browsed_by_page_and_driven_again(opened: Opened, api: SampleApi) -> None:
    page = opened("#/quality/deliveries?week=2017-W44")
    expect(page.get_by_role("region", name="Records in quarantine").locator("tbody tr")).to_have_count(50)
    expect(page.locator("main")).to_contain_text(data.HOSTILE)
    page.get_by_role("link", name="Next").click()
    expect(page.locator(".pager")).to_contain_text("51–")
    page.get_by_role("button", name="Condition again…").click()
    again = page.locator("dialog").get_by_role("button", name="Condition again")
    again.click()
    assert api.posted == []  # nothing is done without a reason
    page.locator("dialog").get_by_label("Reason").fill("the provider's units were dozens")
    again.click()
    expect(page.locator("dialog .notice")).to_contain_text("Quarantined")
    assert api.posted == [
        ("quarantine/deliveries/redrive", {"sales_week": "2017-W44", "reason": "the provider's units were dozens"})
    ]


def test_sources_are_listed_before_their_records_are_counted(opened: Opened, api: SampleApi) -> None:
    api.slow["quality/deliveries"] = threading.Event()
    page = opened("#/quality")
    sources = page.get_by_role("region", name="Sources").locator("tbody tr")
    expect(sources).to_have_count(9)
    expect(page.locator("main")).to_contain_text("counting records")
    api.slow["quality/deliveries"].set()
    expect(page.locator("main")).not_to_contain_text("counting records")
    expect(sources.first.locator("td").nth(4)).to_have_text(re.compile(r"^[\d,]+$"))


def test_a_forecast_is_explained_with_its_chart_and_raw_rows(opened: Opened) -> None:
    page = opened("#/forecasts")
    page.locator("tbody th a").nth(1).click()
    expect(page.locator("#explain canvas")).to_be_visible()
    expect(page.locator("#explain")).to_contain_text("deliveries/2017-W44/dsd.csv")
    expect(page.locator("#explain")).to_contain_text("and 1 earlier week")
    with page.expect_download() as saved:
        page.get_by_role("button", name="Download CSV").click()
    assert saved.value.suggested_filename == f"forecasts-{data.week(0)}.csv"


def test_what_a_re_run_changed_is_shown_with_the_raw_rows_behind_it(opened: Opened) -> None:
    page = opened("#/forecasts")
    page.get_by_role("button", name="What changed").click()
    moved = page.get_by_role("region", name="Changed forecasts").locator("tbody tr")
    expect(moved).to_have_count(1)
    expect(moved).to_contain_text("4.06.5")
    expect(page.get_by_role("region", name="Changed raw rows")).to_contain_text(f"units: 4 → {data.HOSTILE}")
    assert Axe().run(page).response["violations"] == []


def test_hostile_names_are_only_ever_text(opened: Opened) -> None:
    page = opened("#/forecasts")
    page.get_by_role("link", name=data.HOSTILE).first.click()
    expect(page.locator("#explain h2").first).to_contain_text(data.HOSTILE)
    for view in VIEWS:
        page.goto(page.url.split("#")[0] + f"#/{view}")
        page.wait_for_timeout(150)
    assert page.evaluate("window.hacked") is None
    assert page.locator("main img").count() == 0


def test_an_empty_store_says_what_is_missing_before_a_run_can_start(opened: Opened, api: SampleApi) -> None:
    absent = {"name": "deliveries", "state": "absent", "required": True, "weeks": 0, "latest_week": "", "owner": "Kim"}
    api.broken = {
        "runs": (200, {"runs": [], "total": 0, "next": None}), "sources": (200, {"sources": [absent]}),
        "models": (200, {"models": [], "overall": None, "groups": []}),
        "audit": (200, {"entries": [], "intact": True, "faults": []}),
    }
    page = opened()
    expect(page.locator("main")).to_contain_text("No run yet.")
    expect(page.locator(".findings")).to_contain_text("A run cannot start without it.")
    expect(opened("#/audit").locator("main")).to_contain_text("Nothing was done yet.")
    assert Axe().run(page).response["violations"] == []


@pytest.mark.parametrize("look", LOOKS)
def test_long_names_of_every_script_fit_and_do_not_turn_the_page_round(
    look: str, opened: Opened, api: SampleApi
) -> None:
    week, store, product = data.week(0), "متجر " * 40, "🥛🍞" * 100
    found = data.forecasts(week, "", "", 3)
    known = found["rows"][0]["store_id"], found["rows"][0]["product_id"]
    api.broken["explain"] = (200, data.explain(week, *known))
    found["rows"][0] |= {"store_id": store, "product_id": product}
    api.broken[f"forecasts/{week}"] = (200, found)
    page = opened("#/forecasts", **LOOKS[look])
    width = LOOKS[look]["viewport"]["width"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    cells = page.locator("tbody tr").first.locator("th, td")
    assert all(cell.bounding_box()["width"] < 450 for cell in cells.all()[:2])  # type: ignore[index]
    page.locator("tbody th a").first.click()
    heading = page.locator("#explain h2").first
    expect(heading).to_contain_text(product)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    places = heading.evaluate("""(h2) => [...h2.childNodes].map((node) => {
      const range = document.createRange(); range.selectNode(node);
      const [first] = range.getClientRects(); return [Math.round(first.top), Math.round(first.left)]; })""")
    assert places[0] < places[1]  # "Product" still begins the line
    assert not Axe().run(page).response["violations"]


def test_the_key_is_asked_once_and_sent_with_every_call(opened: Opened, api: SampleApi) -> None:
    api.key = "s3cret"
    page = opened("#/overview", wait_for="#function-key")
    page.locator("#function-key").fill("s3cret")
    page.get_by_role("button", name="Continue").click()
    expect(page.locator("h1")).to_have_text(f"Week {data.week(0)}")
    page.goto(page.url.split("#")[0] + "#/audit")
    expect(page.locator("h1")).to_have_text("Audit")
    assert page.locator("dialog").count() == 0


def test_a_key_in_the_address_is_used_and_hidden(opened: Opened, api: SampleApi) -> None:
    api.key = "s3cret"
    page = opened("?code=s3cret#/runs")
    expect(page.locator("h1")).to_have_text("Runs")
    assert "s3cret" not in page.url and page.url.endswith("#/runs")


def test_a_broken_part_says_so_and_can_be_tried_again(opened: Opened, api: SampleApi) -> None:
    api.broken["runs"] = (503, {"title": "unavailable", "detail": "the storage account cannot be reached"})
    page = opened("#/runs")
    expect(page.locator(".notice.bad")).to_contain_text("the storage account cannot be reached")
    api.broken.clear()
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("tbody tr")).to_have_count(9)


def test_the_whole_page_works_by_keyboard(opened: Opened) -> None:
    page = opened()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    for key, heading in (("r", "Runs"), ("m", "Models"), ("d", "Data quality"), ("f", "Forecasts"), ("a", "Audit")):
        page.keyboard.press("g")
        page.keyboard.press(key)
        expect(page.locator("h1")).to_have_text(heading)
    page.keyboard.press("g")
    page.keyboard.press("r")
    expect(page.locator("h1")).to_have_text("Runs")
    page.keyboard.press("/")
    page.keyboard.type("W42")
    expect(page.locator("tbody tr")).to_have_count(1)
    page.keyboard.press("Escape")
    page.locator("h1").click()
    page.keyboard.press("?")
    expect(page.locator("dialog")).to_contain_text("Keyboard")
    page.keyboard.press("Escape")
    page.keyboard.press("t")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_a_thousand_runs_take_no_more_calls_than_a_few(opened: Opened, api: SampleApi, server: PageServer) -> None:
    api.runs = 1000
    page = opened("#/audit")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url.partition("/api/")[2].partition("?")[0]))
    page.goto("about:blank")
    page.goto(server.url)
    expect(page.locator("h1")).to_have_text(f"Week {data.week(0)}")
    expect(page.locator(".figures")).to_contain_text("of 56 segments")
    # Until it can be used: its files, the list, the run that it is about, models and sources. The rest comes after.
    counted = takewhile(lambda path: not path.startswith("quality/"), asked)
    calls = [path for path in counted if not path.startswith("ops/")]
    assert calls[:4] == ["runs", f"runs/{RUN}", "models", "sources"]
    assert sum(path.startswith("ops/") for path in asked) <= 15
    page.goto(server.url + "#/runs")
    expect(page.locator("tbody tr")).to_have_count(50)
    page.get_by_role("button", name="Show more").click()
    expect(page.locator("tbody tr")).to_have_count(100)
