"""Another look at a device that was confirmed: does it still run what it should, whole, and in the same environment?"""

from __future__ import annotations

from collections.abc import Sequence

from litefleet_agent.findings import Finding, Severity, finding
from litefleet_inventory.model import Device

from ..devices.agent_client import Request
from ..devices.deliver import mapping
from ..devices.outcome import DeviceOutcome
from ..devices.visit import DeviceSession, SessionFactory, open_session
from ..rollout import DeviceRow

__all__ = ["drift", "recheck"]


async def recheck(
    session_factory: SessionFactory, device: Device, rows: Sequence[DeviceRow]
) -> list[tuple[DeviceRow, Finding]]:
    """Return what speaks against each row's release on this device: its first error, where there is one."""
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
    """Return the findings of each model: what is not as it was confirmed.  `expected` is model -> release, "" for none.

    With `deep` every byte is read again; with `repair` what is damaged is dropped, so that it can be sent again.
    """
    checked = mapping((await session.ask(Request("check", {"deep": deep, "repair": repair})))[0].get("models"))
    current = mapping(session.hello.get("current"))
    found: dict[str, list[Finding]] = {}
    for model, release in expected.items():
        runs = str(current.get(model, ""))
        reported = mapping(checked.get(model)).get("findings")
        found[model] = [Finding.from_dict(f) for f in (reported if isinstance(reported, list) else [])[:50]]
        if runs != release:
            observed = f"{model} was confirmed as {_short(release)}, and runs as {_short(runs)}"
            found[model].insert(0, finding("LF601", observed))
    return found


def _short(release: str) -> str:
    return release[:12] or "nothing"
