"""Puts the server together from what the command line asks for."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..common.errors import UsageError
from ..common.operator import operator
from ..config import load_config
from ..project import Options
from .auth.auth import Auth, OneTimeLink
from .auth.people import Person, Role
from .auth.users import Users
from .server import listening
from .server import run as run_server
from .service import ServeSettings, Service

USERS_FILE = "serve-users.json"


@dataclass(frozen=True)
class Wanted:
    """What the command line asks for."""

    host: str = "127.0.0.1"
    port: int = 8470
    users: Path | None = None


def run(options: Options, wanted: Wanted, say: Callable[[str], None]) -> None:
    """Serve a project until Ctrl-C.  Raises: ConfigError, UsageError before it listens."""
    config = load_config(options.config)
    users = Users(wanted.users or config.store / USERS_FILE)
    alone = is_loopback(wanted.host)
    if not alone and not users.all():
        raise UsageError(
            f"--host {wanted.host} lets other machines in, and there are no users yet. "
            "Make the first one: `litefleet serve token NAME --role admin`."
        )
    settings = ServeSettings(wanted.host, wanted.port)
    listener = listening(settings)
    port = int(listener.getsockname()[1])
    link = OneTimeLink(Person(operator(config.operator), Role.ADMIN, "link") if alone else None)
    auth = Auth(users, link, cookie_name=f"litefleet-{port}")
    service = Service(options, auth, settings)
    address = f"http://{f'[{wanted.host}]' if ':' in wanted.host else wanted.host}:{port}"

    def started() -> None:
        if link.secret:
            say(f"Open this link, which works once: {address}/login?link={link.secret}")
        else:
            say(f"dashboard at {address}/")

    run_server(service, listener, started)


def change_users(options: Options, path: Path | None, action: str, name: str, role: str) -> str:
    """Make or delete a user's token, or list users, and return what to show."""
    users = Users(path or load_config(options.config).store / USERS_FILE)
    if action == "users":
        found = [{"name": user.name, "role": user.role, "made_at": user.made_at} for user in users.all()]
        return json.dumps({"schema": 1, "users": found}, indent=2)
    if not name:
        raise UsageError(f"`litefleet serve {action}` needs the user's name")
    if action == "revoke":
        users.remove(name)
        return f"{name}: the token is deleted, and its sessions have ended"
    return users.add(name, Role(role))


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
