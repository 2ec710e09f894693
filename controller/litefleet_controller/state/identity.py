"""The state's identity, kept in the database and in a small file beside it.

The file names the id, the number and the last audit entry of each fleet as they were when a controller last gave the fleet
free.  It is never ahead of its database: one that is was written for a later copy.  So a database that was emptied, or put back
from a backup, is noticed without a device.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from litefleet_agent.formats.checked import items, mapping, number, text, whole
from litefleet_agent.formats.files import read_regular
from litefleet_agent.releases.atomic import write_atomic
from litefleet_agent.releases.journal import Told

from ..devices.identity import Identity
from .model import StateDamaged, StateError, StateOlder
from .query import Query, Select

_DAMAGED = re.compile("is damaged|is no SQLite database")  # as `schema` words it
_MOST_BYTES = 1 << 20
_IDENTITY = Select("SELECT state, number, past FROM identities WHERE fleet = :fleet", json=("past",))


def read_identity(query: Query, fleet: str) -> Identity:
    """Return the identity for a fleet, without an id where there is none yet."""
    row = query.first(_IDENTITY, fleet=fleet)
    return Identity(fleet) if row is None else Identity(fleet, row.state, row.number, row.past)


@dataclass(frozen=True)
class Noted:
    """What the file beside the database says of one fleet."""

    told: Told
    audit: tuple[int, str]  # number and hash of the last entry
    at: float  # seconds since the epoch

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"state": self.told.state, "number": self.told.number, "audit": list(self.audit), "at": self.at}

    @classmethod
    def from_dict(cls, fleet: str, data: object) -> Noted:
        """Read the JSON form back; ValueError for what is not well formed."""
        fields = mapping(data)
        seq, digest = items(fields.get("audit"), 2, "audit", 2)
        told = Told(fleet, text(fields.get("state"), 64), whole(fields.get("number")))
        return cls(told, (whole(seq), text(digest, 64)), number(fields.get("at")))

    def __str__(self) -> str:
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(self.at))
        return f"fleet '{self.told.fleet}' with number {self.told.number} and {self.audit[0]} audit entries, at {moment} UTC"


class Beside:
    """The file beside a database."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, Noted]:
        """Return what it says, by fleet; nothing where it does not exist or is damaged: it is then written anew."""
        try:
            data = json.loads(read_regular(self.path, _MOST_BYTES))
            return {fleet: Noted.from_dict(fleet, entry) for fleet, entry in mapping(data["fleets"]).items()}
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return {}

    def write(self, fleet: str, noted: Noted) -> None:
        """Replace what it says of one fleet; a file that cannot be written stays as it is: it only lags behind then."""
        before = self.read()
        old = before.get(fleet)
        if old is not None and (old.told, old.audit) == (noted.told, noted.audit):
            return
        content = {"schema": 1, "fleets": {f: n.to_dict() for f, n in {**before, fleet: noted}.items()}}
        try:
            write_atomic(str(self.path), [json.dumps(content, indent=1, sort_keys=True).encode()])
        except OSError:
            return

    def check_file(self, path: Path) -> None:
        """Raise StateDamaged where the database's file is empty or missing, and this file says that it held a state."""
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            size = -1
        except OSError:
            return  # opening it says why
        if size <= 0 and (noted := self.read()):
            raise _damaged(
                f"the state database {path} is {'empty (0 bytes)' if size == 0 else 'missing'}", self.path, noted
            )

    @contextlib.contextmanager
    def names_damage(self) -> Iterator[None]:
        """Add to the error about a damaged database what this file says that it held."""
        try:
            yield
        except StateError as error:
            noted = self.read()
            if noted and _DAMAGED.search(str(error)):
                raise _damaged(str(error).rstrip("."), self.path, noted) from error
            raise

    def check(self, identity: Identity, name: str) -> None:
        """Raise StateOlder where the file was written for a later copy of this fleet's state, or for another one."""
        noted = self.read().get(identity.fleet)
        if noted is None or not identity.problem(noted.told):
            return
        known = f"number {identity.number}" if identity.state else "nothing of this fleet"
        raise StateOlder(
            f"{name} is older than {self.path.name} beside it, which names {noted}; the database has {known}.  It was "
            "emptied, replaced, or restored from a backup.  Nothing was changed.  Put the latest copy in its place, or run "
            "`litefleet state adopt`: what the devices run becomes what is confirmed"
        )


def beside_file(database: Path, named: Path | None = None) -> Beside:
    """Return the file beside an SQLite database: `<database>.id` where no other is named."""
    return Beside(named or database.with_name(f"{database.name}.id"))


def _damaged(what: str, beside: Path, noted: Mapping[str, Noted]) -> StateDamaged:
    held = "; ".join(map(str, noted.values()))
    return StateDamaged(
        f"{what}.  {beside.name} beside it says what it held: {held}.  Nothing was written, and devices keep what they run.  "
        "Put the latest copy in its place, or run `litefleet state adopt`: it keeps the damaged file under another name, and "
        "what the devices run becomes what is confirmed"
    )
