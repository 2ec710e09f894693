"""One dashboard and one browser for each module."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.conftest import lacking
from tests.e2e.serve.dashboard import CHROMIUM, Dashboard, demo_fleet, serving

Visit = Callable[..., Page]


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory, lite_python: Path, models: dict[str, Path]) -> Iterator[Dashboard]:
    """A real server over a real fleet of four devices, which two rollouts reached."""
    with demo_fleet(tmp_path_factory.mktemp("board"), lite_python, models) as (job, fleet), serving(job, fleet) as made:
        yield made


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Real headless Chromium."""
    if not os.path.exists(CHROMIUM):
        lacking(f"{CHROMIUM} is missing: apt-get install chromium")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def visit(board: Dashboard, browser: Browser) -> Iterator[Visit]:
    """Return a maker of pages, each of a person of a role in a browser of its own, logged in with that person's token."""
    opened = []

    def make(role: str = "admin", **settings: object) -> Page:
        context = browser.new_context(**{"locale": "en-US", **settings})  # type: ignore[arg-type]
        context.set_default_timeout(20_000)
        opened.append(context)
        page = context.new_page()
        page.goto(f"{board.address}/login")
        page.fill("input[name=token]", board.tokens[role])
        page.click("button")
        page.wait_for_url(f"{board.address}/")
        return page

    yield make
    for context in opened:
        context.close()
