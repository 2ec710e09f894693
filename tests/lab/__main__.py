"""`python -m tests.lab`: start the lab, print its inventory, and keep it running until Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
import sys
from pathlib import Path
from types import FrameType

import yaml

from tests.lab.arm_devices import lab_device, why_not
from tests.lab.rootfs import AARCH64, ARMV7, LabError


def main() -> int:
    """Run the lab in the foreground; return the exit code."""
    reason = why_not()
    if reason:
        print(reason, file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, _stop)
    try:
        _serve()
    except KeyboardInterrupt:
        print("The lab is down.", file=sys.stderr)
    except LabError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _serve() -> None:
    with contextlib.ExitStack() as stack:
        print("Starting the lab (its first start unpacks two Debian userlands) ...", file=sys.stderr)
        kinds = [(userland, server) for userland in (AARCH64, ARMV7) for server in ("sshd", "dropbear")]
        devices = [stack.enter_context(lab_device(userland, server)) for userland, server in kinds]
        text = yaml.safe_dump({"devices": {d.name: d.inventory_entry() for d in devices}}, sort_keys=False, width=1000)
        print(text, end="", flush=True)
        if len(sys.argv) > 1:
            Path(sys.argv[1]).write_text(text)
            print(f"Written to {sys.argv[1]}.", file=sys.stderr)
        print("The lab runs; Ctrl-C ends it.", file=sys.stderr)
        signal.pause()


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
