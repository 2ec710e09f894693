"""The requests about what the device accepts, stores and reports, and the readers of requests' fields."""

from __future__ import annotations

from ..errors import AgentError
from ..facts import Facts
from ..formats.checked import number, text, whole
from ..formats.light import NamedTuple
from ..protocol import Header
from ..releases.activation import follow, lock_and_recover
from ..releases.journal import Order, Told
from ..releases.store import Store

TYPE_CHECKING = False  # known to type checkers; loading typing takes a third of a session's start
if TYPE_CHECKING:
    from typing import Callable, Dict, Optional

_LOCK_TIMEOUT_S = 10.0
_MOST_TEXT = 1 << 16  # characters of one field; a list of signers is the longest
_LONGEST_LEASE_S = 1e9  # `activate` has its own limit, and names it


class Session(NamedTuple):
    """What a request is answered from."""

    store: Store
    facts: Facts
    agent: str  # SHA-256 of the agent that runs


def acquire(store: Store) -> None:
    """Become the one session that may change the store.  Raises StoreError "busy" when another one holds it for 10 s.

    The session of a controller that has just ended gives way by then.
    """
    lock_and_recover(store, _LOCK_TIMEOUT_S)


def text_of(header: Header, name: str) -> str:
    """Return a request's text field; AgentError "bad-request"."""
    try:
        return text(header.get(name), _MOST_TEXT, "`%s`" % name)
    except ValueError as error:
        raise AgentError("the request does not fit: %s" % error, "bad-request") from None


def lease_of(header: Header) -> float:
    """Return a request's `lease_s`, seconds, 0 where it has none; AgentError "bad-request"."""
    try:
        return number(header.get("lease_s", 0), -_LONGEST_LEASE_S, _LONGEST_LEASE_S, "`lease_s`")
    except ValueError as error:
        raise AgentError("the request does not fit: %s" % error, "bad-request") from None


def order_of(header: Header) -> Optional[Order]:
    """Return a request's {told, seen}, None from a controller that sends none; AgentError "bad-request"."""
    if "told" not in header:
        return None
    try:
        return Order(Told.from_dict(header["told"]), Told.from_dict(header.get("seen")))
    except ValueError as error:
        raise AgentError("the request does not fit: %s" % error, "bad-request") from None


def _follow(session: Session, header: Header) -> Header:
    """{told, seen} -> {recorded}: follow another state from now on; nothing else changes."""
    order = order_of(header)
    if order is None:
        raise AgentError("the request does not fit: `told` is missing", "bad-request")
    acquire(session.store)
    return {"recorded": follow(session.store, order)}


def _trust(session: Session, header: Header) -> Header:
    """{allowed_signers, signature} -> {changed}: trust these signers."""
    from ..releases.trust import set_signers

    acquire(session.store)
    return {"changed": set_signers(session.store, header["allowed_signers"], header.get("signature") or "")}


def _free_space(session: Session, header: Header) -> Header:
    """{bytes, keep, pinned, quota, wanted, runtime} -> {freed, free, dropped}: make room and drop what nothing needs."""
    from ..releases.garbage import free_space, read_keep

    acquire(session.store)
    freed = free_space(session.store, *read_keep(header, session.agent))
    return {"freed": freed.freed, "free": freed.free, "dropped": list(freed.dropped)}


def _part(session: Session, header: Header) -> Header:
    """{sha256} -> {size, sha256}: the bytes that are here of a blob whose transfer was cut, and their hash."""
    from ..releases.parts import part_of

    acquire(session.store)
    return dict(part_of(session.store, text_of(header, "sha256"))._asdict())


def _check(session: Session, header: Header) -> Header:
    """{deep, repair} -> {models, dropped}: what of the current releases has changed; `repair` drops what is damaged."""
    from ..releases.integrity import check_models

    checked = check_models(session.store, session.facts, bool(header.get("deep")))
    models = {name: result.to_wire() for name, result in checked.items()}
    if not header.get("repair"):
        return {"models": models, "dropped": []}
    from ..releases.integrity import repair

    acquire(session.store)
    return {"models": models, "dropped": repair(session.store)}


def _collected(session: Session, header: Header) -> Header:
    """{ids} -> {removed}: the controller has these reports."""
    from ..install.pending_reports import remove_collected

    acquire(session.store)
    ids = header["ids"]
    if not isinstance(ids, list):
        raise AgentError("the request does not fit: `ids` must be a list", "bad-request")
    return {"removed": remove_collected(session.store, ids)}


def _history(session: Session, header: Header) -> Header:
    """{history, since} -> {id, entries, next, newest}: the entries after number `since` of the history with this id."""
    from ..service.history import read_history

    known = header.get("history")
    since = whole(header.get("since", 0), 0, 1 << 50, "since")
    page = read_history(session.store.root, since, known if isinstance(known, str) else "")
    return {"id": page.identity, "entries": page.entries, "next": page.next, "newest": page.newest}


OPERATIONS: Dict[str, Callable[[Session, Header], Header]] = {
    "trust": _trust,
    "room": _free_space,
    "part": _part,
    "check": _check,
    "collected": _collected,
    "history": _history,
    "follow": _follow,
}
