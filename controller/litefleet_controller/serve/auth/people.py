"""People and their roles: view < operate < admin."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from enum import StrEnum

from ...common.operator import system_user

LONGEST_NAME = 80  # characters, as of an operator's name in the audit log
_NAME = re.compile(rf"[\w.@+-]{{1,{LONGEST_NAME}}}")


class Role(StrEnum):
    """What a person may do; each role may do what the ones before it may.

    `view` reads.  `operate` acts on rollouts.  `admin` also changes whom the fleet trusts: host keys, forgotten devices.
    """

    VIEW = "view"
    OPERATE = "operate"
    ADMIN = "admin"

    def includes(self, needed: Role) -> bool:
        """Return whether a person of this role may do what `needed` is required for."""
        order = list(Role)
        return order.index(self) >= order.index(needed)


@dataclass(frozen=True)
class Person:
    """Who sends a request.  `way`: "link", "token" or "proxy", how this person was recognised."""

    name: str
    role: Role
    way: str = "token"

    @property
    def actor(self) -> str:
        """The name in the audit log and in rollouts: "alice as litefleet@host", as after `sudo`."""
        user = system_user()
        # The link's name is the operator's own, which names the system's user already where that differs.
        shown = self.name if self.way == "link" or self.name == user else f"{self.name} as {user}"
        return f"{shown}@{socket.gethostname()}"


def is_name(text: str) -> bool:
    """Return whether a text may be a person's name: letters, digits and . _ @ + -, at most 80 of them."""
    return _NAME.fullmatch(text) is not None
