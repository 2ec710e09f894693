"""What a device did while nobody watched: installations from a file, and what its service went through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..devices.agent_client import Request
from ..devices.deliver import fingerprint_of, mapping
from ..devices.visit import DeviceSession
from ..state.model import Confirmed
from .context import RolloutContext
from .device_history import sync_history

__all__ = ["collect"]


async def collect(context: RolloutContext, session: DeviceSession) -> list[Confirmed]:
    """Store the reports that wait on a device, only then tell it that they may go, and return what they confirm."""
    installed: list[Confirmed] = []
    reported = session.hello.get("reports")
    reports = [r for r in (reported if isinstance(reported, list) else [])[:20] if isinstance(r, dict)]
    for report in reports:
        confirmed = _confirmed(session, report)
        installed += confirmed
        await context.write(context.state.confirm, confirmed)
        details = {k: str(report.get(k))[:200] for k in ("id", "kind", "at", "bundle")}
        details["outcomes"] = str([(o.get("model"), o.get("verdict")) for o in _outcomes(report)])[:1000]
        await context.write(context.state.log, f"device {session.device.name}", "installed from a file", details)
    await sync_history(context, session)
    if reports:
        await session.ask(Request("collected", {"ids": [str(r.get("id"))[:100] for r in reports]}))
    return installed


def _confirmed(session: DeviceSession, report: Mapping[str, Any]) -> list[Confirmed]:
    """Return what a report says was installed, as far as it is what runs now."""
    current, at = mapping(session.hello.get("current")), report.get("at")
    return [
        Confirmed(
            device=session.device.name,
            model=str(o.get("model", ""))[:128],
            release=str(o.get("release", ""))[:64],
            artifact=str(o.get("artifact", ""))[:64],
            runtime="",
            fingerprint=fingerprint_of(session.hello),
            rollout="",
            at=float(at) if isinstance(at, int | float) else 0.0,
            measurements=mapping(o.get("measurements")),
        )
        for o in _outcomes(report)
        if o.get("activated") is True and current.get(str(o.get("model"))) == o.get("release")
    ]


def _outcomes(report: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    reported = report.get("outcomes")
    return [o for o in (reported if isinstance(reported, list) else [])[:100] if isinstance(o, dict)]
