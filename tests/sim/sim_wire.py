"""A device's end of the wire: bytes in, what they say out.  Production's own commands, loader and frames are taken apart."""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from litefleet_agent.protocol import PREFIX_SIZE, decode_header, decode_prefix
from litefleet_controller.devices.bootstrap import lead

__all__ = ["Boot", "Peer", "Request", "nonce_of"]

_SIZE = re.compile(r"len\(d\)<(\d+)")
_VALUES = re.compile(rb"^(NONCE, [A-Z, ]+) = (.*)$", re.M)


@dataclass(frozen=True)
class Boot:
    """The bootstrap says a line: `have`, `need`, `ready`, `nopython ...`, `fail ...`."""

    text: str
    root: str = ""
    agent: str = ""  # SHA-256 of the archive that is kept from now on


@dataclass(frozen=True)
class Request:
    """A whole frame from the controller."""

    header: dict[str, Any]
    body: bytes


def nonce_of(command: str) -> str:
    """Return the nonce: the last word of the exec command."""
    return command.rsplit(" ", 1)[1].strip("'")


class Peer:
    """Reads one exec channel's stdin.  What no agent could read is the controller's fault: AssertionError."""

    def __init__(self, command: str, agents: set[str]) -> None:
        found = _SIZE.search(command)
        assert found is not None, f"no loader's size in {command[:200]!r}"
        self.nonce = nonce_of(command)
        self._loader_size = int(found.group(1))
        self._agents = agents
        self._buffer = bytearray()
        self._said: list[Boot | Request] = []
        self._grammar = self._talk()
        self._wanted = next(self._grammar)

    def feed(self, data: bytes) -> list[Boot | Request]:
        """Return what these bytes complete, in order."""
        self._buffer += data
        while len(self._buffer) >= self._wanted:
            part = bytes(self._buffer[: self._wanted])
            del self._buffer[: self._wanted]
            self._wanted = self._grammar.send(part)
        output, self._said = self._said, []
        return output

    def _talk(self) -> Generator[int, bytes, None]:
        """Yield how many bytes come next, and be sent them."""
        assert (yield len(lead(self.nonce))) == lead(self.nonce)
        values = _values((yield self._loader_size))
        assert values["NONCE"] == self.nonce, "the loader and the command have different nonces"
        sha, root = values["SHA"], values["ROOT"]
        opening = yield values["OPENING"]
        if sha in self._agents:
            self._said.append(Boot("have", root))
        else:
            self._said.append(Boot("need", root))
            whole = hashlib.sha256((yield values["KEEPER"] + values["SIZE"])[values["KEEPER"] :]).hexdigest() == sha
            kept = sha if values.get("KEEP", True) else ""
            self._said.append(Boot("ready", root, kept) if whole else Boot("fail the agent arrived damaged", root))
        self._buffer[:0] = opening
        while True:
            header_size, body_size = decode_prefix((yield PREFIX_SIZE))
            header = decode_header((yield header_size))
            body = yield body_size
            self._said.append(Request(header, body))


def _values(loader: bytes) -> dict[str, Any]:
    """Return the loader's own settings by name."""
    found = _VALUES.search(loader)
    assert found is not None, f"not a loader: {loader[:80]!r}"
    values = ast.literal_eval(f"({found.group(2).decode()},)")
    return dict(zip(found.group(1).decode().split(", "), values, strict=True))
