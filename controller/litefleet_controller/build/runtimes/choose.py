"""Which Paddle-Lite a device gets: the rule that building, advice and doctor share.  Nothing is fetched."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from litefleet_agent.facts import Facts
from litefleet_agent.findings import Certainty, Finding, finding
from litefleet_inventory import Device

from ...common.text import sanitize
from ...config import Config, runtime_for
from ...config.choices import PUBLISHED_PYTHONS, RuntimeChoice
from .compatibility import DeviceKind, refusal_of_device, refusal_of_elf, refusal_of_published, refusal_of_wheel

__all__ = ["ChosenRuntime", "choose_runtime", "falls_back_to_own", "own_runtime_findings"]


@dataclass(frozen=True)
class ChosenRuntime:
    """The runtime that a device gets, and the findings against it."""

    choice: RuntimeChoice
    refusals: tuple[Finding, ...] = ()  # errors: this runtime cannot load on the device


def choose_runtime(config: Config, device: Device, facts: Facts) -> ChosenRuntime:
    """Return the runtime that a device of these facts gets, judged by facts and file names alone.

    The device's own runtime replaces the published wheels where none of them fits and the device has one.

    Raises: ConfigError when the inventory names a runtime that `runtimes:` lacks.
    """
    choice = runtime_for(config, facts.arch, device.runtime)
    refusal = _refusal(choice, facts)
    if refusal is None:
        return ChosenRuntime(choice)
    if facts.paddlelite.path and falls_back_to_own(config, device, facts.arch, [refusal]):
        return ChosenRuntime(RuntimeChoice("system"))
    return ChosenRuntime(choice, (refusal,))


def falls_back_to_own(config: Config, device: Device, arch: str, refusals: Sequence[Finding]) -> bool:
    """Whether the device's own runtime is used instead of one that was refused: none is named, and no wheel fits."""
    named = bool(device.runtime) or arch in config.runtimes
    return not named and all(refusal.code == "LF302" for refusal in refusals)


def _refusal(choice: RuntimeChoice, facts: Facts) -> Finding | None:
    """Return why the device cannot load the chosen runtime, None when nothing is known against it."""
    if choice.kind == "system":
        return None
    kind = DeviceKind.of(facts)
    refusal = refusal_of_device(choice, kind)
    if refusal is not None:
        return refusal
    if choice.kind == "wheel":
        return refusal_of_wheel(choice.path, kind)
    if choice.kind == "folder":
        return refusal_of_elf(choice.path, kind, str(choice.path))
    refusal = refusal_of_published(choice, kind)
    return _with_other_python(refusal, choice, facts) if refusal is not None else None


def _with_other_python(refusal: Finding, choice: RuntimeChoice, facts: Facts) -> Finding:
    """Name an interpreter that the device has and a published wheel fits."""
    suffixes = tuple(f"python{version}" for version in PUBLISHED_PYTHONS.get(choice.paddlelite, ()))
    fitting = [path for path in facts.other_pythons if path.endswith(suffixes)] if suffixes else []
    if not fitting:
        return refusal
    hint = f" {sanitize(fitting[0])} is there: name it with `python:` in the inventory."
    return replace(refusal, observed=refusal.observed + hint)


def own_runtime_findings(facts: Facts) -> tuple[Finding, ...]:
    """Return the findings against the Paddle-Lite that the device's own Python imports: LF302 for none, LF304 for numpy 2."""
    if not facts.paddlelite.path:
        python = sanitize(facts.python.executable) or "the device's Python"
        return (finding("LF302", f"No paddlelite package is installed for {python}."),)
    major = re.match(r"(\d{1,4})\.", facts.numpy.version)
    if major is None or int(major[1]) < 2:
        return ()
    numpy = sanitize(facts.numpy.version)
    observed = f"Its own Paddle-Lite would use numpy {numpy}, unless it was built for numpy 2."
    return (finding("LF304", observed, Certainty.LIKELY),)
