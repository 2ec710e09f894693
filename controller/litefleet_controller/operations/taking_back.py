"""One device's way back: the request that makes a kept release current again."""

from __future__ import annotations

from collections.abc import Sequence

from litefleet_agent.findings import finding
from litefleet_inventory.model import Device

from ..conversation import Refused, Request
from ..delivery import mapping
from ..engine import Converse, Ledger
from ..outcome import DeviceOutcome
from ..rollout import DeviceEvent, Row
from ..visit import Contact, Visit, visit

__all__ = ["way_back"]


def way_back(contact: Contact, to: str) -> Converse:
    """Return the conversation that takes models back to `to`: previous, nothing, or a release's id."""

    async def converse(device: Device, rows: Sequence[Row], ledger: Ledger) -> list[DeviceOutcome]:
        async def work(here: Visit, done: list[DeviceOutcome]) -> None:
            for row in rows:
                done.append(await _one(here, row.model, to, ledger))

        return await visit(contact, device, [row.model for row in rows], work)

    return converse


async def _one(here: Visit, model: str, to: str, ledger: Ledger) -> DeviceOutcome:
    """Take one model back on one device, by one request."""
    release = _kept(here, model, to)
    if release is None:
        seen = f"{model} on {here.device.name}: no kept and proven release begins with {to}"
        return here.outcome(model, [finding("LF613", seen)])
    here.step("roll back")
    await ledger.note(DeviceEvent.SWITCH, here.outcome(model, here.notes), here.hello)
    try:
        answer = (await here.ask(Request("rollback", {"model": model, "to": release})))[0]
    except Refused as error:
        return here.outcome(model, [error.found])
    now = str(answer.get("current") or "")[:64]
    proof = mapping(mapping(here.hello.get("verified")).get(now))
    changed = bool(answer.get("changed"))
    outcome = here.outcome(
        model,
        here.notes,
        release=now,
        activated=changed,
        unchanged=not changed,
        measurements=mapping(proof.get("measurements")),
    )
    await ledger.note(DeviceEvent.CONFIRM, outcome, here.hello)
    return outcome


def _kept(here: Visit, model: str, to: str) -> str | None:
    """Return the release that `to` means on this device."""
    if to in ("previous", "nothing") or len(to) == 64:
        return to
    kept = mapping(here.hello.get("kept")).get(model)
    found = [str(r) for r in kept if str(r).startswith(to)] if isinstance(kept, list) else []
    return found[0] if len(found) == 1 else None
