"""What a device did while nobody watched: installations from a file, and what its service went through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..devices.agent_client import Request
from ..devices.deliver import fingerprint_of, mapping
from ..devices.visit import Visit
from ..state.model import Confirmed
from .context import Desk
from .device_history import hear

__all__ = ["collect"]


async def collect(desk: Desk, here: Visit) -> list[Confirmed]:
    """Store the reports that wait on a device, only then tell it that they may go, and return what they confirm."""
    installed: list[Confirmed] = []
    told = here.hello.get("reports")
    reports = [r for r in (told if isinstance(told, list) else [])[:20] if isinstance(r, dict)]
    for report in reports:
        confirmed = _confirmed(here, report)
        installed += confirmed
        await desk.write(desk.state.confirm, confirmed)
        what = {k: str(report.get(k))[:200] for k in ("id", "kind", "at", "bundle")}
        what["outcomes"] = str([(o.get("model"), o.get("verdict")) for o in _outcomes(report)])[:1000]
        await desk.write(desk.state.log, f"device {here.device.name}", "installed from a file", what)
    await hear(desk, here)
    if reports:
        await here.ask(Request("collected", {"ids": [str(r.get("id"))[:100] for r in reports]}))
    return installed


def _confirmed(here: Visit, report: Mapping[str, Any]) -> list[Confirmed]:
    """Return what a report says was installed, as far as it is what runs now."""
    current, at = mapping(here.hello.get("current")), report.get("at")
    return [
        Confirmed(
            device=here.device.name,
            model=str(o.get("model", ""))[:128],
            release=str(o.get("release", ""))[:64],
            artifact=str(o.get("artifact", ""))[:64],
            runtime="",
            fingerprint=fingerprint_of(here.hello),
            rollout="",
            at=float(at) if isinstance(at, int | float) else 0.0,
            measurements=mapping(o.get("measurements")),
        )
        for o in _outcomes(report)
        if o.get("activated") is True and current.get(str(o.get("model"))) == o.get("release")
    ]


def _outcomes(report: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    told = report.get("outcomes")
    return [o for o in (told if isinstance(told, list) else [])[:100] if isinstance(o, dict)]
