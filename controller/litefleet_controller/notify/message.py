"""What a receiver is told: the document of an event, its title and text in the receiver's language, and own templates."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ..catalogue.language import Lang, speaking
from ..catalogue.translate import translated_sentence
from ..common.text import sanitize
from ..state import Notice
from .sending import DeliveryError

_BUILT_IN = Path(__file__).parent / "templates"
_MOST_TEMPLATE = 64 * 1024  # bytes of a template
MOST_BODY = 256 * 1024  # bytes of what a receiver gets
_NEXT = {
    "stopped": ("litefleet status {id}", "litefleet resume {id}", "litefleet rollback --rollout {id}"),
    "approval-wanted": ("litefleet status {id}", "litefleet approve {id}", "litefleet abort {id}"),
    "finished": ("litefleet status {id}",),
    "device-lost": ("litefleet status {id}", "litefleet doctor"),
    "drift": ("litefleet history", "litefleet reconcile"),
}


@dataclass(frozen=True)
class Message:
    """One notice in words."""

    title: str  # one line
    text: str  # several
    document: Mapping[str, object]  # the JSON that webhooks and commands get; with title and text


def message_of(notice: Notice, lang: Lang) -> Message:
    """Return a notice in one language.  What devices sent is printable here; it has not been escaped for HTML."""
    with speaking(lang):
        content = _in_words(notice.content)
    rollout_id = notice.rollout
    state = content["rollout"].get("state") if content.get("rollout") else ""
    following = _NEXT.get(notice.event, ())
    commands = [command.format(id=rollout_id) for command in following if state != "aborted" or "resume" not in command]
    values = {
        "schema": 1,
        "id": notice.id,
        "event": notice.event,
        "at": datetime.fromtimestamp(notice.at, UTC).isoformat(timespec="seconds"),
        "fleet": notice.fleet,
        "rollout_id": rollout_id,
        "rollout": None,
        "devices": [],
        "device_count": 0,
        **content,
        "commands": commands,
    }
    written = rendered(_built_in(lang), values)
    title, _, text = written.partition("\n")
    lines = "\n".join(part.rstrip() for part in text.strip("\n").split("\n"))
    whole = re.sub(r"\n{3,}", "\n\n", lines)  # where a notice names no devices
    return Message(title, f"{title}\n\n{whole}".strip() + "\n", {**values, "title": title, "text": whole})


def body_of(message: Message, template: Path | None) -> str:
    """Return the body for a webhook: an own template's text, else the document as JSON.  Raises: DeliveryError."""
    if template is None:
        return json.dumps(message.document, ensure_ascii=False, indent=1)
    return rendered(own_template(template), message.document)


def own_template(path: Path) -> str:
    """Return a template's source.  Raises: DeliveryError where the file cannot be used."""
    try:
        with path.open("rb") as file:
            source = file.read(_MOST_TEMPLATE + 1)
        if len(source) > _MOST_TEMPLATE:
            raise DeliveryError(f"the template {path} is larger than {_MOST_TEMPLATE} bytes: write a smaller one")
        return source.decode()
    except OSError as error:
        raise DeliveryError(f"the template {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DeliveryError(f"the template {path} is not UTF-8 text") from error


def rendered(source: str, values: Mapping[str, object]) -> str:
    """Return a template's text, made in Jinja2's sandbox: no files, no attributes of Python, at most `MOST_BODY` bytes.

    Raises: DeliveryError for a template that is wrong, names what is not there, or writes too much.
    """
    written, size = [], 0
    try:
        for part in _compiled(source).generate(**values):
            written.append(part)
            size += len(part.encode())
            if size > MOST_BODY:
                raise DeliveryError(f"the template writes more than {MOST_BODY} bytes: write a shorter one")
    except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as error:
        line, why = getattr(error, "lineno", None), sanitize(str(error))
        if line:
            raise DeliveryError(f"line {line} of the template cannot be used: {why}") from error
        raise DeliveryError(f"the template cannot be used: {why}") from error
    return "".join(written)


@lru_cache(maxsize=32)
def _compiled(source: str) -> Any:
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True)
    return environment.from_string(source)


@lru_cache(maxsize=2)
def _built_in(lang: Lang) -> str:
    return (_BUILT_IN / f"notice.{lang.value}.txt").read_text(encoding="utf-8")


def _in_words(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a notice's content with its sentences in the language of messages, and every text printable."""
    shown = {**content}
    if content.get("rollout"):
        shown["rollout"] = {**content["rollout"], "reason": _sentence(content["rollout"].get("reason", ""))}
    shown["devices"] = [
        {
            "name": sanitize(device.get("name", "")),
            "code": device.get("code", ""),
            "reason": _sentence(device.get("reason", "")),
            "findings": device.get("findings", 0),
        }
        for device in content.get("devices", ())
    ]
    return shown


def _sentence(text: str) -> str:
    return translated_sentence(sanitize(text, 2000))
