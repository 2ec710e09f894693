"""docs/notifications.md: its configuration loads, its template and its check of a signature work, both languages are equal."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
from litefleet_controller.catalogue.language import Lang
from litefleet_controller.cli.notify import _Action
from litefleet_controller.config import load_config
from litefleet_controller.config.model import known_keys
from litefleet_controller.config.notify import ALL_EVENTS
from litefleet_controller.notify.dispatch import test_notice as made_notice
from litefleet_controller.notify.message import body_of, message_of
from litefleet_controller.notify.webhook import signature
from litefleet_controller.state.outbox import EVENTS

DOCS = Path(__file__).parents[3] / "docs"


def blocks(name: str, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", (DOCS / name).read_text(encoding="utf-8"), re.M | re.S)


@pytest.mark.parametrize("name", ["notifications.md", "notifications.zh.md"])
def test_the_page_works(name: str, tmp_path: Path) -> None:
    (example,) = blocks(name, "yaml")
    (tmp_path / "litefleet.yaml").write_text(example + "models: {cls: {source: .}}\n", encoding="utf-8")
    loaded = load_config(tmp_path / "litefleet.yaml").notify
    assert set(loaded) == {"chat", "incident", "ops-zh", "hook"}
    (template,) = blocks(name, "jinja")
    (tmp_path / "chat.json").write_text(template, encoding="utf-8")
    message = message_of(made_notice("lab", "chat", 1.0), Lang.EN)
    assert json.loads(body_of(message, loaded["chat"].template))["text"].startswith("lab: a test")
    (code,) = blocks(name, "python")
    made: dict[str, object] = {}
    exec(code, made)
    stamp = int(time.time())
    headers = {
        "webhook-id": "n-1",
        "webhook-timestamp": str(stamp),
        "webhook-signature": signature("k", "n-1", stamp, b"x"),
    }
    assert made["is_genuine"](headers, b"x", b"k")  # type: ignore[operator]
    assert not made["is_genuine"](headers, b"y", b"k")  # type: ignore[operator]
    old = {**headers, "webhook-timestamp": str(stamp - 900)}
    assert not made["is_genuine"](old, b"x", b"k")  # type: ignore[operator]
    text = (DOCS / name).read_text(encoding="utf-8")
    assert [event for event in ALL_EVENTS if f"| `{event}` |" not in text] == []
    (shell,) = blocks(name, "sh")
    assert {line.split()[2] for line in shell.splitlines()} == {action.value for action in _Action}
    for way in ("webhook", "email", "command"):
        keys = [f"`{way}.{key}`" for key in known_keys(("notify", "x", way))]
        assert [key for key in keys if key not in text] == []
    assert [key for key in known_keys(("notify", "x")) if f"`{key}`" not in text] == []


def test_both_pages_have_the_same_parts() -> None:
    english, chinese = ((DOCS / f"notifications{suffix}.md").read_text(encoding="utf-8") for suffix in ("", ".zh"))
    for mark in (r"^## ", r"^\|", r"^```"):
        assert len(re.findall(mark, english, re.M)) == len(re.findall(mark, chinese, re.M))


def test_the_events_of_the_configuration_are_those_of_the_state() -> None:
    assert ALL_EVENTS == EVENTS
