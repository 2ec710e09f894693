"""Logs in over paramiko with the keys that the fleet's own connections offer: of files, with certificates, of SSH agents."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import asyncssh
import paramiko
from asyncssh.agent import SSHAgentKeyPair
from litefleet_agent.findings import Finding, finding
from litefleet_inventory.model import Device
from paramiko.auth_strategy import AuthStrategy, InMemoryPrivateKey, SourceResult

from ..devices.transport.failures import address_of
from ..devices.transport.identities import Identities, named


class _Key(paramiko.PKey):
    """A key pair of asyncssh's as one of paramiko's: it may be in a file or in an SSH agent, with a certificate or without."""

    def __init__(self, pair: asyncssh.SSHKeyPair, runner: asyncio.Runner) -> None:
        self.public_blob = None
        self._pair, self._runner = pair, runner
        self._name = pair.get_algorithm()

    def get_name(self) -> str:
        """Return the key's or the certificate's type."""
        return self._name

    def asbytes(self) -> bytes:
        """Return the public key or the certificate."""
        return bytes(self._pair.public_data)

    def sign_ssh_data(self, data: bytes, algorithm: str | None = None) -> paramiko.Message:
        """Return the signature; paramiko calls this in a thread of its own, while the thread of `runner` waits for it."""
        if algorithm and "rsa" in algorithm:
            self._pair.set_sig_algorithm(algorithm.encode())
        return paramiko.Message(self._runner.run(_signature(self._pair, data)))


class _Offer(InMemoryPrivateKey):
    """One key; a server that wants more than a key has refused it."""

    def authenticate(self, transport: paramiko.Transport) -> list[str]:
        if more := super().authenticate(transport):
            raise paramiko.AuthenticationException(f"the server wants more than a key: {', '.join(more)[:100]}")
        return []


class FleetKeys(AuthStrategy):
    """The keys for one connection; `offered` names those that were tried."""

    def __init__(self, device: Device, user: str) -> None:
        super().__init__(ssh_config=paramiko.SSHConfig())
        self._device, self._user = device, user
        self._identities = Identities(device)
        self._transport: paramiko.Transport | None = None

    def authenticate(self, transport: paramiko.Transport) -> list[SourceResult]:
        """Try the keys; TransportError with LF705 when the inventory's `key:` is of no use."""
        self._transport = transport
        return super().authenticate(transport)

    def get_sources(self) -> Iterator[_Offer]:
        """Yield the keys one by one, until the server ends the connection."""
        with asyncio.Runner() as runner:
            offers = self._identities.offers()
            try:
                while self._transport is None or self._transport.is_active():
                    pair = runner.run(_next(offers))
                    if pair is None:
                        return
                    yield _Offer(self._user, _Key(pair, runner))
            finally:
                self._identities.close()

    def refused(self, words: str = "") -> Finding:
        """Return the finding for a login that none of the keys opened."""
        where, offered = address_of(self._device), self._identities.offered
        if self._transport is not None and not self._transport.is_active() and len(offered) > 2:
            return finding(
                "LF504",
                f"{where} closed the connection: too many keys were offered ({len(offered)}: {named(offered)}); "
                "name one with `key:` or --identity, or with IdentityFile and IdentitiesOnly in the SSH configuration",
            )
        keys = f"offered were: {named(offered)}" if offered else "there was no key to offer"
        return finding("LF504", f"{where} refused {self._user}: {words}{', ' if words else ''}{keys}")


async def _next(offers: AsyncIterator[asyncssh.SSHKeyPair]) -> asyncssh.SSHKeyPair | None:
    return await anext(offers, None)


async def _signature(pair: asyncssh.SSHKeyPair, data: bytes) -> bytes:
    if isinstance(pair, SSHAgentKeyPair):
        return await pair.sign_async(data)
    return bytes(pair.sign(data))
