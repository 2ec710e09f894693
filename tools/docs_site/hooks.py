"""MkDocs' hooks: the site's source is prepared before a build, and the search index made fit for Chinese after it."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.plugins import event_priority

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # `mkdocs` runs as a program of its own, which does not know the checkout

from tools.docs_site.findings import finding_pages  # noqa: E402
from tools.docs_site.reference_api import api_pages  # noqa: E402
from tools.docs_site.reference_cli import cli_pages  # noqa: E402
from tools.docs_site.reference_http import http_pages  # noqa: E402
from tools.docs_site.reference_settings import settings_pages  # noqa: E402
from tools.docs_site.reference_wire import wire_pages  # noqa: E402
from tools.docs_site.stage import stage  # noqa: E402

SOURCE = ROOT / "build" / "docs"
_CHINESE = re.compile(r"(?<=[\u3400-\u9fff])(?=[\u3400-\u9fff])")
_BREAK = "\u200b"  # the search's separator has it; it takes no room where a result is shown


def generated_pages() -> dict[str, str]:
    """Return the pages that are made from the code, by name."""
    return {**finding_pages(), **cli_pages(), **settings_pages(), **api_pages(), **http_pages(), **wire_pages()}


class _Staged:
    done = False  # the plugin for languages begins a build for each of them


def on_config(config: Any) -> Any:
    """Prepare the site's source, and let MkDocs read it in place of docs/."""
    if not _Staged.done:
        stage(ROOT, SOURCE, generated_pages())
        _Staged.done = True
    config.docs_dir = str(SOURCE)
    return config


@event_priority(-100)  # after the search has written its index, and each language has been built
def on_post_build(config: Any) -> None:
    """Separate Chinese characters in the search index: Chinese has no spaces, and the search finds whole words only."""
    path = Path(config.site_dir) / "search" / "search_index.json"
    if path.is_file():
        path.write_text(json.dumps(separated(json.loads(path.read_text(encoding="utf-8"))), ensure_ascii=False))


def separated(index: dict[str, Any]) -> dict[str, Any]:
    """Return a search index in which each Chinese character is a word of its own."""
    for page in index["docs"]:
        for key in ("title", "text"):
            page[key] = _CHINESE.sub(_BREAK, page[key])
    return index
