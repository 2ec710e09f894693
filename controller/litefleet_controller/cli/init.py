"""The command `init`: writes a project from the models in this folder and the devices that are named."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..common.errors import ConfigError, FindingError, UsageError
from ..project import Options
from .common import command, in_words, run_async, say, show

if TYPE_CHECKING:
    from ..project.device_sources import DeviceSource
    from ..project.new_project import FoundModel

_MOST_LISTED = 20


@command
def init(
    folder: Annotated[Path, typer.Argument(help="The project's folder; models are searched in it.")] = Path(),
    model: Annotated[
        list[Path] | None, typer.Option("--model", help="A model's folder (may be repeated); else all that are found.")
    ] = None,
    host: Annotated[
        list[str] | None,
        typer.Option(
            "--host", help="A device: [NAME=][USER@]ADDRESS[:PORT]; ranges as in the inventory (may be repeated)."
        ),
    ] = None,
    inventory: Annotated[
        Path | None,
        typer.Option(
            "--inventory", "-i", help="Devices of an Ansible inventory, ssh_config, CSV or NetBox JSON, read in place."
        ),
    ] = None,
    kind: Annotated[
        str,
        typer.Option("--from", help="What --inventory is: ansible, ssh_config, csv or netbox; default: by its name."),
    ] = "",
    fleet: Annotated[str, typer.Option("--fleet", help="The fleet's name; default: the folder's.")] = "",
) -> None:
    """Write litefleet.yaml and fleet.yaml for the models in a folder and your devices; ask for what no option states."""
    from ..project.device_sources import read_source
    from ..project.new_project import parse_device, write_project

    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder; create it first")
    if host and inventory is not None:
        raise UsageError("--host and --inventory are two sources of devices: use one of them")
    models = _models(folder, model or [])
    source = read_source(inventory, kind) if inventory is not None else None
    hosts: list[str] = host or []
    if not hosts and source is None:
        source, hosts = _found_devices(folder)
    devices = [parse_device(text) for text in hosts]
    made = write_project(folder, fleet or _fleet_name(folder), models, devices, source)
    wrote = f"wrote {made.config} and {made.fleet}" if made.fleet else f"wrote {made.config}, which reads {source}"
    show(in_words(wrote))
    for guess in made.guesses:
        say(f"litefleet: {guess}")
    config = made.config
    _check(config)
    option = "" if config == Path("litefleet.yaml") else f" -c {config}"
    show(
        f"{len(models)} model(s), {made.devices} device(s). Next:\n"
        f"  litefleet probe --accept-new-host-keys{option}   # what each device is; pins the host keys of new devices\n"
        f"  litefleet plan{option}                           # what a rollout would do; changes nothing"
    )


def _models(folder: Path, named: list[Path]) -> list[FoundModel]:
    from ..project.new_project import find_models, read_model

    if named:
        return [read_model(path) for path in named]
    found = find_models(folder)
    if not found:
        raise UsageError(
            f"no PaddlePaddle model was found in {folder} (a folder with inference.pdmodel and inference.pdiparams); "
            "name its folder with --model"
        )
    if len(found) > 1 and sys.stdin.isatty():
        say("\n".join(f"  {one.name:20} {one.folder}" for one in found[:_MOST_LISTED]))
        if not typer.confirm(in_words(f"Use these {len(found)} models?"), default=True, err=True):
            raise UsageError("name the models to use with --model FOLDER")
    return found


def _found_devices(folder: Path) -> tuple[DeviceSource | None, list[str]]:
    """Return the devices that are found in the usual places, or that a person names: a source to read in place, or hosts.

    Without a terminal, only what lies in the project's own folder is taken.
    """
    from ..project.device_sources import find_sources, is_of_folder

    found = find_sources(folder)
    if not sys.stdin.isatty():
        own = [source for source in found if is_of_folder(source, folder)]
        if len(own) == 1:
            return own[0], []
        flags = "".join(f"\n  --inventory {source.path}   # {source}" for source in found)
        raise UsageError(
            "no device is named; add --host user@address (may be repeated)"
            + (f", or one of these:{flags}" if flags else "")
        )
    for source in found:
        if source.kind != "ssh_config" and typer.confirm(f"Use {source}?", default=True, err=True):
            return source, []
    for source in found:
        if source.kind == "ssh_config":
            say(f"Hosts in {source}; their names are enough here")
    say("Devices, separated by spaces, each [NAME=][USER@]ADDRESS[:PORT], such as cam-1=edge@192.0.2.17")
    answer: str = typer.prompt("Devices", err=True)
    return None, answer.replace(",", " ").split()


def _fleet_name(folder: Path) -> str:
    from litefleet_inventory.checks import as_name

    return as_name(folder.resolve().name) or "fleet"


def _check(config: Path) -> None:
    """Print what `litefleet check` finds in the new files; they stay, to be completed."""
    from ..project.check import checked_project

    try:
        run_async(checked_project(Options(config)))
    except (ConfigError, UsageError, FindingError) as error:
        say(f"litefleet: the new files need this before a plan: {error}")
        raise typer.Exit(2) from None
