"""What coordinator and workers send each other, as values.  Both run the same version of litefleet: see `Description`.

Errors travel as values too: the exceptions of `devices` are made from findings, and would not survive being pickled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from litefleet_agent.errors import AgentError
from litefleet_agent.findings import Finding
from litefleet_agent.protocol import ProtocolError
from litefleet_inventory.model import Device

from .. import __version__
from ..devices.agent_client import NoPython, Request, RequestRejected
from ..devices.starter import Launch
from ..devices.transport.base import TransportError


class Description(NamedTuple):
    """What a worker says of itself."""

    name: str
    sites: tuple[str, ...] = ()  # groups or tags of the inventory whose devices it can reach
    jumps: tuple[str, ...] = ()  # jump hosts that it can reach
    sessions: int = 32  # with devices, at once
    version: str = __version__

    def reaches(self, device: Device, hops: Sequence[Device]) -> bool:
        """Return whether it can reach a device behind these jump hosts; a worker without labels reaches every device."""
        if not self.sites and not self.jumps:
            return True
        places = {*device.groups, *device.tags}
        ways = {device.jump, *(hop.name for hop in hops), *(hop.host for hop in hops)}
        return not places.isdisjoint(self.sites) or not ways.isdisjoint(self.jumps)


class SentTrust(NamedTuple):
    """The host keys of one device or jump host, as lines "ssh-ed25519 AAAA..."."""

    name: str
    known: tuple[str, ...]
    revoked: tuple[str, ...]
    authorities: tuple[str, ...]
    accepts_new: bool


class Way(NamedTuple):
    """How a device is reached: by the worker's own SSH keys, over these hops, with these host keys."""

    run: str  # of the coordinator
    device: Device
    hops: tuple[Device, ...]
    trust: tuple[SentTrust, ...]  # of the device and the hops
    connect_s: float


class Blob(NamedTuple):
    """A file or a large body that the worker holds under its hash."""

    sha256: str
    size: int


class Opening(NamedTuple):
    """What a session begins with."""

    session: str
    way: Way
    launch: Launch
    archive: Blob  # the agent's


class SentRequest(NamedTuple):
    """A request to the agent; a large body is a blob."""

    op: str
    fields: Mapping[str, object]
    body: bytes | Blob | None
    answer_limit: int


class Cost(NamedTuple):
    """What a session's connection carried so far."""

    sent_bytes: int = 0
    round_trips: int = 0


class Failed(NamedTuple):
    """An exception of `devices`."""

    kind: str  # "transport", "python", "protocol", "agent" or "rejected"
    text: str
    found: Finding | None = None
    facts: Mapping[str, str] = {}
    request: int = 0  # which one was rejected
    cost: Cost = Cost()


class Opened(NamedTuple):
    """A session that holds a connection; `hello` is why the agent did not start where it did not."""

    host_key: str
    accepted: tuple[tuple[str, str], ...]  # (name of device or hop, key) accepted on first contact: not pinned yet
    hello: dict[str, object] | Failed
    cost: Cost


class Asked(NamedTuple):
    """The answers to one `ask`, as (result, body)."""

    answers: tuple[tuple[dict[str, object], bytes], ...]
    cost: Cost


FAILURES = (TransportError, NoPython, AgentError, RequestRejected)  # ProtocolError is an AgentError


def failed(error: Exception, requests: Sequence[Request] = (), cost: Cost = Cost()) -> Failed:  # noqa: B008
    """Return the value for an exception of FAILURES."""
    if isinstance(error, RequestRejected):
        number = next((n for n, request in enumerate(requests) if request is error.request), 0)
        return Failed("rejected", str(error), error.found, request=number, cost=cost)
    if isinstance(error, NoPython):
        return Failed("python", error.why, facts=dict(error.facts), cost=cost)
    if isinstance(error, TransportError):
        return Failed("transport", str(error), error.found, cost=cost)
    return Failed("protocol" if isinstance(error, ProtocolError) else "agent", str(error), cost=cost)


def raised(failure: Failed, requests: Sequence[Request] = ()) -> Exception:
    """Return the exception for a value of `failed`."""
    if failure.kind == "rejected":
        assert failure.found is not None
        return RequestRejected.of(requests[failure.request], failure.found)
    if failure.kind == "python":
        return NoPython(failure.facts, failure.text)
    if failure.kind == "transport":
        assert failure.found is not None
        return TransportError(failure.found)
    return ProtocolError(failure.text) if failure.kind == "protocol" else AgentError(failure.text)
