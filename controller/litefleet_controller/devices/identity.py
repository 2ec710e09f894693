"""The identity under which a controller's state switches a fleet's devices, and what a device says that it was last told.

Each device keeps, with its last switch, the fleet, the state's random id and a number that the state increases before each
session (`litefleet_agent.releases.journal.Told`).  From these, a state that is older than its devices, or another one, is
noticed before anything is changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from litefleet_agent.errors import AgentError
from litefleet_agent.findings import Finding, finding
from litefleet_agent.releases.journal import NOBODY, Told


def told_of(hello: Mapping[str, object]) -> Told:
    """Return what a device was last told; NOBODY where it was never switched, or its agent is older and does not keep it.

    Raises: AgentError for an answer that is not well formed.
    """
    try:
        return Told.from_dict(hello.get("told"))
    except ValueError as error:
        raise AgentError(f"the device's `told` does not fit: {error}") from error


@dataclass(frozen=True)
class Identity:
    """One state's identity for one fleet; without a `state` it has never switched anything."""

    fleet: str = ""
    state: str = ""  # a random id
    number: int = 0  # grows before each session that may change a device
    past: Mapping[str, int] = field(
        default_factory=dict
    )  # its earlier ids, and their numbers when a person adopted the devices

    def problem(self, told: Told) -> str:
        """Return why this state must not change what was told last, "" where it may."""
        if told == NOBODY:
            return ""
        if told.fleet != self.fleet:
            return f"last switched for fleet '{told.fleet}'"
        known = self.number if told.state == self.state else self.past.get(told.state)
        if known is None:
            return f"last switched by another state, {told.state[:12]} (number {told.number})"
        if told.number > known:
            return f"last switched under number {told.number}, and this state knows only {known}: it is older"
        return ""

    def conflict(self, hello: Mapping[str, object]) -> tuple[Finding, ...]:
        """Return LF630 for a device that another state, or a later copy of this one, has switched last; else nothing."""
        why = self.problem(told_of(hello))
        return (finding("LF630", why),) if why else ()

    def order(self, hello: Mapping[str, object]) -> dict[str, object]:
        """Return the fields {told, seen} for a request to this device; none for agents that do not keep them."""
        if "told" not in hello or not self.state:
            return {}
        return {"told": Told(self.fleet, self.state, self.number).to_dict(), "seen": hello["told"]}
