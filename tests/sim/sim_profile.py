"""What a simulated device is like: values only."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from litefleet_agent.facts import Cpu, Disk, Facts, Libc, Memory, OsRelease, PythonFacts, fingerprint
from litefleet_agent.findings import Finding

if TYPE_CHECKING:
    from tests.sim.sim_device import SimDevice

__all__ = ["KINDS", "Cut", "Kind", "Outage", "Profile", "flapping", "random_cuts"]

Style = Literal["reset", "closed", "hang"]  # how a broken connection looks: an error, an end, or silence


@dataclass(frozen=True)
class Outage:
    """A time during which a device can't be reached: seconds of the clock's `elapsed`.  `reboot`: its power was off."""

    start: float
    end: float = math.inf
    reboot: bool = False
    style: Style = "reset"


@dataclass(frozen=True)
class Cut:
    """A connection that breaks once `byte` bytes have gone to the device ("in") or have come from it ("out")."""

    side: Literal["in", "out"]
    byte: int
    style: Style = "reset"


@dataclass(frozen=True)
class Kind:
    """A kind of board; its facts are shared by all devices of the kind."""

    facts: Facts

    @property
    def part(self) -> str:
        """The CPU part."""
        return self.facts.cpu.parts[0]

    @cached_property
    def fingerprint(self) -> str:
        """Of its environment."""
        return fingerprint(self.facts)

    @cached_property
    def told(self) -> Mapping[str, Any]:
        """The facts as JSON."""
        return self.facts.to_dict()


def _kind(part: str, machine: str, libc: str, tag: str, features: Sequence[str]) -> Kind:
    kind, version = libc.split(" ")
    bits = 64 if machine in ("x86_64", "aarch64") else 32
    python = f"3.{tag[3:]}.4"
    facts = Facts(
        machine=machine,
        arch=machine,
        bits=bits,
        kernel="6.1.0",
        os_release=OsRelease("debian", "12", "Debian GNU/Linux 12 (bookworm)"),
        cpu=Cpu(4, (part,), tuple(sorted(features)), 4, 4),
        libc=Libc(kind, version),
        libstdcxx="3.4.30",
        libraries=("libc.so.6", "libstdc++.so.6"),
        python=PythonFacts("/usr/bin/python3", python, "cpython", tag, bits) if tag else PythonFacts(),
        memory=Memory(4 << 30, 2 << 30),
        disk=Disk(32 << 30, 16 << 30),
        writable=True,
        uid=1000,
    )
    return Kind(facts)


_X86 = ("avx", "avx2", "fma")
KINDS: Mapping[str, Kind] = {
    "n100": _kind("Intel(R) N100", "x86_64", "glibc 2.36", "cp311", _X86),
    "old-pc": _kind("Intel(R) Core(TM) i5-4590", "x86_64", "glibc 2.31", "cp38", _X86),
    "pi4": _kind("Cortex-A72", "aarch64", "glibc 2.36", "cp311", ("asimd",)),
    "pi3": _kind("Cortex-A53", "aarch64", "glibc 2.31", "cp39", ("asimd",)),
    "pi5": _kind("Cortex-A76", "aarch64", "glibc 2.36", "cp311", ("asimd", "asimddp")),
    "alpine": _kind("Cortex-A55", "aarch64", "musl 1.2.4", "cp311", ("asimd",)),
    "pi2": _kind("Cortex-A7", "armv7l", "glibc 2.28", "cp37", ("neon", "vfpv4")),
    "bare": _kind("Cortex-A7", "armv7l", "musl 1.2.3", "", ("neon", "vfpv4")),  # has no Python
}

Cause = Callable[[str, "SimDevice"], Sequence[Finding]]  # release id, device -> what its proof finds
Pace = Callable[[str, "SimDevice"], float]  # release id, device -> how many times its usual figures


def _well(release: str, device: SimDevice) -> Sequence[Finding]:
    return ()


def _usual(release: str, device: SimDevice) -> float:
    return 1.0


def _whole(contact: int) -> Cut | None:
    return None


@dataclass(frozen=True)
class Profile:
    """How one device behaves.  Times in seconds."""

    kind: Kind = field(default_factory=lambda: KINDS["pi4"])
    link_s: float = 0.02  # one way
    connect_s: float = 0.1
    connect_limit_s: float = 5.0  # what it costs to find out that it is not there
    start_s: float = 0.3  # the agent's start
    verify_s: float = 2.0
    outages: tuple[Outage, ...] = ()  # in order, apart from each other
    cut: Callable[[int], Cut | None] = _whole  # by the number of the contact, from 1
    cause: Cause = _well
    pace: Pace = _usual  # of latency
    growth: Pace = _usual  # of peak memory
    latency_ms: float = 20.0
    rss_bytes: int = 64 << 20
    keeper: bool = True  # without one, a lease that ran out is undone on the next contact only
    linger_s: float = 0.0  # how long a broken session keeps the store's lock
    engine_settings: bool = False  # whether its agent knows them: older ones do not

    def with_(self, **changes: Any) -> Profile:
        """Return this profile with other values."""
        return dataclasses.replace(self, **changes)


def flapping(seed: str, up_s: float, down_s: float, until: float, reboot: float = 0.0) -> tuple[Outage, ...]:
    """Return outages up to `until`: `up_s` and `down_s` are mean lengths, `reboot` the share that cuts the power."""
    dice = random.Random(seed)
    outages: list[Outage] = []
    now = dice.expovariate(1 / up_s)
    while now < until:
        end = now + dice.expovariate(1 / down_s)
        outages.append(Outage(now, end, dice.random() < reboot, dice.choice(("reset", "closed", "hang"))))
        now = end + dice.expovariate(1 / up_s)
    return tuple(outages)


def random_cuts(seed: str, probability: float, up_to: int = 8000) -> Callable[[int], Cut | None]:
    """Return a `cut` that breaks a share of the contacts somewhere within the first `up_to` bytes."""

    def cut(contact: int) -> Cut | None:
        dice = random.Random(f"{seed} {contact}")
        if dice.random() >= probability:
            return None
        return Cut(dice.choice(("in", "out")), dice.randrange(up_to), dice.choice(("reset", "closed", "hang")))

    return cut
