"""An application on a lab machine that asks the service all the time, and what became of its requests."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.lab.service_machine import AGENT, HOME, SOCKET, Resident, within

__all__ = ["Asked", "Asking", "asking"]


@dataclass
class Asked:
    """What became of the requests of an application's callers."""

    asked: int = 0
    answered: int = 0
    wrong: int = 0
    releases: dict[str, int] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)
    longest_s: float = 0.0

    @property
    def lost(self) -> int:
        """Requests that got no answer at all, not even an error."""
        return self.asked - self.answered - sum(self.errors.values())

    def __str__(self) -> str:
        releases = ", ".join(f"{name[:12]} {count}" for name, count in self.releases.items())
        said = (
            f"asked {self.asked}, answered {self.answered}, lost {self.lost}, wrong {self.wrong}, errors {self.errors}"
        )
        return f"{said}; by {releases}; longest {self.longest_s:.2f} s"


class Asking:
    """An application that asks all the time."""

    def __init__(self, lab: Resident) -> None:
        self._lab = lab
        self.total = Asked()

    def now(self) -> Asked:
        """Return the counts so far."""
        told = self._lab.ssh("cat /opt/app/report 2>/dev/null || echo '{}'")
        return Asked(**json.loads(told))

    def go_on(self, more: int = 20, release: str = "") -> Asked:
        """Wait until so many more requests have been answered, by one release if it is named."""

        def done() -> int:
            now = self.now()
            return now.releases.get(release, 0) if release else now.answered

        before = done()
        within(
            90, lambda: done() >= before + more, f"{more} more answers {release[:12]}\n{self.now()}{self._lab.log()}"
        )
        return self.now()


@contextlib.contextmanager
def asking(lab: Resident, callers: int = 4, pause_s: float = 0.02) -> Iterator[Asking]:
    """Have an ordinary user of the machine ask all the time; afterwards `total` holds what became of it."""
    script = Path(__file__).with_name("load_client.py").read_bytes()
    goldens = lab.ssh(f"cat {HOME}/models/cls/current")
    names = [f"/opt/app/{number}.npz" for number, _ in enumerate(json.loads(goldens)["golden"])]
    copies = [f"cat {HOME}/blobs/{sha} > {n}" for n, sha in zip(names, json.loads(goldens)["golden"], strict=True)]
    copies += [f"cat {AGENT} > /opt/app/agent.pyz", "cat > /opt/app/asking.py", "rm -f /opt/app/report"]
    lab.ssh(" && ".join(copies), script)
    words = ["python3", "/opt/app/asking.py", "/opt/app/agent.pyz", SOCKET, str(callers), str(pause_s)]
    run = shlex.join([*words, "/opt/app/report", *names])
    call = f"setsid {run} </dev/null >/opt/app/log 2>&1 & echo $! > /opt/app/pid"
    lab.ssh(f"su -s /bin/sh app -c {shlex.quote(call)}")
    one = Asking(lab)
    try:
        one.go_on()
        yield one
    finally:
        lab.ssh(
            "kill $(cat /opt/app/pid); while kill -0 $(cat /opt/app/pid) 2>/dev/null; do sleep 0.1; done", code=None
        )
        one.total = one.now()
        print(f"\n{one.total}")
