"""One device's way back: the request that makes a kept release current again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from litefleet_agent.findings import finding
from litefleet_inventory.model import Device

from ..devices.agent_client import Refused, Request
from ..devices.deliver import mapping, measurements_of, open_lease
from ..devices.outcome import DeviceOutcome
from ..devices.visit import Contact, Visit, visit
from ..rollout import DeviceEvent, Row
from ..rollout.states import move_device
from ..rollout_engine import Converse, Ledger, Writer
from ..state.model import Change, Hold, StatePort

__all__ = ["Mark", "way_back"]


class Mark:
    """Says in the rollout `parent` which of its rows, given as they are stored, were taken back."""

    def __init__(self, write: Writer, state: StatePort, hold: Hold, parent: str, rows: Sequence[Row]) -> None:
        self._write, self._state, self._hold, self._parent = write, state, hold, parent
        self._rows = {(row.device, row.model): row for row in rows}

    async def __call__(self, device: str, model: str) -> None:
        """Mark one row, if it was well until now; it may be said twice."""
        row = self._rows.get((device, model))
        if row is None or not row.state.well:
            return
        after = replace(row, state=move_device(row.state, DeviceEvent.ROLL_BACK))
        await self._write(self._state.move, self._hold, self._parent, [Change(row, DeviceEvent.ROLL_BACK, after)])
        self._rows[(device, model)] = after


def way_back(contact: Contact, to: str, mark: Mark) -> Converse:
    """Return the conversation that takes models back to `to`: previous, nothing, or a release's id."""

    async def converse(device: Device, rows: Sequence[Row], ledger: Ledger) -> list[DeviceOutcome]:
        async def work(here: Visit, done: list[DeviceOutcome]) -> None:
            for row in rows:
                done.append(await _one(here, row, to, ledger, mark))

        return await visit(contact, device, [row.model for row in rows], work)

    return converse


async def _one(here: Visit, row: Row, to: str, ledger: Ledger, mark: Mark) -> DeviceOutcome:
    """Take one model back on one device, by one request.

    Which release that is, is decided at the first contact and written down: asked again after an answer that was lost, "previous"
    would lead forth again.
    """
    model = row.model
    release = row.release or _kept(here, model, to)
    if release is None:
        seen = f"{model} on {here.device.name}: no kept and proven release begins with {to}"
        return here.outcome(model, [finding("LF613", seen)])
    here.step("roll back")
    decided = release if len(release) == 64 else ""
    await ledger.note(DeviceEvent.SWITCH, here.outcome(model, here.notes, decided), here.hello)
    try:
        answer = (await here.ask(Request("rollback", {"model": model, "to": release})))[0]
    except Refused as error:
        return here.outcome(model, [error.found])
    now = str(answer.get("current") or "")[:64]
    changed = bool(answer.get("changed")) or bool(row.release)  # else it changed when it was asked before
    outcome = here.outcome(
        model,
        here.notes,
        release=now,
        activated=changed,
        unchanged=not changed,
        measurements=measurements_of(here.hello, now),
    )
    await mark(here.device.name, model)
    await ledger.note(DeviceEvent.CONFIRM, outcome, here.hello)
    return outcome


def _kept(here: Visit, model: str, to: str) -> str | None:
    """Return the release that `to` means on this device."""
    if to == "previous":
        return _previous(here.hello, model) or to
    if to == "nothing" or len(to) == 64:
        return to
    kept = mapping(here.hello.get("kept")).get(model)
    found = [str(r) for r in kept if str(r).startswith(to)] if isinstance(kept, list) else []
    return found[0] if len(found) == 1 else None


def _previous(hello: Mapping[str, Any], model: str) -> str:
    """Return the release that ran before the present one, which a lease that is open came from; "" where none did."""
    lease = open_lease(hello, model)
    before = mapping(hello.get("previous")).get(model) if lease is None else lease.get("before")
    return str(before or "")[:64]
