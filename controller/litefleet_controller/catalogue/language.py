"""The language of messages: what one request asks for, else `--lang`, LITEFLEET_LANG, the locale.  Imports nothing slow."""

from __future__ import annotations

import enum
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import zip_longest


class Lang(enum.StrEnum):
    """A language of the catalogue."""

    EN = "en"
    ZH = "zh"

    @property
    def suffix(self) -> str:
        """Part of a page's file name before `.md`: "" for English, ".zh" for Chinese."""
        return "" if self is Lang.EN else f".{self.value}"

    @property
    def tag(self) -> str:
        """The language tag of an HTML page; with "zh-CN" a browser takes the characters' simplified forms."""
        return "en" if self is Lang.EN else "zh-CN"


class _Chosen:
    """The language that this process was asked for (`--lang`); None: the environment's."""

    lang: Lang | None = None


_SPOKEN: ContextVar[Lang | None] = ContextVar("litefleet_language", default=None)


@contextmanager
def speaking(lang: Lang) -> Iterator[None]:
    """Use a language in this context, one request of a server, whatever the process was asked for."""
    token = _SPOKEN.set(lang)
    try:
        yield
    finally:
        _SPOKEN.reset(token)


def choose(lang: str | None) -> None:
    """Set this process's language; None for the environment's.  Raises: ValueError for an unknown one."""
    _Chosen.lang = Lang(lang) if lang else None


def current_lang() -> Lang:
    """Return the language of messages: `speaking`'s, else `choose`'s, else LITEFLEET_LANG's, else the locale's."""
    chosen = _SPOKEN.get() or _Chosen.lang
    if chosen is not None:
        return chosen
    asked = os.environ.get("LITEFLEET_LANG", "")
    return Lang(asked) if asked in list(Lang) else lang_of()


def in_lang(english: str, chinese: str) -> str:
    """Return a sentence in the language of this process's messages."""
    return chinese if current_lang() is Lang.ZH else english


def lang_of(environment: Mapping[str, str] = os.environ) -> Lang:
    """Return the language for the locale in the environment: Chinese for a Chinese locale, else English."""
    locale = next(filter(None, map(environment.get, ("LC_ALL", "LC_MESSAGES", "LANG"))), "")
    return Lang.ZH if locale.lower().startswith("zh") else Lang.EN


def asked_in(args: Sequence[str]) -> str:
    """Return the language that a command line asks for, "" for none; it is needed before the line is parsed, for its help."""
    asked = ""
    for arg, following in zip_longest(args, args[1:], fillvalue=""):
        if arg == "--":
            break
        if arg == "--lang":
            asked = following
        elif arg.startswith("--lang="):
            asked = arg.removeprefix("--lang=")
    return asked if asked in list(Lang) else ""


def writable_lang(encoding: str | None) -> str:
    """Return "en" for an encoding that has no Chinese characters, such as ASCII or Latin-1, else ""."""
    try:
        "中文".encode(encoding or "utf-8")
    except (LookupError, UnicodeEncodeError):
        return Lang.EN.value
    return ""
