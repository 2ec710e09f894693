"""What litefleet.yaml names under `runtimes:`, and which devices have nothing there.  Nothing is downloaded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from litefleet_agent.facts.arch import ARCHES, arch_of
from litefleet_agent.findings import Certainty, Finding
from litefleet_inventory import Device

from ..bundles import DeviceKind, RuntimeChoice
from ..bundles.fit import PUBLISHED, refusal_of_elf, refusal_of_wheel
from ..config import Config
from .looked import Looked, fact, joined, trouble, works

__all__ = ["look_at_runtimes"]

_NEW_ENOUGH = "9.9"  # a libc that takes everything: the devices' own are not known here


def look_at_runtimes(config: Config, devices: Iterable[Device]) -> Looked:
    """Look at each named runtime's files, and whether the architectures that the inventory expects have one."""
    choices = {name: r.choice(config.toolchain.paddlelite) for name, r in config.runtimes.items()}
    found = fact("runtimes", ", ".join(f"{name}: {_words(choice)}" for name, choice in choices.items()))
    found += joined(_judge(name, choice) for name, choice in choices.items())
    if "x86_64" not in choices:
        found += _published("x86_64 (not named)", RuntimeChoice(paddlelite=config.toolchain.paddlelite))
    return found + _without(config, devices)


def _words(choice: RuntimeChoice) -> str:
    if choice.kind == "wheels":
        return f"wheels of paddlelite {choice.paddlelite}, {choice.numpy}"
    return "the device's own" if choice.kind == "system" else f"{choice.kind} {choice.path}"


def _judge(name: str, choice: RuntimeChoice) -> Looked:
    if choice.kind == "system":
        return Looked()
    if choice.kind == "wheels":
        return _published(name, choice)
    refusal = _of_wheel(name, choice) if choice.kind == "wheel" else _of_folder(name, choice)
    if refusal is not None:
        return trouble(refusal.code, f"runtimes.{name}: {refusal.seen}")
    return works(f"runtimes.{name}: {choice.path.name} is there, and is what it should be.")


def _published(name: str, choice: RuntimeChoice) -> Looked:
    if choice.paddlelite in PUBLISHED:
        return Looked()
    seen = f"runtimes.{name}: no published wheels of paddlelite {choice.paddlelite} are known; there are "
    return trouble("LF302", f"{seen}{', '.join(PUBLISHED)}.", Certainty.POSSIBLE)


def _of_wheel(name: str, choice: RuntimeChoice) -> Finding | None:
    """Judge a wheel for a device of which all is as the wheel wants it, but the architecture that `name` says."""
    python, libc = _python_of(choice), "musl" if "musllinux" in choice.path.name else "glibc"
    kind = DeviceKind("", python, libc, _NEW_ENOUGH)
    refusals = [refusal_of_wheel(choice.path, replace(kind, arch=arch)) for arch in _arches(name)]
    return None if None in refusals else refusals[0]


def _python_of(choice: RuntimeChoice) -> str:
    parts = choice.path.name.removesuffix(".whl").split("-")
    return parts[-3].split(".")[0] if len(parts) >= 5 else "cp310"


def _of_folder(name: str, choice: RuntimeChoice) -> Finding | None:
    label = str(choice.path)
    kind = DeviceKind("", "cp310", "glibc", _NEW_ENOUGH)
    refusals = [refusal_of_elf(choice.path, replace(kind, arch=arch), label) for arch in _arches(name)]
    found = None if None in refusals else refusals[0]
    if found is not None and found.code == "LF308" and arch_of(name) is not None:
        return replace(found, seen=f"{choice.path.name}/paddlelite/lite.so is not for {name}.")
    return found


def _arches(name: str) -> tuple[str, ...]:
    """Return the architectures that a runtime of this name may be for."""
    arch = arch_of(name)
    return (arch.name,) if arch is not None else tuple(ARCHES)


def _without(config: Config, devices: Iterable[Device]) -> Looked:
    """Name the architectures that the inventory expects and that neither `runtimes:` nor a published wheel serves."""
    expected = Counter(a.name for d in devices if d.arch and not d.runtime and (a := arch_of(d.arch)) is not None)
    return joined(
        trouble(
            "LF302",
            f"The inventory expects {arch} of {number} device{'' if number == 1 else 's'}; `runtimes:` names nothing for "
            f"{arch}, and nothing is published for it: only a Paddle-Lite of the device's own could run the models.",
            Certainty.POSSIBLE,
        )
        for arch, number in expected.items()
        if arch != "x86_64" and arch not in config.runtimes
    )
