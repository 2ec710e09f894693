"""The answer to `hello`: what runs on the device, what it holds, its leases and reverts, its trust and its reports."""

from __future__ import annotations

import os
import sys

from ..facts import Facts, fingerprint
from ..formats.light import NamedTuple
from ..releases.activation import overdue, recover
from ..releases.intact import intact_releases
from ..releases.journal import NOBODY, Contents, Journal, State, Told
from ..releases.store import PART, Store, StoreError, VerificationRecord
from .watch import HEARTBEAT_S

TYPE_CHECKING = False  # known to type checkers; loading typing takes a third of a session's start
if TYPE_CHECKING:
    from typing import Dict, List, Optional, Tuple

_REVERTED = 10  # the latest of them are reported
_KEPT = 100  # releases of one model that are reported
_LOD_LEVELS = 4  # formats.npz.MAX_LOD_LEVELS, which this answer does not load


class LeaseStatus(NamedTuple):
    """A release that runs unconfirmed."""

    release: str
    before: str  # the release that the device reverts to; "" for none
    remaining_s: float  # 0 when it has expired

    def to_dict(self) -> Dict[str, object]:
        """Return the JSON form."""
        return dict(self._asdict())


class Reverted(NamedTuple):
    """A switch that the device reverted."""

    model: str
    release: str
    why: str
    at: float  # seconds since the epoch, on the device's clock

    def to_dict(self) -> Dict[str, object]:
        """Return the JSON form."""
        return dict(self._asdict())


class SwitchStatus(NamedTuple):
    """The device's switches: open leases, what was reverted, and what a model could be switched to."""

    leases: Dict[str, LeaseStatus]  # by model
    reverted: Tuple[Reverted, ...]  # the latest ten, oldest first
    kept: Dict[str, List[str]]  # releases verified here, by model, the latest verification first
    told: Told = NOBODY  # which controller's state asked for the last switch

    def to_dict(self) -> Dict[str, object]:
        """Return the JSON form: {leases, undone, kept, told}."""
        return {
            "leases": {model: lease.to_dict() for model, lease in self.leases.items()},
            "undone": [one.to_dict() for one in self.reverted],
            "kept": self.kept,
            "told": self.told.to_dict(),
        }


class Hello(NamedTuple):
    """The answer to `hello`."""

    agent: str  # SHA-256 of the agent that runs
    root: str
    boot: str  # the kernel's boot id
    facts: Facts
    fingerprint: str  # of the facts that verification depends on
    blobs: Dict[str, int]  # bytes, by SHA-256
    runtimes: List[str]
    current: Dict[str, str]  # release, by model
    previous: Dict[str, str]
    verified: Dict[str, VerificationRecord]  # of the current releases that are whole
    switches: SwitchStatus
    trust: Dict[str, object]
    reports: List[Dict[str, object]]  # of installations on the device that no controller has collected
    service: Optional[Dict[str, object]]  # {history, service}, where a service has run
    heartbeat_s: float  # the interval at which the agent requests heartbeats
    parts: Dict[str, int]  # bytes that are here of blobs whose transfer was cut; older agents keep none
    lod_levels: int = _LOD_LEVELS  # of sequences that `infer` takes with an input; older agents would drop them
    kept_inputs: bool = True  # `infer` takes `kept` and `keep`
    engine_settings: bool = True  # a manifest's `engine` counts; older agents would ignore it
    rebuild: Tuple[str, ...] = ("zlib",)  # what `rebuild` can decompress; an agent without it puts no files together
    neighbours: bool = True  # `offer` and `fetch`: blobs from device to device

    def to_dict(self) -> Dict[str, object]:
        """Return the JSON form, in which `switches` and `service` are merged into the object."""
        answer = dict(self._asdict(), facts=self.facts.to_dict())
        answer["verified"] = {identity: record.to_wire() for identity, record in self.verified.items()}
        del answer["switches"], answer["service"]
        answer.update(self.switches.to_dict())
        answer.update(self.service or {})
        return answer


def hello(store: Store, facts: Facts, version: str) -> Hello:
    """Return what the device reports of itself; `version` is the agent's SHA-256.

    Expired leases are reverted before.  The code behind trust, reports and service
    is loaded only where the device has something of them.
    """
    revert_expired(store)
    current = store.current()
    intact = intact_releases(store, current.values())
    return Hello(
        version,
        store.root,
        store.clock.boot_id(),
        facts,
        fingerprint(facts),
        {sha: size for sha, size in store.blobs().items() if sha not in intact.damaged},  # those are sent again
        store.runtimes(),
        current,
        store.links("previous"),
        intact.verified,
        switch_status(store),
        _trust(store),
        _reports(store),
        _service(store),
        HEARTBEAT_S,
        store.blobs(PART),
        rebuild=("zlib", *(["lzma"] if _has_lzma() else []), "near", "planes", "graphs"),
    )


def _has_lzma() -> bool:
    """Say whether this Python has lzma; it is looked for, not loaded."""
    return any(finder.find_spec("_lzma", None) is not None for finder in sys.meta_path if hasattr(finder, "find_spec"))


def revert_expired(store: Store) -> None:
    """Revert switches that are overdue, whether another session is at work or not.  Never raises StoreError."""
    try:
        if overdue(store) and (store.locked or not store.switched_by_old_agent()):
            recover(store)
    except StoreError:
        pass  # nothing can be written: a switch reports that


def switch_status(store: Store) -> SwitchStatus:
    """Return the device's switches, as the journal and the records of verifications say; a damaged file counts as empty."""
    try:
        contents = Journal(store.root).read()
    except OSError:
        contents = Contents([], 0)
    leases = {
        o.model: LeaseStatus(o.to, o.before, o.lease.remaining_s(store.clock))
        for o in contents.open()
        if o.lease is not None and o.state is State.SWITCHED
    }
    reverted = [Reverted(o.model, o.to, o.why, o.at) for o in contents.operations if o.state is State.UNDONE]
    return SwitchStatus(leases, tuple(reverted[-_REVERTED:]), _kept(store), contents.told)


def _kept(store: Store) -> Dict[str, List[str]]:
    found: Dict[str, List[Tuple[float, str]]] = {}
    for identity in store.verified_releases():
        try:
            model = store.release(identity).model
        except StoreError:  # dropped by another session, or damaged
            continue
        record = store.verified(identity)
        found.setdefault(model, []).append((record.at if record is not None else 0, identity))
    return {model: [identity for _, identity in sorted(ids, reverse=True)[:_KEPT]] for model, ids in found.items()}


def _trust(store: Store) -> Dict[str, object]:
    if any(os.path.lexists(store.path("trust", name)) for name in ("allowed_signers", "accepted.json")):
        from ..releases.trust import describe

        return describe(store).to_dict()
    return {"signers": "", "fleet": "", "latest": 0, "numbers": {}}


def _reports(store: Store) -> List[Dict[str, object]]:
    if os.path.isdir(store.path("reports")) and os.listdir(store.path("reports")):
        from ..install.pending_reports import pending

        return pending(store)
    return []


def _service(store: Store) -> Optional[Dict[str, object]]:
    if not os.path.isdir(store.path("history")):
        return None
    from ..service.status_file import service_status

    return service_status(store.root)
