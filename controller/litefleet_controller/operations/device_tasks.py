"""What an operation does on one device besides a delivery: check a confirmed release for drift, or roll a model back."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from litefleet_agent.findings import Finding, Severity, finding
from litefleet_inventory.model import Device

from ..common.checked import findings_or_empty, mapping_or_empty, sequence_or_empty
from ..devices.agent_client import Request, RequestRejected
from ..devices.deliver import measurements_of, open_lease
from ..devices.outcome import DeviceOutcome
from ..devices.visit import DeviceSession, SessionFactory, open_session
from ..rollout import DeviceEvent, DeviceRow
from ..rollout.states import DEVICE_TABLE, move_device
from ..rollout_engine import DeviceRecorder, DeviceTask, Writer
from ..state import State
from ..state.model import FleetLock, RowChange


async def recheck(
    session_factory: SessionFactory, device: Device, rows: Sequence[DeviceRow]
) -> list[tuple[DeviceRow, Finding]]:
    """Return each row whose release no longer passes on this device, with its first error."""
    models = [row.model for row in rows]
    found: dict[str, list[Finding]] = {}

    async def work(session: DeviceSession, done: list[DeviceOutcome]) -> None:
        found.update(await drift(session, {row.model: row.release for row in rows}, deep=False))
        done.extend(session.outcome(model, found[model]) for model in models)

    outcomes = await open_session(session_factory, device, models, work)
    errors = {o.model: [f for f in o.findings if f.severity is Severity.ERROR] for o in outcomes}
    return [(row, errors[row.model][0]) for row in rows if errors.get(row.model)]


async def drift(
    session: DeviceSession, expected: dict[str, str], deep: bool, repair: bool = False
) -> dict[str, list[Finding]]:
    """Return the findings of each model: what differs from what was confirmed.  `expected` is model -> release, "" for none.

    With `deep` the device reads every byte again; with `repair` it drops damaged files, so that they can be sent again.
    """
    checked = mapping_or_empty((await session.ask(Request("check", {"deep": deep, "repair": repair})))[0].get("models"))
    current = mapping_or_empty(session.hello.get("current"))
    found: dict[str, list[Finding]] = {}
    for model, release in expected.items():
        runs = str(current.get(model, ""))
        found[model] = findings_or_empty(mapping_or_empty(checked.get(model)).get("findings"), 50)
        if runs != release:
            observed = f"{model} was confirmed as {_short(release)}, and runs as {_short(runs)}"
            found[model].insert(0, finding("LF601", observed))
    return found


def _short(release: str) -> str:
    return release[:12] or "nothing"


class RevertMarker:
    """Marks rows of the rollout `parent`, given as they are stored, as reverted."""

    def __init__(self, write: Writer, state: State, lock: FleetLock, parent: str, rows: Sequence[DeviceRow]) -> None:
        self._write, self._state, self._lock, self._parent = write, state, lock, parent
        self._rows = {(row.device, row.model): row for row in rows}

    def switched_to(self, device: str, model: str) -> str:
        """Return the release that the parent switched on there; "" where it has no such row."""
        row = self._rows.get((device, model))
        return row.release if row is not None else ""

    async def __call__(self, device: str, model: str) -> None:
        """Mark one row as reverted if it can be.  Idempotent."""
        row = self._rows.get((device, model))
        if row is None or (row.state, DeviceEvent.ROLL_BACK) not in DEVICE_TABLE:
            return
        after = replace(row, state=move_device(row.state, DeviceEvent.ROLL_BACK))
        await self._write(self._state.move, self._lock, self._parent, [RowChange(row, DeviceEvent.ROLL_BACK, after)])
        self._rows[(device, model)] = after


def rollback_task(
    session_factory: SessionFactory, to: str, mark_reverted: RevertMarker, ids: Collection[str] = ()
) -> DeviceTask:
    """Return the task that reverts models to `to`: previous, nothing, a release's id, or a version, whose releases are `ids`."""

    async def device_task(device: Device, rows: Sequence[DeviceRow], recorder: DeviceRecorder) -> list[DeviceOutcome]:
        async def work(session: DeviceSession, done: list[DeviceOutcome]) -> None:
            for row in rows:
                done.append(await _one(session, row, to, recorder, mark_reverted, ids))

        return await open_session(session_factory, device, [row.model for row in rows], work)

    return device_task


async def _one(
    session: DeviceSession,
    row: DeviceRow,
    to: str,
    recorder: DeviceRecorder,
    mark_reverted: RevertMarker,
    ids: Collection[str],
) -> DeviceOutcome:
    """Revert one model on one device, by one request.

    The target release is resolved when the rollback is created or at the first contact, and stored: resolved again after a lost
    answer, "previous" would be the newer release.
    """
    model = row.model
    if conflict := recorder.identity.conflict(session.hello):
        return session.outcome(model, conflict)
    wanted = mark_reverted.switched_to(session.device.name, model)
    if to == "previous" and wanted and not row.release:  # the device's own `previous` may be a later release
        name = session.device.name
        nothing = f"{model} has no previous release on {name}: nothing ran there before the rollout that is reverted"
        hint = f"`litefleet rollback --to nothing --limit {name}` switches it off"
        return session.outcome(model, [finding("LF613", f"{nothing}; {hint}")])
    found = [row.release] if row.release else _kept(session, model, to, ids)
    if len(found) != 1:
        what = f"is version {to}" if ids else f"begins with {to}"
        several = f"several kept releases match: {', '.join(map(_short, found))}; name one of them with --to"
        observed = f"{model} on {session.device.name}: " + (several if found else f"no kept and proven release {what}")
        return session.outcome(model, [finding("LF613", observed)])
    release = found[0]
    runs = str(mapping_or_empty(session.hello.get("current")).get(model) or "")[:64]
    if to == "previous" and wanted and runs not in (wanted, release):
        observed = f"{model} runs as {_short(runs)}, which the rollout did not switch on: it is left as it is"
        return session.outcome(model, [finding("LF601", observed)], runs)
    session.step("roll back")
    decided = release if len(release) == 64 else ""
    await recorder.record(DeviceEvent.SWITCH, session.outcome(model, session.notes, decided), session.hello)
    try:
        order = recorder.identity.order(session.hello)
        answer = (await session.ask(Request("rollback", {"model": model, "to": release, **order})))[0]
    except RequestRejected as error:
        return session.outcome(model, [error.found])
    now = str(answer.get("current") or "")[:64]
    # Else an earlier request changed it
    changed = bool(answer.get("changed")) or (bool(row.release) and row.attempts > 1)
    outcome = session.outcome(
        model,
        session.notes,
        release=now,
        activated=changed,
        unchanged=not changed,
        measurements=measurements_of(session.hello, now),
    )
    await mark_reverted(session.device.name, model)
    await recorder.record(DeviceEvent.CONFIRM, outcome, session.hello)
    return outcome


def _kept(session: DeviceSession, model: str, to: str, ids: Collection[str]) -> list[str]:
    """Return the release that `to` means on this device; none or several where it means none or several."""
    if to == "previous":
        return [_previous(session.hello, model) or to]
    if to == "nothing" or len(to) == 64:
        return [to]
    kept = sequence_or_empty(mapping_or_empty(session.hello.get("kept")).get(model))
    return [str(r) for r in kept if (str(r) in ids if ids else str(r).startswith(to))]


def _previous(hello: Mapping[str, object], model: str) -> str:
    """Return the release that ran before the current one, or before the open lease; "" where none did."""
    lease = open_lease(hello, model)
    before = mapping_or_empty(hello.get("previous")).get(model) if lease is None else lease.get("before")
    return str(before or "")[:64]
