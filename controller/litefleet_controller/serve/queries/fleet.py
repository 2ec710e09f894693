"""The fleet overview: every model on every device, filtered, counted and paged by the database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import sqlalchemy as sa

from ...rollout.conditions import CONDITIONS, STATES_OF, Condition
from ...state import State
from ...state.tables import confirmed, device_services, devices, latest_rows, releases, rollout_rows
from .roster import Roster, pairs_table

PAGE = 50  # lines of a page
NEW = "new"  # the condition of a device that no rollout has reached for
SORTS = ("inventory", "device", "status", "contact")
_KNOWN_ORDER = ("inventory", "device")  # orders that no table is asked for
_MOST_CHOICES = 50  # versions or parts that a filter offers


@dataclass(frozen=True)
class Filters:
    """What the URL asks for; empty texts filter nothing.  `page` begins with 1."""

    q: str = ""
    group: str = ""
    model: str = ""
    status: str = ""  # a Condition, or "new"
    version: str = ""
    part: str = ""
    drift: bool = False
    sort: str = "inventory"
    page: int = 1


@dataclass(frozen=True)
class FleetLine:
    """One model on one device, as the state knows it.  Times are seconds since the epoch, 0 = never."""

    device: str
    model: str
    host: str  # "" = no longer in the inventory
    groups: tuple[str, ...]
    condition: str
    state: str
    verdict: str
    codes: tuple[str, ...]
    sentence: str
    rollout: str
    release: str
    version: str
    since: float
    part: str
    drift: tuple[str, ...]
    seen_at: float


@dataclass(frozen=True)
class Fleet:
    """One page of the overview, and how many lines each value has; the counts are of what search and group leave."""

    lines: tuple[FleetLine, ...]
    total: int  # lines that pass all filters
    all_lines: int  # before status, version, part and drift
    devices: int
    conditions: Mapping[str, int]
    versions: Mapping[str, int]
    parts: Mapping[str, int]
    drifted: int
    pages: int


def fleet_page(state: State, roster: Roster, filters: Filters) -> Fleet:
    """Return one page.  Raises: StateError."""
    pairs = roster.matching(filters.q, filters.group, filters.model)
    with state.reading() as connection:
        if not filters.group:
            pairs += _left(connection, roster, filters)
        view = View(connection, roster, pairs)
        counted = view.counts()
        kept = [(key, count) for key, count in counted.items() if _passes(key, filters)]
        total = sum(count for _, count in kept)
        pages = max(1, -(-total // PAGE))
        number = min(max(filters.page, 1), pages)
        if filters.sort in _KNOWN_ORDER and not any((filters.status, filters.version, filters.part, filters.drift)):
            ordered = sorted(pairs) if filters.sort == "device" else pairs
            shown = ordered[(number - 1) * PAGE : number * PAGE]  # only these are joined
            lines = View(connection, roster, shown).lines(Filters(), 1)
        else:
            lines = view.lines(filters, number)
    return Fleet(
        lines,
        total,
        sum(counted.values()),
        len({device for device, _ in pairs}),
        _by(counted, 0, [*CONDITIONS, NEW]),
        _by(counted, 1),
        _by(counted, 2),
        sum(count for key, count in counted.items() if key[3]),
        pages,
    )


def lines_of(state: State, roster: Roster, pairs: Sequence[tuple[str, str]]) -> tuple[FleetLine, ...]:
    """Return the lines of some pairs, in their order."""
    with state.reading() as connection:
        return View(connection, roster, pairs).lines(Filters(), 1, len(pairs) or 1)


_Key = tuple[str, str, str, bool]  # condition, version, part, drift
_CONDITION_OF = {state.value: name for name in get_args(Condition) for state in STATES_OF[name]}


def _passes(key: _Key, filters: Filters) -> bool:
    wanted = (filters.status, filters.version, filters.part)
    return all(not want or want == has for want, has in zip(wanted, key, strict=False)) and (
        key[3] or not filters.drift
    )


def _by(counted: Mapping[_Key, int], place: int, order: Sequence[str] = ()) -> dict[str, int]:
    """Return how many lines have each value, in the given order or the most frequent first; "" is left out."""
    found: Counter[str] = Counter()
    for key, count in counted.items():
        found[str(key[place])] += count
    names = order or [name for name, _ in found.most_common(_MOST_CHOICES)]
    return {name: found[name] for name in names if name and found[name]}


def _left(connection: sa.Connection, roster: Roster, filters: Filters) -> list[tuple[str, str]]:
    """Return the pairs of devices that had a row in a rollout and have left the inventory since."""
    chosen = sa.select(latest_rows.c.device, latest_rows.c.model).where(latest_rows.c.fleet == roster.fleet)
    if filters.model:
        chosen = chosen.where(latest_rows.c.model == filters.model)
    words = filters.q.casefold().split()
    gone = [(d, m) for d, m in connection.execute(chosen) if d not in roster.by_name]
    return sorted((d, m) for d, m in gone if all(word in d.casefold() for word in words))


def _condition(state: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
    names: dict[Condition, list[str]] = {name: [s.value for s in STATES_OF[name]] for name in get_args(Condition)}
    return sa.case(*((state.in_(values), name) for name, values in names.items()), else_=NEW)


class View:
    """All that is stored of some pairs, joined."""

    def __init__(self, connection: sa.Connection, roster: Roster, pairs: Sequence[tuple[str, str]]) -> None:
        self._connection, self._roster = connection, roster
        self._pairs = pairs_table(connection, pairs, roster.drift)
        device, model = self._pairs.c.device, self._pairs.c.model
        last, row = latest_rows.c, rollout_rows.c
        self._counted = (
            self._pairs.outerjoin(
                latest_rows, (last.fleet == roster.fleet) & (last.device == device) & (last.model == model)
            )
            .outerjoin(rollout_rows, (row.rollout == last.rollout) & (row.device == device) & (row.model == model))
            .outerjoin(confirmed, (confirmed.c.device == device) & (confirmed.c.model == model))
            .outerjoin(devices, devices.c.device == device)
        )
        self._from = self._counted.outerjoin(releases, releases.c.id == confirmed.c.release).outerjoin(
            device_services, device_services.c.device == device
        )
        self.condition = _condition(rollout_rows.c.state).label("condition")
        self.version = sa.func.coalesce(releases.c.version, "").label("version")
        self.part = sa.func.coalesce(rollout_rows.c.part, "").label("part")
        changed = (
            (confirmed.c.fingerprint != "")
            & (devices.c.fingerprint != "")
            & (confirmed.c.fingerprint != devices.c.fingerprint)
        )
        reported = (self._pairs.c.drifted == 1) & (sa.func.coalesce(confirmed.c.at, 0.0) <= roster.drift.at)
        self.changed = sa.func.coalesce(changed, sa.false()).label("changed")
        self.drift = sa.or_(reported, sa.func.coalesce(changed, sa.false())).label("drift")
        seen, service = (sa.func.coalesce(table.c.seen_at, 0.0) for table in (devices, device_services))
        self.seen = sa.case((seen >= service, seen), else_=service).label("last_seen")

    def counts(self) -> dict[_Key, int]:
        """Return how many lines have each condition, version, part and drift.

        The database groups by what it stores; the few groups get their words here, which is quicker than in each line.
        """
        columns = (rollout_rows.c.state, confirmed.c.release, self.part, self.drift)
        grouped = sa.select(*columns, sa.func.count()).select_from(self._counted).group_by(*columns)
        versions = dict(self._connection.execute(sa.select(releases.c.id, releases.c.version)).all())
        found: Counter[_Key] = Counter()
        for state, release, part, drift, count in self._connection.execute(grouped):
            found[_CONDITION_OF.get(state, NEW), versions.get(release, ""), part, bool(drift)] += count
        return dict(found)

    def lines(self, filters: Filters, page: int, size: int = PAGE) -> tuple[FleetLine, ...]:
        """Return one page of lines that pass the filters."""
        row = rollout_rows.c
        chosen = sa.select(
            self._pairs.c.device,
            self._pairs.c.model,
            self.condition,
            row.state,
            row.verdict,
            row.codes,
            row.sentence,
            row.rollout,
            confirmed.c.release,
            confirmed.c.at,
            self.version,
            self.part,
            self.changed,
            self.seen,
        ).select_from(self._from)
        for column, wanted in ((self.condition, filters.status), (self.version, filters.version)):
            chosen = chosen.where(column == wanted) if wanted else chosen
        chosen = chosen.where(self.part == filters.part) if filters.part else chosen
        chosen = chosen.where(self.drift) if filters.drift else chosen
        found = self._connection.execute(
            chosen.order_by(*self._order(filters.sort)).offset((page - 1) * size).limit(size)
        )
        return tuple(self._line(one) for one in found)

    def pairs(self, where: Sequence[sa.ColumnElement[bool]], most: int) -> list[tuple[str, str]]:
        """Return the first (device, model) pairs that meet every condition, in their order."""
        device, model, place = (self._pairs.c[name] for name in ("device", "model", "place"))
        chosen = sa.select(device, model).select_from(self._from).where(*where).order_by(place).limit(most)
        return [(one.device, one.model) for one in self._connection.execute(chosen)]

    def _order(self, sort: str) -> list[sa.ColumnElement[Any]]:
        place = self._pairs.c.place
        if sort == "device":
            return [self._pairs.c.device, self._pairs.c.model]
        if sort == "status":
            gravest = {name: rank for rank, name in enumerate((*CONDITIONS[1:], NEW, CONDITIONS[0]))}
            return [sa.case(gravest, value=self.condition, else_=len(gravest)), place]
        return [self.seen, place] if sort == "contact" else [place]

    def _line(self, one: Any) -> FleetLine:
        device = self._roster.by_name.get(one.device)
        drift = self._roster.drift.of(one.device, one.model, one.at or 0.0)
        return FleetLine(
            one.device,
            one.model,
            device.host if device else "",
            device.groups if device else (),
            one.condition,
            one.state or "",
            (one.verdict or "") if one.state != "rolled-back" else "",
            tuple(one.codes or ()),
            one.sentence or "",
            one.rollout or "",
            one.release or "",
            one.version,
            one.at or 0.0,
            one.part,
            (*drift, "environment") if one.changed else drift,
            one.last_seen or 0.0,
        )
