"""Every page in a real browser: accessible in both themes and languages, small, still while it loads; hostile names are text."""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from axe_playwright_python.sync_playwright import Axe
from litefleet_agent.findings import Verdict, finding
from litefleet_controller.devices.outcome import DeviceOutcome
from litefleet_controller.rollout import DeviceEvent, Rollout
from litefleet_controller.state import Confirmed, HistoryEntry, KnownDevice, RowChange, ServiceStatus, State
from playwright.sync_api import Page

from tests.controller.support.state_values import ELSEWHERE, change, release, rollout, rows, staged
from tests.e2e.serve.dashboard import HOSTILE, Dashboard

pytestmark = pytest.mark.timeout(600)  # a fleet and a browser for the module
Visit = Callable[..., Page]
_SHIFT = """() => new Promise(done => {
  let total = 0;
  new PerformanceObserver(list => { for (const one of list.getEntries()) total += one.value; })
    .observe({type: "layout-shift", buffered: true});
  setTimeout(() => done(total), 300);
})"""


def first_rollout(board: Dashboard) -> str:
    with closing(State.open(board.job.folder / ".litefleet" / "state.db")) as state:
        return state.rollouts("default", 1)[0].id


def paths(board: Dashboard) -> list[str]:
    """Return a path of each kind of page."""
    ident = first_rollout(board)
    report = max((board.job.folder / ".litefleet" / "reports").glob("*.json")).stem
    return [
        "/",
        "/devices?q=hall-a&sort=status",
        "/devices/cam-1",
        "/devices/cam-1/forget",
        "/devices/cam-1/accept-key",
        "/rollouts",
        f"/rollouts/{ident}",
        f"/rollouts/{ident}/rollback",
        "/models",
        "/models/cls",
        "/findings",
        "/findings/LF403",
        "/reports",
        f"/reports/{report}",
    ]


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_every_page_is_accessible_in_both_themes_and_languages(board: Dashboard, visit: Visit, lang: str) -> None:
    """Each page is loaded once for a language; a theme changes colours alone, so what depends on them is examined again."""
    page = visit("admin", color_scheme="light")
    axe = Axe()
    colours = {"runOnly": ["color-contrast", "link-in-text-block"], "resultTypes": ["violations"]}
    for path in paths(board):
        answer = page.goto(f"{board.address}{path}{'&' if '?' in path else '?'}lang={lang}")
        assert answer is not None
        assert answer.status == 200, path
        assert page.evaluate("document.documentElement.lang") == ("zh-CN" if lang == "zh" else "en")
        for theme, ground, other in (("light", "rgb(255, 255, 255)", "dark"), ("dark", "rgb(18, 21, 26)", "light")):
            page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
            assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == ground
            assert [one.get_attribute("class") for one in page.locator(".me > a[class]:visible").all()] == [
                f"to-{other}"
            ]
            found = axe.run(page) if theme == "light" else axe.run(page, options=colours)
            serious = [one for one in found.response["violations"] if one["impact"] in ("serious", "critical")]
            assert [(one["id"], one["nodes"][0]["html"][:200]) for one in serious] == [], (path, theme)


def test_the_link_to_the_other_theme_says_so_whatever_the_system_shows(board: Dashboard, visit: Visit) -> None:
    page = visit("view", color_scheme="dark")
    page.click("text=Light")
    white = "getComputedStyle(document.documentElement).backgroundColor === 'rgb(255, 255, 255)'"
    page.wait_for_function(white)  # a click does not wait until the next page has its colours
    page.click("text=Dark")
    page.wait_for_selector("html[data-theme=dark]")


def test_a_page_is_small_still_and_asks_no_third_party(board: Dashboard, visit: Visit) -> None:
    page = visit("view")
    sizes: dict[str, int] = {}
    problems: list[str] = []
    page.on("response", lambda answer: sizes.update({answer.url: len(answer.body())}))
    page.on("console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(f"{board.address}/")
    page.wait_for_load_state("networkidle")
    assert sum(sizes.values()) < 100_000, sizes
    assert all(url.startswith(board.address) for url in sizes)
    for path in ("/", "/devices/cam-1", f"/rollouts/{first_rollout(board)}", "/findings"):
        page.goto(f"{board.address}{path}")
        assert page.evaluate(_SHIFT) == 0, path
    assert problems == []


def test_filters_are_in_the_url_and_views_are_saved_for_one_person(board: Dashboard, visit: Visit) -> None:
    page = visit("view")
    page.fill("input[name=q]", "cam-2")
    page.click("form.filters button")
    assert "q=cam-2" in page.url
    assert page.locator("tbody tr").count() == 1
    page.locator(".views summary").click()
    page.fill(".views input[name=name]", f"one {HOSTILE}")
    page.click("text=Save this view")
    page.goto(f"{board.address}/")
    saved = page.locator(".views a")
    assert saved.count() == 1
    saved.click()
    assert page.locator("tbody tr").count() == 1
    page.locator("select[name=group]").select_option("hall-a")
    page.fill("input[name=q]", "")
    page.click("form.filters button")
    assert page.locator("tbody th a").all_inner_texts() == ["cam-2", "cam-4"]
    page.goto(f"{board.address}/devices?q=nothing-of-this-name")
    assert "No device matches." in page.inner_text("main")
    other = visit("operate")
    assert other.locator(".views a").count() == 0


def test_the_pages_work_by_keyboard_and_without_javascript(board: Dashboard, visit: Visit) -> None:
    page = visit("view")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    plain = visit("view", java_script_enabled=False, viewport={"width": 390, "height": 800})
    for path in ("/", "/devices/cam-1", f"/rollouts/{first_rollout(board)}"):
        plain.goto(f"{board.address}{path}")
        assert plain.locator("h1").count() == 1
    plain.goto(f"{board.address}/")
    plain.click("text=Dark")
    assert plain.locator("html[data-theme=dark]").count() == 1


@pytest.fixture
def hostile(board: Dashboard) -> Iterator[Rollout]:
    """A stored rollout in which every text that a device, an inventory or a model may send is markup."""
    name = f"cam-9 {HOSTILE}"
    with closing(State.open(board.job.folder / ".litefleet" / "state.db")) as state:
        lock = state.acquire("default", ELSEWHERE)
        row = dataclasses.replace(rows(1)[0], device=name, model=HOSTILE, part=HOSTILE, libc=HOSTILE, release="r-bad")
        made = dataclasses.replace(rollout("default"), models=(HOSTILE,), by=HOSTILE, limit=HOSTILE, reason=HOSTILE)
        stored = state.create(lock, made, [row], [release("r-bad", model=HOSTILE, kind=HOSTILE, version=HOSTILE)], {})
        begun = change(row, DeviceEvent.BEGIN)
        state.move(lock, stored.id, [begun])
        outcome = DeviceOutcome(name, HOSTILE, Verdict.WRONG, (finding("LF403", HOSTILE),), {"cpu": {HOSTILE: HOSTILE}})
        failed = change(staged(row), DeviceEvent.FAIL, verdict=Verdict.WRONG, codes=("LF403",), sentence=HOSTILE)
        runs = Confirmed(name, HOSTILE, "r-bad", "ff", HOSTILE, "f", stored.id, 1.0)
        state.move(lock, stored.id, [RowChange(failed.before, failed.event, failed.after, outcome, runs)])
        state.record_facts([KnownDevice(name, {HOSTILE: HOSTILE, "cpu": [HOSTILE]}, HOSTILE, 1.8e9, HOSTILE)])
        entry = HistoryEntry(name, "aa", 1, 1.8e9, HOSTILE, HOSTILE, HOSTILE, {"text": HOSTILE}, 1.8e9)
        state.record_history(ServiceStatus(name, "aa", 1, {"health": HOSTILE}), [entry])
        state.log(HOSTILE, HOSTILE, {"rollout": stored.id, "reason": HOSTILE, "device": name})
        state.release(lock)
    yield stored
    with closing(sqlite3.connect(board.job.folder / ".litefleet" / "state.db")) as database:
        database.execute("PRAGMA foreign_keys=ON")
        database.execute("DELETE FROM rollouts WHERE id = ?", (stored.id,))
        database.execute("DELETE FROM releases WHERE id = 'r-bad'")
        for table in ("devices", "confirmed", "device_history", "device_services"):
            database.execute(f"DELETE FROM {table} WHERE device LIKE 'cam-9%'")
        database.commit()


def test_names_and_texts_from_devices_are_text(board: Dashboard, visit: Visit, hostile: Rollout) -> None:
    page = visit("admin")
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.goto(f"{board.address}/devices?q=cam-9")
    device = page.locator("tbody th a").first.get_attribute("href")
    model = page.locator("tbody td a[href^='/models/']").first.get_attribute("href")
    seen = 0
    for path in (
        "/",
        "/devices?q=%22%3E%3Cimg%20src%3Dx%3E",
        device,
        f"{device}/forget",
        model,
        "/models",
        "/rollouts",
        f"/rollouts/{hostile.id}",
        f"/rollouts/{hostile.id}/abort",
        "/findings/LF403",
    ):
        answer = page.goto(f"{board.address}{path}")
        assert answer is not None
        assert answer.status == 200, path
        assert page.locator("img").count() == 0, path
        seen += "<img src=x onerror=hit()>" in page.inner_text("body")
    assert seen >= 7  # it was shown, as text
    assert problems == []
