"""Devices that another state has switched last: found before anything is changed, and named with the commands that lead on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from litefleet_agent.findings import Finding
from litefleet_inventory.model import Device

from ..devices.fan_out import run_bounded
from ..devices.outcome import DeviceOutcome
from ..devices.visit import DeviceSession, open_session
from ..rollout import Rollout
from ..rollout.gates import names
from ..state import StateOlder
from .context import RolloutContext


def conflict_of(findings: Iterable[Finding]) -> str:
    """Return what LF630 says of a device, "" where it is not among its findings."""
    return next((found.observed for found in findings if found.code == "LF630"), "")


def refuse(conflicts: Mapping[str, str]) -> None:
    """Raise StateOlder for devices that another state has switched last, by name; nothing where there are none."""
    if not conflicts:
        return
    device, why = min(conflicts.items())
    raise StateOlder(
        f"LF630 {names(conflicts)}: {device} was {why}.  This state is older than its devices, or another one leads them; "
        "nothing was changed.  Use the latest copy of the state, or run `litefleet state adopt`: what the devices run becomes "
        "what is confirmed.  `litefleet rollout --take-over` rolls out in spite of it"
    )


async def check_devices(context: RolloutContext, devices: Iterable[str], rollout: Rollout | None = None) -> None:
    """Ask each device, before the first is changed, who switched it last.

    For commands that continue from the state database: `rollout` asks each device anyway.  A single device is asked by its own
    session, and a rollout that takes devices over needs no answer.
    Raises: StateOlder that names the devices which another state has switched last.
    """
    by_name = context.project.inventory.by_name
    chosen = [by_name[name] for name in dict.fromkeys(devices) if name in by_name]
    if len(chosen) > 1 and not (rollout is not None and rollout.origin.get("take_over")):
        refuse(await _conflicts(context, chosen))


async def _conflicts(context: RolloutContext, devices: Sequence[Device]) -> dict[str, str]:
    identity = await context.read(context.state.identity, context.config.fleet)
    found: dict[str, str] = {}

    async def one(device: Device) -> list[DeviceOutcome]:
        async def work(session: DeviceSession, done: list[DeviceOutcome]) -> None:
            why = conflict_of(identity.conflict(session.hello))
            if why:
                found[device.name] = why
            done.append(session.outcome("", ()))

        return await open_session(context.session_factory, device, [""], work)

    per_jump = context.config.rollout.per_jump_host
    await run_bounded(devices, one, context.at_once, lambda outcome: None, per_jump)
    return {device.name: found[device.name] for device in devices if device.name in found}
