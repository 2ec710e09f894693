"""The command `serve`: the dashboard and its HTTP API."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ..common.errors import UsageError
from .common import ProjectOptions, command, say, show


class _Action(StrEnum):
    RUN = "run"
    TOKEN = "token"  # noqa: S105 - the name of an action
    REVOKE = "revoke"
    USERS = "users"


class _Role(StrEnum):
    VIEW = "view"
    OPERATE = "operate"
    ADMIN = "admin"


@command
def serve(
    options: ProjectOptions,
    action: Annotated[
        _Action,
        typer.Argument(help="run; token NAME: a new token for a user; revoke NAME: delete one; users: list them."),
    ] = _Action.RUN,
    name: Annotated[str, typer.Argument(help="The user's name, for token and revoke.")] = "",
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; any but loopback needs users.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0: a free one.")] = 8470,
    users: Annotated[
        Path | None, typer.Option("--users", help="File of users; default: serve-users.json in the store.")
    ] = None,
    role: Annotated[_Role, typer.Option("--role", help="What a new token's user may do.")] = _Role.VIEW,
    hostname: Annotated[
        list[str] | None,
        typer.Option("--hostname", help="Name under which browsers call the server (may be repeated)."),
    ] = None,
    cert: Annotated[
        Path | None, typer.Option("--cert", help="Certificate and its chain as PEM, to serve over TLS.")
    ] = None,
    key: Annotated[
        Path | None, typer.Option("--key", help="The certificate's key as PEM; default: in the file of --cert.")
    ] = None,
    trusted_user_header: Annotated[
        str, typer.Option("--trusted-user-header", help="Header in which a trusted proxy names the user.")
    ] = "",
    trusted_proxy: Annotated[
        list[str] | None,
        typer.Option("--trusted-proxy", help="Address or network of a trusted proxy (may be repeated)."),
    ] = None,
    trusted_role: Annotated[
        _Role | None,
        typer.Option("--trusted-role", help="Role of users whom the proxy names and the file of users lacks."),
    ] = None,
    no_link: Annotated[
        bool, typer.Option("--no-link", help="Print no one-time link: people log in with tokens, or by the proxy.")
    ] = False,
) -> None:
    """Serve the dashboard and its HTTP API to browsers, until Ctrl-C."""
    try:
        from ..serve import start
    except ModuleNotFoundError as error:
        raise UsageError(f"`litefleet serve` needs {error.name}: pip install 'litefleet[dashboard]'") from error
    if action is _Action.RUN:
        by_proxy = (trusted_user_header, tuple(trusted_proxy or ()), trusted_role or "", no_link)
        wanted = start.Wanted(host, port, users, tuple(hostname or ()), cert, key, *by_proxy)
        start.run(options, wanted, say)
    else:
        show(start.change_users(options, users, action, name, role))
