"""The documentation as a site: both languages whole, every link and anchor there, nothing loaded from elsewhere."""

from __future__ import annotations

import json
import re
import threading
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import litefleet
import pytest
import typer
import yaml
from litefleet_agent.findings import CATALOGUE
from litefleet_controller.cli import app
from litefleet_controller.serve.api.openapi import openapi
from playwright.sync_api import sync_playwright

from tests.conftest import lacking
from tests.e2e.serve.dashboard import CHROMIUM
from tools.docs_site.diagram import pictures

ROOT = Path(__file__).parents[2]
# attributes by which a browser loads something without a click
LOADING = {
    "script": "src",
    "img": "src",
    "link": "href",
    "iframe": "src",
    "source": "src",
    "object": "data",
    "use": "href",
}


class Page(HTMLParser):
    """What a page links, loads and can be linked at."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.text = path.read_text(encoding="utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value for name, value in attrs if value is not None}
        if "id" in values:
            self.anchors.add(values["id"])
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag in LOADING and LOADING[tag] in values:
            self.loads.append(values[LOADING[tag]])


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in sorted(site.rglob("*.html"))}


def test_nothing_is_loaded_from_another_host(site: Path, pages: dict[Path, Page]) -> None:
    loaded = {(path.name, one) for path, page in pages.items() for one in page.loads if urlsplit(one).netloc}
    assert loaded == set()
    styles = [path.read_text(encoding="utf-8") for path in site.rglob("*.css")]
    assert [
        found for style in styles for found in re.findall(r"url\(\s*[\"']?https?:[^)]*\)|@import[^;]*", style)
    ] == []
    diagrams = [path.name for path, page in pages.items() if re.search(r'class="mermaid', page.text)]
    assert diagrams == []  # the theme would load the program that draws them from a CDN


def test_every_link_and_anchor_of_the_site_leads_somewhere(site: Path, pages: dict[Path, Page]) -> None:
    broken = []
    for path, page in pages.items():
        if path.name == "404.html":  # served at any address, so its links begin at the root
            continue
        for link in (*page.links, *page.loads):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            there = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if there.is_dir():
                there /= "index.html"
            anchors = pages[there].anchors if there in pages else set()
            if not there.is_file() or (parts.fragment and anchors and unquote(parts.fragment) not in anchors):
                broken.append((path.relative_to(site).as_posix(), link))
    assert broken == []


def test_links_to_other_hosts_are_well_formed(pages: dict[Path, Page]) -> None:
    """There is no network where this runs: what a link can show is its form, and that only known hosts are named."""
    outside = {link for page in pages.values() for link in page.links if urlsplit(link).scheme}
    assert len(outside) > 30
    assert {urlsplit(link).scheme for link in outside} == {"https"}
    assert {urlsplit(link).hostname for link in outside} == {
        "distributed.dask.org",
        "github.com",
        "keepachangelog.com",
        "semver.org",
        "www.standardwebhooks.com",
    }
    assert [link for link in outside if not re.fullmatch(r"https://[\w./#-]+", link)] == []


def test_both_languages_have_every_page(site: Path, pages: dict[Path, Page]) -> None:
    names = {path.relative_to(site).as_posix() for path in pages}
    english = {name for name in names if not name.startswith("zh/")}
    assert english - {"404.html"} == {name.removeprefix("zh/") for name in names - english}
    for path, page in pages.items():
        if path.name == "404.html":
            continue
        lang = "zh" if path.relative_to(site).parts[0] == "zh" else "en"
        assert f'<html lang="{lang}"' in page.text, path
    assert "运行库" in pages[site / "zh/runtimes.html"].text


def test_the_reference_has_all_that_the_program_has(site: Path, pages: dict[Path, Page]) -> None:
    commands = {name for name, one in vars(typer.main.get_command(app))["commands"].items() if not one.hidden}
    for lang in ("", "zh/"):
        cli = pages[site / f"{lang}reference/cli.html"]
        assert commands - cli.anchors == set()
        api = pages[site / f"{lang}reference/python-api.html"]
        functions = {name.lower() for name in litefleet.__all__ if callable(getattr(litefleet, name))}
        assert functions - api.anchors == set()
        assert {code for code in CATALOGUE if not (site / f"{lang}findings/{code}.html").is_file()} == set()
        http = pages[site / f"{lang}reference/http-api.html"]
        asked = [one["operationId"] for path in openapi()["paths"].values() for one in path.values()]
        assert set(asked) - http.anchors == set()
        shown = pages[site / f"{lang}reference/http-api-documents.html"].anchors
        assert {"devicerecord", "onemodel", "problem", "planbody"} - shown == set()
        wire = pages[site / f"{lang}reference/wire.html"].text
        for op in ("hello", "put", "verify", "activate", "confirm", "rollback", "history"):
            assert f"<code>{op}</code>" in wire
        settings = pages[site / f"{lang}reference/settings.html"].text
        assert all(f"<code>{key}</code>" in settings for key in ("models.NAME.golden.cases", "rollout.waves", "jump"))
    assert "默认值" in pages[site / "zh/reference/cli.html"].text
    assert json.loads((site / "reference/openapi.json").read_text()) == openapi()
    assert json.loads((site / "reference/litefleet.schema.json").read_text())["properties"]["models"]


def test_every_written_page_can_be_found_from_the_navigation() -> None:
    """`mkdocs build --strict` ends at a page that is in no menu; what is kept out of it is named here."""
    config = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader=_Loader)
    assert config["strict"] is True
    assert config["not_in_nav"].split() == ["/findings/LF*.md", "/reference/*.json", "/examples/", "/adr/"]


def test_a_browser_finds_a_page_in_both_languages(site: Path) -> None:
    """The search runs in the browser, over the site as a plain web server has it; nothing else is asked."""
    if not Path(CHROMIUM).exists():
        lacking(f"{CHROMIUM} is missing: apt-get install chromium")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            asked: list[str] = []
            for start, words, page_found in (
                ("/index.html", "roll back", "/rollouts.html"),
                ("/zh/index.html", "漂移", "/zh/"),
            ):
                page = browser.new_page()
                page.on("request", lambda request: asked.append(request.url))
                page.goto(f"{address}{start}")
                page.fill("input[name=query]", words)
                first = page.locator(".md-search-result__link").first
                first.wait_for(state="attached", timeout=60_000)
                links = page.locator(".md-search-result__link").evaluate_all("all => all.map(one => one.href)")
                assert any(page_found in link for link in links), links
                page.goto(links[0])
                article = page.inner_text("article").lower()
                assert all(word in article for word in words.split())
            browser.close()
            assert {url.split("/")[2] for url in asked if not url.startswith(("data:", "blob:"))} == {
                address.split("/")[2]
            }
    finally:
        server.shutdown()
        server.server_close()


class _Quiet(SimpleHTTPRequestHandler):
    """Says nothing of each request."""

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_pictures_are_small_and_load_nothing(site: Path) -> None:
    """`make pictures` records those of the terminal; each has one in both languages."""
    pictures = sorted((ROOT / "docs" / "pictures").glob("*.svg"))
    assert {"inspect.svg", "inspect-zh.svg", "verify.svg", "verify-zh.svg"} <= {picture.name for picture in pictures}
    for picture in pictures:
        text = picture.read_text(encoding="utf-8")
        assert len(text.encode()) < 60_000, picture.name
        assert not re.search(r"@font-face|@import|(?:href|src)=|url\(\s*[\"']?http|<script", text), picture.name
        assert (site / "pictures" / picture.name).read_text(encoding="utf-8") == text


def test_the_architectures_picture_shows_the_layers_that_are_checked(site: Path, pages: dict[Path, Page]) -> None:
    drawn = pictures()
    assert set(drawn) == {"architecture.svg", "architecture-zh.svg"}
    for name, text in drawn.items():
        kept = (ROOT / "docs" / "pictures" / name).read_text(encoding="utf-8")
        assert kept == text, "draw it again: python -m tools.docs_site.diagram"
        assert all(f">{layer}<" in text for layer in ("serve", "doctor, demo", "verification"))
        page = pages[site / ("zh/architecture.html" if "-zh" in name else "architecture.html")]
        assert any(one.endswith(f"pictures/{name}") for one in page.loads)


class _Loader(yaml.SafeLoader):
    """Reads MkDocs' configuration; its Python objects stand for nothing here."""


_Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: None)


def test_the_search_finds_chinese_words(site: Path) -> None:
    """Each Chinese character is a word of the index, which the separator takes apart as the browser does."""
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    separator = re.compile(index["config"]["separator"])
    (rollouts,) = (page for page in index["docs"] if page["location"] == "zh/rollouts.html")
    assert separator.split(rollouts["title"]) == ["部", "署"]
    assert not any(re.search(r"[\u3400-\u9fff]{2}", page["title"] + " " + page["text"]) for page in index["docs"])
