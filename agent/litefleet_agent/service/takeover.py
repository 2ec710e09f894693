"""Becoming another agent, or the same one with other settings, in this very process: callers wait a moment and lose nothing."""

import hashlib
import os
import socket
import sys
from typing import List, Mapping

from ..archive import NAME
from ..errors import AgentError
from .listening import hand_on

__all__ = ["Takeover"]

_MOST = 64 << 20  # bytes of an agent


class Takeover:
    """Knows which agent this one is, and which one it is to become."""

    def __init__(self, root: str, environ: Mapping[str, str]) -> None:
        self._root, self._environ = root, environ
        self._link = os.path.join(root, "agent", NAME)
        self._named = self._name()

    def _name(self) -> str:
        """Return which agent the link names; "" where there is none (a checkout)."""
        try:
            return os.readlink(self._link)
        except OSError:
            return ""

    @property
    def due(self) -> bool:
        """Whether the link names another agent by now, and it is there, whole."""
        name = self._name()
        if not name or name == self._named:
            return False
        try:
            with open(os.path.join(self._root, "agent", name), "rb") as file:
                whole = hashlib.sha256(file.read(_MOST)).hexdigest() + ".pyz" == os.path.basename(name)
        except OSError:
            whole = False
        return whole

    def check(self) -> None:
        """Raise AgentError when the next start would run an agent that is not to be run."""
        name = self._name()
        if name and name != self._named and not self.due:
            raise AgentError(
                "the agent %s is not what its name promises, and a restart would run it: push it again (`litefleet "
                "rollout`, or `litefleet-agent install`)" % name
            )

    def go(self, listening: socket.socket) -> None:
        """Become it.  The socket goes along; everything else of this process ends here."""
        argv = [sys.executable, "-Es", self._link, "serve", "--root", self._root] if self.due else _own_argv()
        os.execve(sys.executable, argv, hand_on(listening, self._environ))  # noqa: S606


def _own_argv() -> List[str]:
    """Return how this process was started."""
    with open("/proc/self/cmdline", "rb") as file:
        return [os.fsdecode(word) for word in file.read().split(b"\0")[:-1]]
