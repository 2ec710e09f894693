"""Reads what a device did on its own: installations from a file, its service's history, and the service's status."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ..common.checked import integer_or, mapping_or_empty, number_or, sequence_or_empty, text_or_empty
from ..devices.agent_client import Request, RequestRejected
from ..devices.deliver import fingerprint_of
from ..devices.visit import DeviceSession
from ..state import Confirmed, HistoryEntry, ServiceStatus
from .context import RolloutContext

_ID = re.compile(r"[0-9a-f]{1,64}\Z")
_PAGES = 16  # of at most 256 KiB, in one contact; the next contact continues
_MOST_NUMBER = 1 << 50
_MOST_ENTRIES = 1000  # in one page


async def collect(context: RolloutContext, session: DeviceSession) -> list[Confirmed]:
    """Store the reports that wait on a device, then let it delete them, and return what they confirm."""
    installed: list[Confirmed] = []
    reports = [r for r in sequence_or_empty(session.hello.get("reports"))[:20] if isinstance(r, dict)]
    for report in reports:
        confirmed = _confirmed_by(session, report)
        installed += confirmed
        await context.write(context.state.confirm, confirmed)
        details = {k: str(report.get(k))[:200] for k in ("id", "kind", "at", "bundle")}
        details["outcomes"] = str([(o.get("model"), o.get("verdict")) for o in _installed(report)])[:1000]
        await context.write(context.state.log, f"device {session.device.name}", "installed from a file", details)
    await sync_history(context, session)
    if reports:
        await session.ask(Request("collected", {"ids": [str(r.get("id"))[:100] for r in reports]}))
    return installed


def _confirmed_by(session: DeviceSession, report: Mapping[str, object]) -> list[Confirmed]:
    """Return what a report says was installed, where that is what runs now."""
    current = mapping_or_empty(session.hello.get("current"))
    return [
        Confirmed(
            device=session.device.name,
            model=str(o.get("model", ""))[:128],
            release=str(o.get("release", ""))[:64],
            artifact=str(o.get("artifact", ""))[:64],
            runtime="",
            fingerprint=fingerprint_of(session.hello),
            rollout="",
            at=number_or(report.get("at"), 0, 1e15),
            measurements=mapping_or_empty(o.get("measurements")),
        )
        for o in _installed(report)
        if o.get("activated") is True and current.get(str(o.get("model"))) == o.get("release")
    ]


def _installed(report: Mapping[str, object]) -> Sequence[Mapping[str, object]]:
    return [o for o in sequence_or_empty(report.get("outcomes"))[:100] if isinstance(o, dict)]


async def sync_history(context: RolloutContext, session: DeviceSession) -> None:
    """Store the device's service status and the new entries of its history; nothing for a device without a service."""
    reported = mapping_or_empty(session.hello.get("history"))
    identity, newest = reported.get("id"), integer_or(reported.get("newest"), 1, _MOST_NUMBER - 1)
    if not isinstance(identity, str) or not _ID.match(identity):
        return
    known = await context.read(context.state.service, session.device.name)
    number = known.number if known is not None and known.history == identity else 0
    status, name = mapping_or_empty(session.hello.get("service")), session.device.name
    for _ in range(_PAGES):
        page = await _page(session, identity, number) if number < newest else {}
        now = context.clock.now()
        items = sequence_or_empty(page.get("entries"))[:_MOST_ENTRIES]
        entries = [e for item in items if (e := _entry(name, identity, item, now)) and e.number > number]
        number = max([number, *(entry.number for entry in entries)])
        await context.write(
            context.state.record_history, ServiceStatus(name, identity, number, dict(status), now), entries
        )
        if not entries:
            return


async def _page(session: DeviceSession, identity: str, since: int) -> Mapping[str, object]:
    """Return one page; {} where the agent knows no histories, or it is another one by now."""
    try:
        (page,) = await session.ask(Request("history", {"history": identity, "since": since}))
    except RequestRejected:
        return {}
    return page if page.get("id") == identity else {}


def _entry(device: str, identity: str, item: object, now: float) -> HistoryEntry | None:
    """Read one entry; None for what is none."""
    if not isinstance(item, dict):
        return None
    number = integer_or(item.get("n"), 1, _MOST_NUMBER - 1)
    if not number:
        return None
    kind, model, release = (text_or_empty(item.get(key), 128) for key in ("kind", "model", "release"))
    return HistoryEntry(
        device,
        identity,
        integer_or(item["n"], 1, _MOST_NUMBER - 1),
        number_or(item.get("at"), -1e12, 1e12),
        kind,
        model,
        release,
        item,
        now,
    )
