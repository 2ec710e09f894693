"""Summarises a rollout: devices by wave and condition, failures by cause, and the next commands.  Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..devices.outcome import DeviceOutcome
from ..rollout import DeviceRow, DeviceState, Rollout, RolloutState
from ..rollout.model import REVERT
from .values import idle_text

_MOST_NAMED = 50  # devices in one command


@dataclass(frozen=True)
class Cluster:
    """Failures with one cause on one CPU part; `seen` holds (sentence, devices that reported it)."""

    code: str
    part: str  # "" = unknown
    seen: tuple[tuple[str, tuple[str, ...]], ...]
    forgiven: int  # rows that a person forgave by `resume`: gates no longer count them

    @property
    def devices(self) -> tuple[str, ...]:
        """All devices of the cluster, each once."""
        return tuple(dict.fromkeys(name for _, names in self.seen for name in names))


def clusters(rows: Sequence[DeviceRow], outcomes: Sequence[DeviceOutcome], state: DeviceState) -> tuple[Cluster, ...]:
    """Return the rows in one state gathered by (code, CPU part), the largest first."""
    ends = {(o.device, o.model): o for o in outcomes}
    groups: dict[tuple[str, str], list[tuple[DeviceRow, str]]] = {}
    for row in rows:
        if row.state is state:
            code, sentence = _cause(row, ends.get((row.device, row.model)))
            groups.setdefault((code, row.part), []).append((row, sentence))
    made = [_cluster(code, part, members) for (code, part), members in groups.items()]
    return tuple(sorted(made, key=lambda c: (-len(c.devices), c.code, c.part)))


def _cause(row: DeviceRow, outcome: DeviceOutcome | None) -> tuple[str, str]:
    """Return the deciding code and the sentence; LF900 where neither the row nor the outcome names one."""
    findings = outcome.findings if outcome else ()
    code = row.codes[0] if row.codes else next((f.code for f in findings), "LF900")
    sentence = row.sentence or (outcome.sentence if outcome else "")
    return code, sentence or "no reason was reported"


def _cluster(code: str, part: str, members: Sequence[tuple[DeviceRow, str]]) -> Cluster:
    seen: dict[str, list[str]] = {}
    for row, sentence in members:
        seen.setdefault(sentence, []).append(row.device)
    forgiven = sum(row.forgiven for row, _ in members)
    return Cluster(code, part, tuple((sentence, tuple(names)) for sentence, names in seen.items()), forgiven)


# For failures that a person mends: the command that shows whether it is mended, or mends it.  {devices}: a selection.
_MENDED_BY: Mapping[str, str] = {
    "LF502": "litefleet probe --limit {devices} --accept-new-host-keys",  # after the fingerprint was compared
    "LF503": "litefleet accept-key {device}",  # shows both fingerprints, and asks
}


def mending(cluster: Cluster) -> str:
    """Return the command that helps the devices of a failure once its cause is mended, or that mends it."""
    devices = ",".join(cluster.devices[:_MOST_NAMED])
    return _MENDED_BY.get(cluster.code, "litefleet doctor --limit {devices}").format(
        devices=devices, device=cluster.devices[0]
    )


def idle(rollout: Rollout, rows: Sequence[DeviceRow], holder: str) -> str:
    """Return what an open rollout does on which no process works; "" for every other one."""
    if rollout.state is not RolloutState.RUNNING or holder:
        return ""
    offline = [row for row in rows if row.state is DeviceState.OFFLINE]
    return idle_text(len({row.device for row in offline}), min((row.next_try_at for row in offline), default=0.0))


def next_commands(rollout: Rollout, rows: Sequence[DeviceRow], holder: str = "") -> tuple[tuple[str, str], ...]:
    """Return (command, description) for each command that an operator may type next; `holder`: the controller at work, if any."""
    ident = rollout.id
    abort = (f"litefleet abort {ident}", "ends the rollout; devices keep the release that they run")
    resume = f"litefleet resume {ident}"
    match rollout.state:
        case RolloutState.PLANNED:
            return ((resume, "starts it"), abort)
        case RolloutState.RUNNING if holder:
            pause = (f"litefleet pause {ident}", "starts no further device; devices at work finish")
            return ((f"litefleet status {ident}", "shows the status again"), pause, abort)
        case RolloutState.RUNNING:
            # A running rollout has a reason only while its wave lacks success.
            approve = (f"litefleet approve {ident}", "starts the next wave without the devices that are missing")
            go_on = (resume, "continues: no controller works on this rollout")
            return (go_on, *([approve] if rollout.reason else []), abort)
        case RolloutState.WAITING:
            return ((f"litefleet approve {ident}", "starts the next wave"), abort)
        case RolloutState.PAUSED:
            return (
                (resume, "continues; gates no longer count the failures that paused it"),
                *_retry(ident, rows),
                abort,
                *_reverted(ident, rows),
            )
        case RolloutState.ABORTED if rollout.request == REVERT and _reverted(ident, rows):
            return ((resume, "reverts what it has switched on, as the gate that ended it says"),)
        case RolloutState.ABORTED:
            return (*_reverted(ident, rows), ("litefleet rollout", "starts a new rollout"))
        case RolloutState.SUPERSEDED:
            return (("litefleet status", "shows the rollout that replaced this one"),)
    return _retry(ident, rows)


def _reverted(ident: str, rows: Sequence[DeviceRow]) -> tuple[tuple[str, str], ...]:
    if any(row.state is DeviceState.CONFIRMED for row in rows):
        return ((f"litefleet rollback --rollout {ident}", "reverts its devices to the releases that they ran before"),)
    return ()


def _retry(ident: str, rows: Sequence[DeviceRow]) -> tuple[tuple[str, str], ...]:
    if any(row.state is DeviceState.FAILED for row in rows):
        return ((f"litefleet retry --failed {ident}", "retries its failed devices and continues"),)
    return ()
