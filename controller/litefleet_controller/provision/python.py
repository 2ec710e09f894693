"""Which Python a device's service runs in: one of the device, or one that is placed for every user of it."""

from __future__ import annotations

import asyncio
import shlex
from pathlib import PurePosixPath

from litefleet_inventory.model import Device

from ..common.errors import LitefleetError
from ..devices.bootstrap import OWN_PYTHONS
from ..devices.bring import placing_command
from ..devices.python_bundle import SHARED, PythonMaker, best_form
from .carry_out import Remote, as_user
from .steps import NOBODY, PYTHON, Step

# What the device's own must have: the agent's checks call the C library.
_NEW = "import sys; sys.version_info < (3, 7) and sys.exit(1); import json"
_GOOD = f"{_NEW}, _ctypes"
_ASK = "uname -m; for c in tar dd gzip xz; do command -v $c >/dev/null 2>&1 && echo $c; done; true"
_UNKNOWN = "KEY"  # stands for the archive's hash where no device has been asked yet
_WORDS = ("", "auto", "own", "bring")  # of `python:` in the inventory; anything else is a path


def named_python(device: Device) -> str:
    """Return the interpreter that the inventory means, as far as it is known without the device."""
    if device.python == "bring":
        return f"{SHARED}/{_UNKNOWN}/bin/python3"
    return PYTHON if device.python in _WORDS else device.python


def python_steps(device: Device, remote: Remote, pythons: PythonMaker | None) -> tuple[str, tuple[Step, ...]]:
    """Return the interpreter of the device's service, and the step that places it, if one must be brought.

    Raises: LitefleetError where none can be made or unpacked, TransportError.
    """
    own = _own(remote, device.python == "own") if device.python in ("", "auto", "own") else ""
    brings = device.python == "bring" or (device.python in ("", "auto") and not own)
    if pythons is None or not brings:
        return own or named_python(device), ()
    machine, *tools = remote.run(_ASK).out.split() or [""]
    form = best_form(frozenset(tools))
    if not form:
        raise LitefleetError(
            f"{device.name} has neither tar nor dd, which unpack the Python that is brought: install one"
        )
    bundle = asyncio.run(pythons.for_machine(machine, form))
    python = f"{SHARED}/{bundle.key}/bin/python3"
    step = Step(
        f"{bundle.description}, for every user",
        f"{python} -IS -c pass 2>/dev/null",
        placing_command(bundle, "", SHARED, "shared"),
        undo=without_python().undo,
        data=bundle.packed.path.read_bytes(),
        hint="Install Python 3.7 or later on the device, or name one that is there as `python:` in the inventory.",
        time_limit_s=600.0,
    )
    return python, (step,)


def without_python() -> Step:
    """Return the step whose undoing removes what was brought for every user."""
    above = shlex.quote(str(PurePosixPath(SHARED).parent))
    undo = f"rm -rf {shlex.quote(SHARED)} && {{ rmdir {above} 2>/dev/null || true; }}"
    return Step("the Python that was brought", "", undo=undo)


def _own(remote: Remote, any_new: bool) -> str:
    """Return the device's own Python that serves, by the names that a session tries; "" where there is none.

    With `any_new`, one without ctypes serves where no other is.  Run as user `nobody`: none of them is trusted before.
    """
    tests = " ".join(shlex.quote(test) for test in (_GOOD, *((_NEW,) if any_new else ())))
    names = " ".join(OWN_PYTHONS)
    script = f'for t in {tests}; do for p in {names}; do "$p" -Es -c "$t" && echo "$p" && exit; done; done'
    said = remote.run(as_user(f"{{ {script}; }} 2>/dev/null", NOBODY)).out.split()
    return said[-1] if said and said[-1] in OWN_PYTHONS else ""
