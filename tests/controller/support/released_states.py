"""State databases of every schema: the same operator's story, stored by the code that was current with each schema.

Three devices got version 1; of version 2, one device is confirmed, another one failed, and a gate stopped the rollout
before the last one.  The files of the earlier schemas were written by the last commit with each.  Before a migration is added:

    LOGNAME=ann unshare --uts sh -c 'hostname desk; python -m tests.controller.support.released_states > .../released/NUMBER.sql'
"""

from __future__ import annotations

import re
import shutil
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

from litefleet_agent.findings import Finding, finding
from litefleet_controller.rollout import Policy, Rollout
from litefleet_controller.state import EVENTS, HistoryEntry, ServiceStatus, State, Subscription
from litefleet_controller.state.database import SCRIPTS, Database
from litefleet_controller.state.schema import VERSION_TABLE

from tests.controller.support.state_values import sql
from tests.sim.engine_harness import Harness
from tests.sim.sim_device import SimDevice
from tests.sim.sim_fleet import SimFleet, make_fleet
from tests.sim.sim_profile import KINDS, Profile
from tests.sim.sim_release_builder import SimSupply
from tests.sim.virtual_loop import run

__all__ = ["DUMPS", "POLICY", "SCHEMAS", "load", "story"]

DUMPS = Path(__file__).with_name("released")
SCHEMAS = tuple(sorted(re.findall(r"v(\d{4})_", " ".join(path.name for path in SCRIPTS.glob("versions/v*.py")))))
POLICY = Policy.model_validate({"waves": [1, "100%"], "gates": {"total": {"count": 1}, "wave": {}}})
FOLDER = "/srv/fleet/"  # where the supply's files were when the story was stored
_NUMBERED = ("transitions", "notices")  # their first column counts by itself
_BOOT_ID = re.compile(r"[0-9a-f]{16}/[0-9a-f-]{36}/\d+")


def story(folder: Path) -> Harness:
    """Return a controller whose second rollout a gate has stopped."""
    supply = SimSupply(folder, {"cls": "1"})
    kinds = iter(("pi4", "n100", "pi4"))
    fleet = make_fleet(3, shape=lambda name, drawn, dice: Profile(KINDS[next(kinds)], link_s=0.02, verify_s=2.0))
    harness = Harness(fleet, supply, Policy(), folder, concurrency=1, opened=_told)
    run(_rollout(harness), fleet.clock)
    fleet.clock.advance(86_400)
    supply.versions["cls"] = "2"
    harness.policy = POLICY
    harness.see(fleet.inventory)

    def cause(release: str, here: SimDevice) -> list[Finding]:
        return [finding("LF401", "killed by SIGILL")] if supply.version_of(release) == "2" else []

    failing = fleet.devices[fleet.inventory[1].name]
    failing.profile = failing.profile.with_(cause=cause)
    run(_rollout(harness), fleet.clock)
    _report(harness.state, fleet)
    return harness


def _told(path: Path, clock: Callable[[], float]) -> State:
    return State.open(path, clock, told=[Subscription("simulated", "chat", frozenset(EVENTS))])


async def _rollout(harness: Harness) -> Rollout:
    return await harness.go_on(await harness.start())


def _report(state: State, fleet: SimFleet) -> None:
    """Store what a device's own service reported."""
    now, name = fleet.clock.now(), fleet.inventory[0].name
    status = {"schema": 1, "health": "ok", "models": {"cls": {}}}
    entries = [HistoryEntry(name, "aa", n, now - n, "health", "cls", "r", {"n": n}, now) for n in (1, 2)]
    state.record_history(ServiceStatus(name, "aa", 2, status, now), entries)


def dump(path: Path) -> str:
    """Return what a SQLite state holds as statements that SQLite and PostgreSQL understand."""
    database = sqlite3.connect(path)
    names = [
        name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY rootpage")
    ]
    lines = []
    for table in (name for name in names if not name.startswith("sqlite_") and name != VERSION_TABLE):
        kinds = [(row[1], row[2]) for row in database.execute(f"PRAGMA table_info({table})")]
        first = 1 if table in _NUMBERED else 0
        columns = ", ".join(name for name, _ in kinds[first:])
        for row in database.execute(f"SELECT * FROM {table} ORDER BY rowid"):
            values = (_literal(value, kind) for value, (_, kind) in zip(row[first:], kinds[first:], strict=True))
            lines.append(f"INSERT INTO {table} ({columns}) VALUES ({', '.join(values)});\n")
    database.close()
    return _BOOT_ID.sub("boot", "".join(lines))


def _literal(value: object, kind: str) -> str:
    if kind == "BOOLEAN":
        return str(bool(value)).upper()
    return (
        "NULL" if value is None else repr(value) if not isinstance(value, str) else "'" + value.replace("'", "''") + "'"
    )


def load(schema: str, where: str, folder: Path, scratch: Path) -> None:
    """Make a database of that schema with the story in it; `folder` is where the supply's files are now."""
    shutil.copytree(
        SCRIPTS, scratch, ignore=lambda _, names: [n for n in names if re.match(r"v\d{4}", n) and n[1:5] > schema]
    )
    Database.open(where, scratch, schema).close()
    statements = (DUMPS / f"{schema}.sql").read_text(encoding="utf-8").splitlines()
    moved = (line.replace(FOLDER, f"{folder}/") if "INTO releases" in line else line for line in statements)
    sql(where, *moved)


def main() -> None:
    """Write the story of the present schema to stdout; its folder is made for the time being."""
    folder = Path(FOLDER)
    folder.mkdir(parents=True)
    try:
        story(folder).leave()
        sys.stdout.write(dump(folder / "state.db"))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
