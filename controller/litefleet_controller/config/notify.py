"""`notify:` of litefleet.yaml: who is told what happens, by a webhook, by mail or by a command.

A secret is never a value of litefleet.yaml: it is read from a file or from an environment variable when it is needed.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from .base import FilePath, Strict

EventName = Literal["stopped", "approval-wanted", "finished", "drift", "device-lost"]
ALL_EVENTS: tuple[EventName, ...] = ("stopped", "approval-wanted", "finished", "drift", "device-lost")
_VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]{0,127}$"
_ADDRESS = r"^[^\s<>@,;]{1,64}@[^\s<>@,;]{1,255}$"
_SERVER = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,255}):([0-9]{1,5})")


class SecretConfig(Strict):
    """Where a secret is: in a file, or in an environment variable."""

    file: FilePath | None = None
    env: Annotated[str, Field(pattern=_VARIABLE)] = ""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.file is None) == (not self.env):
            raise ValueError("write `{file: FILE}` or `{env: VARIABLE}`")
        return self


def is_loopback(host: str) -> bool:
    """Return whether a host's name or address is this machine's own."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def checked_url(url: str) -> str:
    """Return a webhook's URL.

    Raises: ValueError for one that is not https:// (http:// is for this machine only), or holds a user or a password.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host, parts = "", urlsplit("")
    if not host or not re.fullmatch(r"[!-~]{1,2000}", url) or parts.scheme not in ("http", "https"):
        raise ValueError("it is not a URL: write https://HOST/PATH")
    if parts.username is not None or parts.password is not None:
        raise ValueError("it holds a user or a password: have the whole URL read by `url: {env: VARIABLE}`")
    if parts.scheme == "http" and not is_loopback(host):
        raise ValueError("it is not encrypted: write https:// (http:// is for 127.0.0.1, ::1 and localhost only)")
    return url


class WebhookConfig(Strict):
    """A URL that gets each event by POST, signed if there is a secret."""

    url: str | SecretConfig  # one that is secret as a whole comes from a file or a variable
    secret: SecretConfig | None = None  # of the signature
    ca: FilePath | None = None  # the authority of the server's certificate; default: the system's
    time_limit_s: Annotated[float, Field(gt=0, le=60)] = 10
    content_type: Annotated[str, Field(pattern=r"^[a-z]+/[a-z0-9.+-]+$")] = "application/json"

    @field_validator("url")
    @classmethod
    def _secure(cls, url: str | SecretConfig) -> str | SecretConfig:
        return checked_url(url) if isinstance(url, str) else url


class EmailConfig(Strict):
    """A mail server, and who gets a mail from whom."""

    server: str  # HOST:PORT
    sender: Annotated[str, Field(pattern=_ADDRESS)]
    to: Annotated[tuple[Annotated[str, Field(pattern=_ADDRESS)], ...], Field(min_length=1, max_length=50)]
    tls: Literal["starttls", "tls", "none"] = "starttls"  # "tls": from the first byte on, as on port 465
    user: Annotated[str, Field(max_length=255)] = ""
    password: SecretConfig | None = None
    ca: FilePath | None = None
    time_limit_s: Annotated[float, Field(gt=0, le=60)] = 30

    @field_validator("server")
    @classmethod
    def _host_and_port(cls, server: str) -> str:
        found = _SERVER.fullmatch(server)
        if not found or not 0 < int(found[2]) <= 65535:
            raise ValueError(f"{server[:60]!r} is not HOST:PORT, as in mail.example.org:587")
        return server

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the server."""
        host, _, port = self.server.rpartition(":")
        return host.strip("[]"), int(port)

    @model_validator(mode="after")
    def _protected(self) -> Self:
        if bool(self.user) != (self.password is not None):
            raise ValueError("`user` and `password` go together")
        if self.tls == "none" and not is_loopback(self.address[0]):
            raise ValueError("`tls: none` is for a mail server on this machine only: write `starttls` or `tls`")
        return self


class CommandConfig(Strict):
    """A program that gets each event as JSON on its standard input; no shell is started."""

    argv: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=4096)], ...], Field(min_length=1, max_length=64)
    ]
    time_limit_s: Annotated[float, Field(gt=0, le=120)] = 30

    @field_validator("argv")
    @classmethod
    def _found_anywhere(cls, argv: tuple[str, ...]) -> tuple[str, ...]:
        if "/" in argv[0] and not argv[0].startswith("/"):
            raise ValueError(f"{argv[0][:60]!r} depends on the folder: write its absolute path, or a name in PATH")
        return argv


class ReceiverConfig(Strict):
    """One receiver, and what it is told."""

    webhook: WebhookConfig | None = None
    email: EmailConfig | None = None
    command: CommandConfig | None = None
    events: Annotated[tuple[EventName, ...], Field(min_length=1)] = ALL_EVENTS
    limit: Annotated[str, Field(max_length=2000)] = ""  # only events about these devices, as `--limit` selects them
    language: Literal["en", "zh"] = "en"
    template: FilePath | None = None  # Jinja2, of the body instead of litefleet's own
    attempts: Annotated[int, Field(ge=1, le=20)] = 10

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        ways = [way for way in ("webhook", "email", "command") if getattr(self, way) is not None]
        if len(ways) != 1:
            raise ValueError("give one of `webhook`, `email` and `command`")
        if self.command is not None and self.template is not None:
            raise ValueError("`template` goes with `webhook` and `email`: a command gets JSON")
        return self
