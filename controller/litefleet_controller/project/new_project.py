"""Writes a new project: litefleet.yaml with the models found under a folder, and fleet.yaml with the devices named.

Existing files are never changed.  Sizes that a model leaves free are guessed, and each guess is reported.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from litefleet_inventory import InventoryError, load
from litefleet_inventory.checks import as_name

from ..build.conversion.preflight import SourceFacts, load_source
from ..build.conversion.program import TensorSpec
from ..common.errors import FindingError, UsageError
from ..common.files import write_atomically
from .device_sources import DeviceSource, is_of_folder

CONFIG = "litefleet.yaml"
FLEET = "fleet.yaml"
_DEPTH = 4  # folders below the top that are searched for models
_MOST_FOLDERS = 5000
_PICTURE = 224  # pixels: what most classifiers take
_TOKENS = 64
_HOST = re.compile(
    r"(?:(?P<user>[^@\s]+)@)?(?:\[(?P<ipv6>[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)\]|(?P<host>(?:[^@:\s\[\]]|\[\d+:\d+\])+))(?::(?P<port>\d{1,5}))?\Z"
)
_YAML_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})


class FoundModel(NamedTuple):
    """A source model: its name in litefleet.yaml, its folder, and the sizes of the inputs that it leaves free."""

    name: str
    folder: Path
    sizes: dict[str, tuple[int, ...]]  # guessed, by input
    declared: dict[str, tuple[int, ...]]  # of the same inputs, as the model declares them; -1 for free


class NewDevice(NamedTuple):
    """A device as the command line names it; `user` "" and `port` 0 leave out the setting."""

    name: str
    host: str
    user: str = ""
    port: int = 0


class NewProject(NamedTuple):
    """What was written: the files, the number of devices, and a sentence for each guess."""

    config: Path
    fleet: Path | None  # None: another tool's inventory is read in place
    devices: int
    guesses: tuple[str, ...]


def find_models(top: Path) -> list[FoundModel]:
    """Return the source models in the folder `top` and below it, sorted by path; unreadable ones are left out."""
    found: list[FoundModel] = []
    for folder in _folders(top):
        try:
            facts = load_source(folder).facts
        except FindingError:
            continue
        found.append(_described(folder, facts, {one.name for one in found}))
    return found


def read_model(folder: Path) -> FoundModel:
    """Return the source model in a folder, or of a program file; FindingError as `load_source`."""
    return _described(folder, load_source(folder).facts, set())


def parse_device(text: str) -> NewDevice:
    """Return the device of `[USER@]HOST[:PORT]`, or of `NAME=[USER@]HOST[:PORT]`; an IPv6 address stands in brackets.

    Name and address may have ranges, as in the inventory: `cam-[01:12]=edge@10.1.0.[101:112]`.
    Raises: UsageError for another form.
    """
    name, equals, address = text.strip().rpartition("=")
    match = _HOST.match(address)
    port = int(match["port"] or 0) if match else 0
    if match is None or port > 65535 or (equals and not name):
        raise UsageError(f"'{text}' names no device; write --host user@address, or --host name=user@address:port")
    host = match["ipv6"] or match["host"]
    return NewDevice(name or as_name(host) or "device", host, match["user"] or "", port)


def write_project(
    folder: Path,
    fleet: str,
    models: Sequence[FoundModel],
    devices: Sequence[NewDevice],
    source: DeviceSource | None = None,
) -> NewProject:
    """Write litefleet.yaml and fleet.yaml into `folder`; with a `source`, whose devices are read in place, no fleet.yaml.

    Raises: UsageError when one of them exists already, when two devices have one name, or when nothing can be written.
    """
    names = [device.name for device in devices]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"two devices are named {', '.join(twice)}; write --host NAME=user@address")
    count = len(source.names) if source else _checked_count(_fleet_text(devices))
    files = {folder / CONFIG: _config_text(folder, fleet, models, source)}
    if source is None:
        files[folder / FLEET] = _fleet_text(devices)
    for path in files:
        if os.path.lexists(path):
            raise UsageError(f"{path} exists already, and `litefleet init` changes no existing file")
    for path, text in files.items():
        write_atomically(path, text.encode())
    return NewProject(folder / CONFIG, None if source else folder / FLEET, count, tuple(_guesses(models)))


def _folders(top: Path) -> Iterator[Path]:
    """Yield `top` and the folders below it, in order; hidden ones, links and virtual environments are not entered."""
    for seen, (path, folders, _) in enumerate(os.walk(top)):
        depth = len(Path(path).relative_to(top).parts)
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f not in ("node_modules", "site-packages"))
        if depth >= _DEPTH or seen >= _MOST_FOLDERS:
            folders.clear()
        yield Path(path)


def _described(path: Path, facts: SourceFacts, taken: set[str]) -> FoundModel:
    folder = path.resolve() if path.is_dir() else path.resolve().parent
    base = as_name(folder.name) or "model"
    name = next(n for n in (base, *(f"{base}-{i}" for i in range(2, len(taken) + 3))) if n not in taken)
    free = {t.name: t for t in facts.inputs if t.lod_level == 0 and any(dim < 0 for dim in t.dims)}
    return FoundModel(name, path, {n: _guess(t) for n, t in free.items()}, {n: t.dims for n, t in free.items()})


def _guess(tensor: TensorSpec) -> tuple[int, ...]:
    """Return sizes for a tensor: one case, pictures of 224 x 224 pixels, 64 tokens."""
    dims = tensor.dims
    filled: tuple[int, ...]
    if len(dims) == 4 and not tensor.dtype.startswith("int"):
        filled = (1, 3, _PICTURE, _PICTURE)
    elif tensor.dtype.startswith("int"):
        filled = (1, *([_TOKENS] * (len(dims) - 1)))
    else:
        filled = tuple([1] * len(dims))
    return tuple(dim if dim > 0 else value for dim, value in zip(dims, filled, strict=True))


def _guesses(models: Sequence[FoundModel]) -> Iterator[str]:
    for model in models:
        for name, sizes in model.sizes.items():
            yield (
                f"models.{model.name}.inputs.{name}: {list(sizes)} is a guess, as the model declares "
                f"{list(model.declared[name])}. Write the sizes that your application uses."
            )


def _checked_count(text: str) -> int:
    """Return the number of devices that an inventory has; UsageError with its problems."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, FLEET)
        path.write_text(text, encoding="utf-8")
        try:
            return len(load(path).devices)
        except InventoryError as error:
            raise UsageError(re.sub(re.escape(f"{path}") + r"(:\d+)?", "--host", f"{error}")) from error


def _config_text(folder: Path, fleet: str, models: Sequence[FoundModel], source: DeviceSource | None) -> str:
    inventory = FLEET
    if source is not None:
        inside = is_of_folder(source, folder)
        path = Path(os.path.relpath(source.path, folder)) if inside else source.path.absolute()
        inventory = f"{{{source.kind}: {_scalar(str(path))}}}"
    lines = [f"fleet: {_scalar(fleet)}", f"inventory: {inventory}", "models:"]
    for model in models:
        path = Path(os.path.relpath(model.folder, folder))
        lines += [f"  {_scalar(model.name)}:", f"    source: {_scalar(str(path))}"]
        if model.sizes:
            sizes = ", ".join(f"{_scalar(name)}: {list(dims)}" for name, dims in model.sizes.items())
            lines.append(f"    inputs: {{{sizes}}}  # guessed: write the sizes that your application uses")
    return "\n".join(lines) + "\n"


def _fleet_text(devices: Sequence[NewDevice]) -> str:
    lines = ["devices:"]
    for device in devices:
        lines += [f"  {_scalar(device.name)}:", f"    host: {_scalar(device.host)}"]
        if device.user:
            lines.append(f"    user: {_scalar(device.user)}")
        if device.port:
            lines.append(f"    port: {device.port}")
    return "\n".join(lines) + "\n"


def _scalar(text: str) -> str:
    """Return a text as YAML: plain where that is safe, else in double quotes, whose escapes are JSON's."""
    plain = re.fullmatch(r"[A-Za-z_./][A-Za-z0-9_./-]*", text) and text.lower() not in _YAML_WORDS
    return text if plain else json.dumps(text, ensure_ascii=False)
