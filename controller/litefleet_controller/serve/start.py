"""Puts the server together from what the command line asks for."""

from __future__ import annotations

import ipaddress
import json
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..common.errors import UsageError
from ..common.operator import operator
from ..config import load_config
from ..project import Options
from .auth.auth import Auth, OneTimeLink, Proxy
from .auth.people import Person, Role
from .auth.users import Users
from .server import listening
from .server import run as run_server
from .service import ServeSettings, Service

USERS_FILE = "serve-users.json"


@dataclass(frozen=True)
class Wanted:
    """What the command line asks for; its options of the same names say what each field is."""

    host: str = "127.0.0.1"
    port: int = 8470
    users: Path | None = None
    hostnames: tuple[str, ...] = ()
    certificate: Path | None = None
    key: Path | None = None
    user_header: str = ""
    proxies: tuple[str, ...] = ()
    proxy_role: str = ""  # "": only names of the users' file
    no_link: bool = False


def run(options: Options, wanted: Wanted, say: Callable[[str], None]) -> None:
    """Serve a project until Ctrl-C.  Raises: ConfigError, UsageError before it listens."""
    config = load_config(options.config)
    users, proxy = Users(wanted.users or config.store / USERS_FILE), _proxy(wanted)
    has_link = is_loopback(wanted.host) and not wanted.no_link
    if not has_link and not users.all() and not proxy.header:
        why = "--no-link" if wanted.no_link else f"--host {wanted.host} lets other machines in, and"
        why += " leaves no way in:" if wanted.no_link else ""
        raise UsageError(
            f"{why} there are no users yet. Make the first one: `litefleet serve token NAME --role admin`."
        )
    _check_tls(wanted)
    listener = listening(ServeSettings(wanted.host, wanted.port))
    port = int(listener.getsockname()[1])
    settings = ServeSettings(wanted.host, port, wanted.hostnames, wanted.certificate, wanted.key)
    link = OneTimeLink(Person(operator(config.operator), Role.ADMIN, "link") if has_link else None)
    auth = Auth(users, link, proxy, cookie_name=f"litefleet-{port}")
    host = wanted.hostnames[0] if wanted.hostnames and not has_link else wanted.host
    address = f"{'https' if wanted.certificate else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"

    def started() -> None:
        if link.secret:
            say(f"Open this link, which works once: {address}/login?link={link.secret}")
        else:
            say(f"dashboard at {address}/")
        if not is_loopback(wanted.host) and wanted.certificate is None:
            say("Tokens are sent unencrypted: give --cert and --key, or let a reverse proxy on this machine encrypt.")

    run_server(Service(options, auth, settings), listener, started)


def _proxy(wanted: Wanted) -> Proxy:
    """Return the proxy that names users.  Raises: UsageError for a header without addresses, and for a wrong one."""
    if not wanted.user_header and not wanted.proxies:
        return Proxy()
    if wanted.user_header and not wanted.proxies:
        raise UsageError(
            "--trusted-user-header needs --trusted-proxy: the address of the proxy, which alone may name the user"
        )
    if wanted.user_header and not re.fullmatch(r"[A-Za-z0-9-]{1,60}", wanted.user_header):
        raise UsageError(f"--trusted-user-header: {wanted.user_header[:60]!r} is no header's name")
    networks = []
    for text in wanted.proxies:
        try:
            networks.append(ipaddress.ip_network(text, strict=False))
        except ValueError as error:
            raise UsageError(f"--trusted-proxy: {text[:60]!r} is no address or network, as in 10.0.0.5") from error
    return Proxy(wanted.user_header, tuple(networks), Role(wanted.proxy_role) if wanted.proxy_role else None)


def _check_tls(wanted: Wanted) -> None:
    """Raise UsageError for a certificate that cannot be used."""
    if wanted.certificate is None:
        if wanted.key is not None:
            raise UsageError("--key needs --cert: the file with the certificate and its chain")
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(wanted.certificate, wanted.key or wanted.certificate, password=lambda: "")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"--cert {wanted.certificate}: certificate and key cannot be used: {why}") from error


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
