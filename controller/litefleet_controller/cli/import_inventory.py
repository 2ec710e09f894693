"""The command `import`: converts another tool's inventory to litefleet's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..common.errors import ConfigError, UsageError
from .common import command, say, show, write_file


@command
def import_(
    source: Annotated[
        Path,
        typer.Argument(
            help="An Ansible inventory (YAML, INI, JSON, folder or script), ssh_config, CSV or NetBox JSON."
        ),
    ],
    kind: Annotated[
        str, typer.Option("--from", help="ansible, ssh_config, csv or netbox; default: by the file's name.")
    ] = "",
    out: Annotated[
        Path | None, typer.Option("--out", help="The inventory to write, such as fleet.yaml; default: stdout.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
) -> None:
    """Convert the inventory of another tool, and list what was not understood. litefleet.yaml can also read it in place."""
    from litefleet_inventory import InventoryError
    from litefleet_inventory.foreign import KINDS, convert, guess_kind
    from litefleet_inventory.parse import parse

    chosen = kind or guess_kind(source)
    if chosen not in KINDS:
        raise UsageError(f"--from: {chosen[:40]!r} is not one of {', '.join(KINDS)}")
    if out is not None and out.exists() and not force:
        raise UsageError(f"{out} exists: name another file, or add --force")
    try:
        made = convert(source, chosen)
        parse(made.text, str(out or source))
    except InventoryError as error:
        raise ConfigError([str(problem) for problem in error.problems]) from error
    if out is None:
        show(made.text)
    else:
        write_file(out, made.text)
    count = f"{made.devices} device{'' if made.devices == 1 else 's'}"
    say(f"{source}, read as {chosen}: {count}" + (f", written to {out}" if out else ""))
    for note in made.notes:
        say(f"  not understood: {note}")
    say(f"Or read it in place, in litefleet.yaml: `inventory: {{{chosen}: {source}}}`")
