"""Every block of commands in the documentation is accounted for: a test runs it, or the page says why none does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.controller.test_docs import check_typed
from tests.e2e.docs_pages import ROOT, Block, marked_blocks

# pages that are run as they stand, and the test that does it; blocks that say why they are not run are left out
RUN = {
    "docs/api.md": "tests/e2e/test_api.py",
    "README.md": "tests/e2e/test_docs_how_to.py",
    "docs/day-2.md": "tests/e2e/test_docs_day_2.py",
    "docs/from-segfault.md": "tests/e2e/test_docs_from_segfault.py",
    "docs/infer.md": "tests/e2e/test_docs_infer.py",
    "docs/models.md": "tests/e2e/test_docs_models.py",
    **{
        f"docs/{name}.md": "tests/e2e/test_docs_pages.py"
        for name in ("ci", "findings", "monitoring", "notifications", "releases", "variants")
    },
    **{
        f"docs/how-to/{name}.md": "tests/e2e/test_docs_how_to.py"
        for name in (
            "air-gapped-sites",
            "jetson",
            "jump-hosts",
            "offline-devices",
            "openwrt",
            "raspberry-pi",
            "rk3588",
            "runtimes",
        )
    },
}
# How many blocks of a page say why no test runs them as they stand: whoever adds one counts it here.
NOT_RUN = {
    "docs/performance.md": 1,
    "README.md": 3,
    "docs/ansible.md": 2,
    "docs/api.md": 1,
    "docs/bench.md": 2,
    "docs/cluster.md": 4,
    "docs/dashboard.md": 6,
    "docs/evaluate.md": 1,
    "docs/fabric.md": 1,
    "docs/how-to/jetson.md": 3,
    "docs/how-to/openwrt.md": 1,
    "docs/how-to/raspberry-pi.md": 2,
    "docs/how-to/rk3588.md": 1,
    "docs/infer.md": 1,
    "docs/rollouts.md": 2,
    "docs/runtimes.md": 3,
    "docs/service.md": 8,
}
_NAMED_TEST = re.compile(r"\btests/[\w/]+\.py\b")
_COMMENT = re.compile(r"\s+#.*")


def _to_type(page: Path) -> list[Block]:
    return [block for block in marked_blocks(page) if block.kind != "text"]


def _pages_with_commands() -> set[str]:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    return {page.relative_to(ROOT).as_posix() for page in pages if ".zh." not in page.name and _to_type(page)}


def test_what_people_type_from_top_to_bottom_is_run() -> None:
    """The README, the tutorial, day 2 and the how-to pages are."""
    found = _pages_with_commands()
    assert set(RUN) - found == set()
    how_to = {page for page in found if page.startswith("docs/how-to/")}
    assert how_to - set(RUN) == set(), "run these pages by a test, and name it in RUN"


def test_blocks_that_are_not_run_are_counted() -> None:
    counts = {page: sum(bool(block.reason) for block in _to_type(ROOT / page)) for page in _pages_with_commands()}
    assert {page: count for page, count in counts.items() if count} == NOT_RUN


@pytest.mark.parametrize("page", sorted(_pages_with_commands() - set(RUN)))
def test_commands_of_a_page_that_explains_exist(page: str) -> None:
    lines = (line.partition("#")[0] for block in _to_type(ROOT / page) for line in block.text.splitlines())
    check_typed(page, {line for line in lines if line.startswith("litefleet ")})


@pytest.mark.parametrize("page", sorted(_pages_with_commands()))
def test_every_block_is_run_or_says_why_not(page: str) -> None:
    if page in RUN:
        test = (ROOT / RUN[page]).read_text(encoding="utf-8")
        assert Path(page).stem in test, f"{RUN[page]} does not run {page}"
    for block in _to_type(ROOT / page):
        assert page in RUN or block.reason, f"no test runs this, and it does not say why:\n{block.text}"
        assert block.kind == "sh" or block.reason, "a `console` block shows a session: it is not run"
        assert not block.reason or len(block.reason.split()) >= 5, block.reason
        assert [name for name in _NAMED_TEST.findall(block.reason) if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize("page", sorted(_pages_with_commands()))
def test_both_languages_have_the_same_blocks_and_reasons(page: str) -> None:
    english, chinese = (marked_blocks(ROOT / name) for name in (page, page.replace(".md", ".zh.md")))
    assert [_plain(block) for block in english] == [_plain(block) for block in chinese]


def _plain(block: Block) -> Block:
    """Return a block without the comments behind its commands, which may be translated; what is said stays as it is."""
    return block if block.kind == "text" else block._replace(text=_COMMENT.sub("", block.text))


_PARTS, _CONTAINER = "tests/packaging/test_release_parts.py", "tests/lab/test_lab_container.py"
INSTALL = {  # the commands in the tables of docs/install.md, and the test that runs them or, with another builder, the same
    "pipx install litefleet": _PARTS,
    "uv tool install litefleet": _PARTS,
    "uvx litefleet demo": _PARTS,
    "pipx install 'litefleet[dashboard]'": _PARTS,
    "uv tool install ./litefleet-0.1.0-py3-none-any.whl": _PARTS,
    "make wheel": _CONTAINER,
    "make wheel && podman build -f integrations/container/Containerfile -t litefleet dist": _CONTAINER,
    "podman run --rm -v ./fleet:/fleet litefleet serve token ann --role operate": _CONTAINER,
    "podman run -v ./fleet:/fleet -p 127.0.0.1:8470:8470 litefleet": _CONTAINER,
    "podman run --rm -v ./fleet:/fleet litefleet status": _CONTAINER,
}


@pytest.mark.parametrize(("page", "head"), [("install.md", "command"), ("install.zh.md", "命令")])
def test_ways_to_install_have_a_test(page: str, head: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    tables = re.findall(rf"^\|[^|\n]*\| {head} \|\n\| --- \| --- \|\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert re.findall(r"\| `([^`]+)` ", "".join(tables)) == list(INSTALL)
    assert [test for test in INSTALL.values() if not (ROOT / test).is_file()] == []
