"""What the state knows of each device, and one device's whole story, without contacting it; forgetting and renaming a device.

The same host key under another name in the inventory is the same device: what is stored moves with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from litefleet_inventory.model import Device

from ..common.checked import mapping_or_empty, sequence_or_empty
from ..common.errors import UsageError
from ..common.operator import actor
from ..config import Config, load_config
from ..devices.progress import Progress
from ..project import Options
from ..project.project import Project, open_project, open_state
from ..project.run_fleet import read_report, reports_folder
from ..rollout import DeviceState
from ..state import AuditEntry, FleetLock, HistoryEntry, KnownDevice, State, this_process
from ..state.device_views import LastRow, RolloutMove, all_running

if TYPE_CHECKING:
    from ..devices.transport.hostkeys import HostKeys

_DRIFT = ("LF601", "LF602", "LF603", "LF604", "LF631")
_AUDIT = 5000  # entries of the audit log that are searched for a device


@dataclass(frozen=True)
class DeviceRecord:
    """One model on one device, as the state knows it.  Times are seconds since the epoch; 0 = never."""

    device: str
    model: str
    host: str = ""  # "" = no longer in the inventory
    groups: tuple[str, ...] = ()
    release: str = ""  # that it was last confirmed to run; "" = none
    version: str = ""
    since: float = 0.0
    rollout: str = ""  # the latest one with this device and model
    state: str = ""  # of the device in that rollout
    verdict: str = ""
    codes: tuple[str, ...] = ()
    sentence: str = ""  # why it is in that state
    part: str = ""  # the CPU part
    arch: str = ""
    drift: tuple[str, ...] = ()  # codes of the latest reconcile, "environment" where it changed since
    seen_at: float = 0.0
    tags: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        lists = {name: list(getattr(self, name)) for name in ("groups", "codes", "drift", "tags")}
        return {**vars(self), **lists}


@dataclass(frozen=True)
class TimelineEntry:
    """One thing that happened to a device; `at` is seconds since the epoch, of history entries by the device's clock."""

    at: float
    source: str  # "rollout", "device", "audit"
    event: str
    model: str = ""
    release: str = ""
    version: str = ""
    by: str = ""  # the rollout, or who acted
    text: str = ""  # the reason, a finding
    what: Mapping[str, Any] = field(default_factory=dict)  # of an entry of the audit log


@dataclass(frozen=True)
class DeviceStory:
    """Everything that the state knows of one device."""

    name: str
    records: tuple[DeviceRecord, ...]
    facts: Mapping[str, Any]
    host_key: str
    timeline: tuple[TimelineEntry, ...]  # the oldest first

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        return {
            "schema": 1,
            "command": "device",
            "device": self.name,
            "models": [record.to_dict() for record in self.records],
            "facts": dict(self.facts),
            "host_key": self.host_key,
            "timeline": [vars(entry) for entry in self.timeline],
        }


def device_records(project: Project) -> tuple[DeviceRecord, ...]:
    """Return a record for each model on each selected device, in the inventory's order."""
    pairs = [(device, model) for device in project.devices for model in project.models_of(device)]
    with closing(open_state(project.config)) as state:
        drifted = latest_drift(project.config)
        return _records(state, project.config.fleet, [(d.name, m, d) for d, m in pairs], drifted)


def records_of(
    state: State, project: Project, wanted: Sequence[tuple[str, str]], drifted: LatestDrift
) -> tuple[DeviceRecord, ...]:
    """Return the records of some (device, model) pairs, in their order; what is stored of other devices is not read."""
    by_name = project.inventory.by_name
    pairs = [(name, model, by_name.get(name)) for name, model in wanted]
    return _records(state, project.config.fleet, pairs, drifted, {name for name, _ in wanted})


def device_logins(options: Options) -> dict[str, Mapping[str, object]]:
    """Return for each selected device how another tool logs in to it: port, user, key, jump, python; "" = the default."""
    project = open_project(options)
    return {device.name: _login(project, device) for device in project.devices}


def _login(project: Project, device: Device) -> Mapping[str, object]:
    """Return how a device is reached; `jump` is a value for OpenSSH's ProxyJump."""
    hops = [
        (f"{hop.user}@" if hop.user else "") + (f"[{hop.host}]" if ":" in hop.host else hop.host) + f":{hop.port}"
        for hop in project.hops(device)
    ]
    return {
        "port": device.port,
        "user": device.user,
        "key": device.key,
        "jump": ",".join(hops),
        "python": device.python,
    }


def chosen_records(
    records: Sequence[DeviceRecord],
    version: str = "",
    state: str = "",
    drift: bool = False,
    seen_before: float | None = None,
) -> tuple[DeviceRecord, ...]:
    """Return the records that match every filter given, as the options of `litefleet devices` choose them.

    `version` is a version or at least 4 characters of a release's id; `state` a state or a verdict; `seen_before` an epoch time.
    """
    return tuple(
        record
        for record in records
        if (not version or record.version == version or (len(version) >= 4 and record.release.startswith(version)))
        and (not state or state in (record.state, record.verdict))
        and (not drift or record.drift)
        and (seen_before is None or record.seen_at < seen_before)
    )


def device_story(options: Options, name: str, last: int = 200) -> DeviceStory:
    """Return one device's facts, releases and time line of at most `last` entries; also of one that left the inventory.

    Raises: UsageError for a name that neither the inventory nor the state knows.
    """
    project = open_project(options)
    with closing(open_state(project.config)) as state:
        return story_of(state, project, latest_drift(project.config), name, last)


def story_of(state: State, project: Project, drifted: LatestDrift, name: str, last: int) -> DeviceStory:
    """Return one device's story from an open project and its state, as `device_story` does."""
    fleet = project.config.fleet
    device = project.inventory.by_name.get(name)
    moves = state.moves_of(fleet, name, last)
    known = state.known([name]).get(name)
    with state.reading() as connection:
        past = {m.model for m in moves} | {model for _, model in all_running(connection, [name])}
    models = project.models_of(device) if device is not None else []
    models += sorted(past - set(models))
    if device is None and known is None and not past:
        raise UsageError(f"{name[:80]} is not in the inventory, and the state knows nothing of it")
    records = _records(state, fleet, [(name, model, device) for model in models], drifted, [name])
    timeline = timeline_of(state, name, moves, last)
    return DeviceStory(name, records, known.facts if known else {}, known.host_key if known else "", timeline)


def timeline_of(state: State, name: str, moves: Sequence[RolloutMove], last: int) -> tuple[TimelineEntry, ...]:
    """Return the last things that happened to a device, the oldest first; `moves` are its moves in rollouts."""
    history = state.history_entries([name], 0.0, last)
    audit = _audit_of(state.audit(_AUDIT), name, {m.rollout for m in moves})
    versions = state.versions()
    entries = [
        *(
            TimelineEntry(m.at, "rollout", f"{m.event}: {m.after}", m.model, m.release, "", m.rollout, m.sentence)
            for m in moves
        ),
        *(_of_history(entry) for entry in history),
        *(TimelineEntry(e.at, "audit", e.action, by=e.who, text=audit_text(e), what=e.what) for e in audit),
    ]
    ordered = sorted(entries, key=lambda entry: entry.at)[-last:]
    return tuple(
        TimelineEntry(**{**vars(e), "version": versions.get(e.release, "")}) if e.release else e for e in ordered
    )


def _records(
    state: State,
    fleet: str,
    wanted: Sequence[tuple[str, str, Device | None]],
    drifted: LatestDrift,
    names: Collection[str] | None = None,
) -> tuple[DeviceRecord, ...]:
    known, rows = state.known(names), state.last_rows(fleet, names)
    with state.reading() as connection:
        running = all_running(connection, names)
    services, versions = state.services(names), state.versions()
    found = []
    for name, model, device in wanted:
        runs, last, seen = running.get((name, model)), rows.get((name, model)), known.get(name)
        service = services.get(name)
        drift = drifted.of(name, model, runs.at if runs else 0.0)
        if runs and seen and runs.fingerprint and seen.fingerprint and runs.fingerprint != seen.fingerprint:
            drift = (*drift, "environment")
        found.append(
            DeviceRecord(
                name,
                model,
                host=device.host if device else "",
                groups=device.groups if device else (),
                tags=device.tags if device else (),
                release=runs.release if runs else "",
                version=versions.get(runs.release, "") if runs else "",
                since=runs.at if runs else 0.0,
                drift=drift,
                seen_at=max(seen.seen_at if seen else 0.0, service.seen_at if service else 0.0),
                **_of_row(last),
                **_of_facts(last, seen),
            )
        )
    return tuple(found)


def _of_row(last: LastRow | None) -> dict[str, Any]:
    if last is None:
        return {}
    row = last.row
    return {
        "rollout": last.rollout,
        "state": row.state.value,
        "verdict": row.verdict.value if row.verdict and row.state is not DeviceState.ROLLED_BACK else "",
        "codes": row.codes,
        "sentence": row.sentence,
    }


def _of_facts(last: LastRow | None, known: KnownDevice | None) -> dict[str, Any]:
    facts = known.facts if known else {}
    arch = str(facts.get("arch") or facts.get("machine") or "")[:20]
    return {"part": last.row.part if last else "", "arch": arch}


class LatestDrift(NamedTuple):
    """What the latest kept reconcile found, by device and model."""

    at: float = 0.0
    codes: Mapping[tuple[str, str], tuple[str, ...]] = MappingProxyType({})

    def of(self, device: str, model: str, since: float) -> tuple[str, ...]:
        """Return the codes; none where the release was confirmed later, at `since`."""
        return self.codes.get((device, model), ()) if self.at >= since else ()


def latest_drift(config: Config) -> LatestDrift:
    """Return what the latest kept reconcile found; nothing where none can be read."""
    kept = sorted(reports_folder(config).glob("*-reconcile.json"))
    if not kept:
        return LatestDrift()
    try:
        report = read_report(kept[-1])
    except UsageError:
        return LatestDrift()  # written by another version, or cut off: it says nothing of drift
    codes = {
        (outcome.device, outcome.model): tuple(dict.fromkeys(f.code for f in outcome.findings if f.code in _DRIFT))
        for outcome in report.outcomes
    }
    return LatestDrift(kept[-1].stat().st_mtime, codes)


def _of_history(entry: HistoryEntry) -> TimelineEntry:
    items = [mapping_or_empty(item) for item in sequence_or_empty(entry.entry.get("findings"))[:10]]
    sentences = [str(entry.entry["text"])] if entry.entry.get("text") else []
    sentences += [f"{item.get('code')}: {item.get('seen')}" for item in items]
    return TimelineEntry(entry.at, "device", entry.kind, entry.model, entry.release, text="; ".join(sentences))


def _audit_of(entries: Sequence[AuditEntry], device: str, rollouts: set[str]) -> list[AuditEntry]:
    return [entry for entry in entries if concerns(entry, device, rollouts)]


def concerns(entry: AuditEntry, device: str, rollouts: set[str]) -> bool:
    """Return whether an entry of the audit log is about a device: it names it, or one of its rollouts."""
    what = entry.what
    named = what.get("devices")
    return (
        (isinstance(named, list) and device in named)
        or device in (what.get("device"), what.get("from"), what.get("to"))
        or what.get("rollout") in rollouts
    )


def audit_text(entry: AuditEntry) -> str:
    """Return the parts of an entry that a person reads: the rollout, the wave, the devices, the reason."""
    what = dict(entry.what)
    parts = [str(what[key]) for key in ("rollout", "kind") if what.get(key)]
    if what.get("limit"):
        parts.append(f"--limit {what['limit']}")
    if what.get("models"):
        parts.append(", ".join(map(str, sequence_or_empty(what["models"]))))
    devices = what.get("devices")
    if isinstance(devices, int):
        parts.append(f"{devices} device{'' if devices == 1 else 's'}")
    elif named := sequence_or_empty(devices):
        parts.append(", ".join(map(str, named[:5])) + (" …" if len(named) > 5 else ""))
    parts += [f"{key} {what[key]}" for key in ("device", "old", "new", "state", "wave") if what.get(key)]
    if what.get("from") and what.get("from") != what.get("to"):
        parts.append(f"{what['from']} → {what.get('to')}")
    if what.get("reason"):
        parts.append(str(what["reason"]))
    return ", ".join(parts)


def what_is_stored(options: Options, name: str) -> tuple[Mapping[str, int], bool]:
    """Return what the state stores of a device, and whether it is in the inventory.

    Raises: UsageError when nothing is stored.
    """
    project = open_project(options)
    with closing(open_state(project.config)) as state:
        counts = state.stored_of(name)
    if not any(counts.values()):
        raise UsageError(f"the state stores nothing of {name[:80]}: there is nothing to forget")
    return counts, name in project.inventory.by_name


def forget_device(options: Options, name: str) -> None:
    """Delete what the state stores of a device, except its rows in rollouts and the audit log, which records it."""
    config = load_config(options.config)
    with closing(open_state(config)) as state:
        lock = state.acquire(config.fleet, this_process(config.operator))
        try:
            state.forget(lock, name, actor(config.operator))
        finally:
            state.release(lock)


def follow_renames(state: State, lock: FleetLock, project: Project, progress: Progress, actor: str) -> None:
    """Move what is stored of renamed devices to their new names, and report it."""
    known, inventory = state.known(), project.inventory.by_name
    if not (known.keys() - inventory.keys() and inventory.keys() - known.keys()):
        return  # nothing has left, or nothing is new
    found = renames(known, inventory, project.host_keys())
    if found:
        state.rename(lock, found, actor)
        for old, new in found.items():
            progress.message(
                f"{old} is now {new}: it shows the same host key, and its rollouts and releases move with it"
            )


def renames(known: Mapping[str, KnownDevice], inventory: Mapping[str, Device], host_keys: HostKeys) -> dict[str, str]:
    """Return old name -> new name for devices that have left the inventory, and whose host key is one new device's alone."""
    left = {k.host_key: name for name, k in known.items() if name not in inventory and k.host_key}
    shared = Counter(
        k.host_key for k in known.values()
    )  # devices that were cloned with their key are told apart by nothing
    found: dict[str, str] = {}
    for name, device in inventory.items():
        if name in known:
            continue
        old = [left[key] for key in host_keys.fingerprints(device) if key in left and shared[key] == 1]
        if len(set(old)) == 1:
            found[name] = old[0]
    once = Counter(found.values())
    return {old: name for name, old in found.items() if once[old] == 1}
