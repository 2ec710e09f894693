"""Renders the pages: one Jinja environment with autoescape on, and the few filters that all templates share.

Text from devices, inventories and models is hostile: `clean` makes it printable, autoescape makes it text.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from functools import cache
from urllib.parse import quote, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape
from starlette.requests import Request
from starlette.responses import HTMLResponse

from ...catalogue.articles import title_of
from ...catalogue.language import current_lang
from ...catalogue.translate import tr, translated, translated_cell
from ...common.text import LINE_LIMIT, sanitize
from ...reports.event_sentences import audit_sentence, entry_sentence, reason_sentence
from ...reports.grouping import folded
from ...reports.values import human_bytes, human_moment, human_ms, human_span
from ..auth import Role, csrf_token, person_of
from ..service import service_of

THEMES = ("light", "dark")
THEME_COOKIE = "litefleet-theme"
# What each status looks like beside its text: a shape, so that no colour alone tells it.
MARKS: Mapping[str, tuple[str, str]] = {
    **dict.fromkeys(("done", "verified", "confirmed", "unchanged", "strong"), ("✓", "good")),
    **dict.fromkeys(
        ("failed", "refused", "crashed", "wrong", "slow", "unsupported", "unreachable", "error", "aborted"),
        ("✕", "bad"),
    ),
    **dict.fromkeys(("working", "running", "staging", "proven", "switching", "leased"), ("▸", "busy")),
    **dict.fromkeys(("offline", "paused", "waiting", "warning", "blocked", "weak"), ("▲", "warn")),
    **dict.fromkeys(("rolled back", "rolled-back", "superseded"), ("↩", "dim")),
}


def clean(text: object, most: int = LINE_LIMIT) -> str:
    """Return text of unknown origin as one printable line."""
    return sanitize(text, most)


def sentence(text: object) -> Markup:
    """Return a stored sentence in the reader's language, cleaned, with its commands as code; a gate before it by itself."""
    return code(reason_sentence(text))


def code(text: str) -> Markup:
    """Return a text with `backquoted` parts as code; the rest is escaped."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped just here


def mark(status: str) -> Markup:
    """Return a status as shape and text."""
    shape, kind = MARKS.get(status, ("○", "dim"))
    text = translated_cell(sanitize(status, 40))
    return Markup('<span class="mark {}"><span class="shape" aria-hidden="true">{}</span> {}</span>').format(
        kind, shape, text
    )


def moment(epoch: float) -> Markup:
    """Return a time as how long ago it was, with the exact time for a pointer and a screen reader's user."""
    if not epoch:
        return Markup("–")
    ago = tr("{span} ago", span=translated(human_span(max(0.0, time.time() - epoch))))
    return Markup('<time title="{}">{}</time>').format(human_moment(epoch), ago)


def segment(text: str) -> str:
    """Return a text as one segment of a path; what no URL may hold is percent-encoded."""
    return quote(text, safe="")


@cache
def environment() -> Environment:
    """Return the environment of all templates."""
    made = Environment(
        autoescape=select_autoescape(default=True, default_for_string=True),
        loader=PackageLoader("litefleet_controller.serve.pages"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        clean=clean,
        sentence=sentence,
        code=code,
        mark=mark,
        moment=moment,
        when=human_moment,
        span=lambda seconds: translated(human_span(seconds)),
        ms=human_ms,
        bytes=human_bytes,
        t=lambda text: translated_cell(sanitize(text, LINE_LIMIT)),
        title=title_of,
        folded=folded,
        audit_sentence=lambda entry: code(audit_sentence(entry)),
        entry_sentence=lambda entry: code(entry_sentence(entry)),
        segment=segment,
    )
    made.globals.update(tr=tr)
    return made


def page(request: Request, name: str, /, *, http: int = 200, **values: object) -> HTMLResponse:
    """Return a rendered page.  It blocks: call it from an endpoint that runs in a thread."""
    template = environment().get_template(name)
    return HTMLResponse(template.render({**_common(request), **values}), http)


def theme_of(request: Request) -> str:
    """Return "light" or "dark" where a person chose one, "" for the system's."""
    found = request.cookies.get(THEME_COOKIE, "")
    return found if found in THEMES else ""


def with_query(request: Request, **changes: object) -> str:
    """Return the request's path with its query changed; None and "" remove a name."""
    kept = [(key, value) for key, value in request.query_params.multi_items() if key not in changes and key != "lang"]
    kept += [(key, str(value)) for key, value in changes.items() if value not in (None, "", False)]
    return quote(request.url.path) + (f"?{urlencode(kept)}" if kept else "")


def _common(request: Request) -> dict[str, object]:
    person = person_of(request)
    other = "en" if current_lang().value == "zh" else "zh"
    return {
        "lang": current_lang().tag,
        "other_lang": with_query(request) + ("&" if "?" in with_query(request) else "?") + f"lang={other}",
        "other_lang_tag": "en" if other == "en" else "zh-CN",
        "theme": theme_of(request),
        "here": with_query(request),
        "path": request.url.path,
        "person": person,
        "may_operate": person.role.includes(Role.OPERATE),
        "may_admin": person.role.includes(Role.ADMIN),
        "csrf_token": csrf_token(request),
        "fleet_name": service_of(request).config().fleet,
        "link": lambda **changes: with_query(request, **changes),
        "now": time.time(),
    }
