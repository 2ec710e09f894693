"""Which Paddle-Lite a device gets: the rule that building, advice and doctor share.  Nothing is fetched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from litefleet_agent.facts import Facts
from litefleet_agent.findings import Finding, finding
from litefleet_inventory import Device

from ...common.text import sanitize
from ...config import Config, runtime_for
from ...config.choices import RuntimeChoice
from .compatibility import DeviceKind, binding_fits, refusal_of_device, refusal_of_elf, refusal_of_wheel


@dataclass(frozen=True)
class ChosenRuntime:
    """The runtime that a device gets, and the findings against it."""

    choice: RuntimeChoice
    refusals: tuple[Finding, ...] = ()  # errors: this runtime cannot load on the device


def choose_runtime(config: Config, device: Device, facts: Facts) -> ChosenRuntime:
    """Return the runtime that a device of these facts gets, judged by facts and file names alone.

    The device's own runtime replaces the published wheels where it has one, and none of them was made for the device or for
    its interpreter.

    Raises: ConfigError when the inventory names a runtime that `runtimes:` lacks.
    """
    choice = runtime_for(config, facts.arch, device.runtime)
    refusal = _refusal(choice, facts)
    refusals = () if refusal is None else (refusal,)
    foreign = bool(refusals) or not binding_fits(choice, DeviceKind.of(facts))
    if foreign and facts.paddlelite.path and falls_back_to_own(config, device, facts.arch, refusals):
        return ChosenRuntime(RuntimeChoice("system"))
    return ChosenRuntime(choice, refusals)


def falls_back_to_own(config: Config, device: Device, arch: str, refusals: Sequence[Finding]) -> bool:
    """Whether the device's own runtime is used instead of one that was refused: none is named, and no wheel fits."""
    return not is_named(config, device, arch) and all(refusal.code == "LF302" for refusal in refusals)


def is_named(config: Config, device: Device, arch: str) -> bool:
    """Whether litefleet.yaml or the inventory names the device's runtime."""
    return bool(device.runtime) or arch in config.runtimes


def _refusal(choice: RuntimeChoice, facts: Facts) -> Finding | None:
    """Return why the device cannot load the chosen runtime, None when nothing is known against it."""
    if choice.kind == "system":
        return None
    kind = DeviceKind.of(facts)
    refusal = refusal_of_device(choice, kind)
    if refusal is not None or choice.kind == "wheels":
        return refusal
    if choice.kind == "wheel":
        return refusal_of_wheel(choice.path, kind)
    return refusal_of_elf(choice.path, kind, str(choice.path))


def own_runtime_findings(facts: Facts) -> tuple[Finding, ...]:
    """Return LF302 where the device's own Python imports no Paddle-Lite; its numpy is judged where the library is read: there."""
    if facts.paddlelite.path:
        return ()
    python = sanitize(facts.python.executable) or "the device's Python"
    return (finding("LF302", f"No paddlelite package is installed for {python}."),)
