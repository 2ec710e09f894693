"""A session's requests about what the device accepts, keeps, finds changed and has to report."""

import os
from typing import Any, Callable, Dict, NamedTuple

from ..facts import Facts
from ..formats.checked import whole
from ..releases.activation import lock_and_recover
from ..releases.store import Store

__all__ = ["OPERATIONS", "Session", "device_status"]


class Session(NamedTuple):
    """What a request is answered from."""

    store: Store
    facts: Facts
    agent: str  # SHA-256 of the agent that runs


def device_status(store: Store) -> Dict[str, Any]:
    """Return {trust, reports}, and where a service has run {history, service}, as "hello" tells them.

    The code behind each is loaded only where there is something.
    """
    answer: Dict[str, Any] = {"trust": {"signers": "", "fleet": "", "latest": 0, "numbers": {}}, "reports": []}
    if any(os.path.lexists(store.path("trust", name)) for name in ("allowed_signers", "accepted.json")):
        from ..releases.trust import describe

        answer["trust"] = describe(store).to_dict()
    if os.path.isdir(store.path("reports")) and os.listdir(store.path("reports")):
        from ..install.pending_reports import pending

        answer["reports"] = pending(store)
    if os.path.isdir(store.path("history")):
        from ..service.status_file import service_status as service_status_of

        answer.update(service_status_of(store.root))
    return answer


def _trust(session: Session, header: Dict[str, Any]) -> Dict[str, Any]:
    """{allowed_signers, signature} -> {changed}: trust these signers."""
    from ..releases.trust import set_signers

    lock_and_recover(session.store)
    return {"changed": set_signers(session.store, header["allowed_signers"], header.get("signature") or "")}


def _free_space(session: Session, header: Dict[str, Any]) -> Dict[str, Any]:
    """{bytes, keep, pinned, quota, wanted, runtime} -> {freed, free, dropped}: make room and drop what nobody needs."""
    from ..releases.garbage import free_space, read_keep

    lock_and_recover(session.store)
    freed = free_space(session.store, *read_keep(header, session.agent))
    return {"freed": freed.freed, "free": freed.free, "dropped": list(freed.dropped)}


def _check(session: Session, header: Dict[str, Any]) -> Dict[str, Any]:
    """{deep, repair} -> {models, dropped}: what of the current releases is no longer as it was, and with `repair` goes."""
    from ..releases.integrity import check_models

    checked = check_models(session.store, session.facts, bool(header.get("deep")))
    models = {name: result.to_wire() for name, result in checked.items()}
    if not header.get("repair"):
        return {"models": models, "dropped": []}
    from ..releases.integrity import repair

    lock_and_recover(session.store)
    return {"models": models, "dropped": repair(session.store)}


def _collected(session: Session, header: Dict[str, Any]) -> Dict[str, Any]:
    """{ids} -> {removed}: the controller has these reports."""
    from ..install.pending_reports import remove_collected

    lock_and_recover(session.store)
    return {"removed": remove_collected(session.store, list(header["ids"]))}


def _history(session: Session, header: Dict[str, Any]) -> Dict[str, Any]:
    """{history, since} -> {id, entries, next, newest}: what happened after entry `since` of the history that is named."""
    from ..service.history import read_history

    known = header.get("history")
    since = whole(header.get("since", 0), 0, 1 << 50, "since")
    page = read_history(session.store.root, since, known if isinstance(known, str) else "")
    return {"id": page.identity, "entries": page.entries, "next": page.next, "newest": page.newest}


OPERATIONS: Dict[str, Callable[[Session, Dict[str, Any]], Dict[str, Any]]] = {
    "trust": _trust,
    "room": _free_space,
    "check": _check,
    "collected": _collected,
    "history": _history,
}
