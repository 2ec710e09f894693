"""Shell completion of device, group, model and rollout names, from the project's local files.

Each function returns the candidates for the word under the cursor.  They read litefleet.yaml, the inventory and the SQLite
state only, import nothing slow, contact no device, and return no candidates where a file is missing or broken.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

import typer

_MOST = 1000  # candidates; a shell cannot show more
_MOST_ROLLOUTS = 50  # the latest ones


def device_patterns(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete the last term of `--limit`: devices, groups, `all` and tags, also after a comma and `!`."""
    head, separator, last = incomplete.rpartition(",")
    negation = "!" if last.startswith("!") else ""
    names = (f"{head}{separator}{negation}{name}" for name in _device_names(ctx))
    return _matching(names, incomplete)


def device_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete the name of one device in the inventory."""
    return _matching(_device_names(ctx, only_devices=True), incomplete)


def model_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete the name of a model in litefleet.yaml."""
    return _matching(_settings(ctx).models, incomplete)


def rollout_ids(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete the ID of one of the latest rollouts; none where the state is not SQLite."""
    return _matching(
        _stored(ctx, "SELECT id FROM rollouts WHERE fleet = :fleet ORDER BY ordinal DESC LIMIT :most"), incomplete
    )


def versions(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete what a rollback may go back to: the latest versions; the two words alone where the state is not SQLite."""
    query = "SELECT version FROM releases WHERE version != '' GROUP BY version ORDER BY max(kept_at) DESC LIMIT :most"
    return _matching(["previous", "nothing", *_stored(ctx, query)], incomplete)


def _stored(ctx: typer.Context, query: str) -> list[str]:
    """Return the first column of a query of the state; nothing where it is missing, broken or not SQLite."""
    settings = _settings(ctx)
    path = _database(settings)
    if path is None or not path.is_file():
        return []
    log = path.with_name(path.name + "-wal")
    mode = "mode=ro" if log.exists() and log.stat().st_size else "immutable=1"  # creates no file beside the database
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True, timeout=0.2)) as connection:
            rows = connection.execute(query, {"fleet": settings.fleet, "most": _MOST_ROLLOUTS})
            return [str(row[0]) for row in rows]
    except sqlite3.Error:
        return []


class _Settings:
    """The few settings of a litefleet.yaml that completion needs; unset ones have the configuration's defaults."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fleet = "default"
        self.inventory = folder / "fleet.yaml"
        self.inventory_kind = ""
        self.store = folder / ".litefleet"
        self.state = ""
        self.models: tuple[str, ...] = ()


def _settings(ctx: typer.Context) -> _Settings:
    """Read litefleet.yaml, or the file given with -c, without validating it."""
    from litefleet_inventory import Map, Problems, Scalar, read_tree

    path = Path(str(ctx.params.get("config") or "litefleet.yaml")).expanduser()
    settings = _Settings(path.parent)
    try:
        tree = read_tree(path.read_text(encoding="utf-8"), str(path), Problems())
    except (OSError, ValueError):
        return settings
    entries = tree.entries if isinstance(tree, Map) else {}
    for key, entry in entries.items():
        node = entry.node
        if isinstance(node, Map) and key == "models":
            settings.models = tuple(node.entries)
        elif isinstance(node, Map) and key == "inventory" and len(node.entries) == 1:
            kind, inner = next(iter(node.entries.items()))
            if isinstance(inner.node, Scalar):
                settings.inventory_kind = "" if kind == "yaml" else kind
                settings.inventory = settings.folder / Path(inner.node.text).expanduser()
        elif isinstance(node, Scalar) and key in ("inventory", "store"):
            setattr(settings, key, settings.folder / Path(node.text).expanduser())
        elif isinstance(node, Scalar) and key in ("fleet", "state"):
            setattr(settings, key, node.text)
    return settings


def _device_names(ctx: typer.Context, only_devices: bool = False) -> Iterator[str]:
    from litefleet_inventory import InventoryError, kind_of_path, load
    from litefleet_inventory.foreign import is_script

    given, settings = ctx.params.get("inventory"), _settings(ctx)
    path = Path(str(given)) if given else settings.inventory
    kind = kind_of_path(path) if given else settings.inventory_kind
    if is_script(path, kind):
        return  # completion runs no program
    try:
        inventory = load(path, kind)
    except (InventoryError, KeyError):
        return
    if only_devices:
        yield from (device.name for device in inventory.devices)
        return
    yield "all"
    yield from (group.name for group in inventory.groups)
    yield from (device.name for device in inventory.devices)
    yield from sorted({f"tag:{tag}" for device in inventory.devices for tag in device.tags})


def _database(settings: _Settings) -> Path | None:
    """Return the path of the SQLite database, None for a server."""
    scheme, separator, rest = settings.state.partition("://")
    if separator and scheme != "sqlite":
        return None
    return Path((rest.removeprefix("/") if separator else settings.state) or settings.store / "state.db").expanduser()


def _matching(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)][:_MOST]
