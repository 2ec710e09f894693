"""Which Paddle-Lite a device gets: the rule that building, advice and doctor share.  Nothing is fetched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from litefleet_agent.facts import Facts
from litefleet_agent.facts.arch import ARCHES
from litefleet_agent.facts.runtime import RuntimeFacts, describe_runtime
from litefleet_agent.findings import Finding, finding
from litefleet_agent.findings.environment import check_environment, judge_runtime, parse_version
from litefleet_agent.findings.runtime import check_cpu, check_runtime
from litefleet_agent.formats.checked import shortened
from litefleet_agent.formats.engine_settings import NOTHING_ASKED, EngineSettings
from litefleet_agent.formats.nb import NbModel
from litefleet_inventory import Device

from ...common.errors import FindingError
from ...common.text import sanitize
from ...config import Config, runtimes_for
from ...config.choices import RuntimeChoice
from ..toolchain import default_cache
from .compatibility import DeviceKind, binding_fits, refusal_of_device, refusal_of_elf, refusal_of_wheel, wheel_name
from .library import Library, is_library, read_library

# Free memory and disk change from one moment to the next: the device itself judges them.
_MOMENTARY = ("LF311", "LF312")


@dataclass(frozen=True)
class ChosenRuntime:
    """The runtime that a device gets, and the findings against it."""

    choice: RuntimeChoice
    refusals: tuple[Finding, ...] = ()  # errors: this runtime cannot load on the device
    why: str = ""  # which library it is, and why this one of several; "" where the configuration leaves no choice
    one_of: int = 1  # runtimes that the configuration names for this device


@dataclass(frozen=True)
class Candidate:
    """One of the runtimes that the configuration names for a device, and the errors against it there."""

    choice: RuntimeChoice
    name: str
    version: str = ""
    refusals: tuple[Finding, ...] = ()


def choose_runtime(
    config: Config,
    device: Device,
    facts: Facts,
    model: NbModel | None = None,
    cache: Path | None = None,
    published: str = "",
    engine: EngineSettings = NOTHING_ASKED,
) -> ChosenRuntime:
    """Return the newest runtime that fits a device of these facts, judged by facts, file names, and libraries' own bytes.

    The device's own runtime replaces the published wheels where it has one, and none of them was made for the device or for
    its interpreter.  `model` is what the runtime must be able to run; None: any.  `cache` holds what was unpacked of archives
    before, None: the user's.  `published` is the version of the wheels where the configuration names no runtime.
    `engine` is what the release asks of it.

    Raises: ConfigError when the inventory names a runtime that `runtimes:` lacks.
    """
    choices = runtimes_for(config, facts.arch, device.runtime)
    if published and not is_named(config, device, facts.arch):
        choices = tuple(replace(choice, paddlelite=published) for choice in choices)
    candidates = [judge_choice(choice, facts, model, cache or default_cache(), engine) for choice in choices]
    if len(candidates) > 1:
        return _of_several(candidates)
    (only,) = candidates
    if only.choice.kind == "system":  # the device itself says what it lacks
        return ChosenRuntime(only.choice)
    foreign = bool(only.refusals) or not binding_fits(only.choice, DeviceKind.of(facts))
    # Its own of another version than the file's is no replacement for wheels that every interpreter loads by their library.
    own = facts.paddlelite.path and (bool(only.refusals) or published in ("", facts.paddlelite.version))
    if foreign and own and falls_back_to_own(config, device, facts.arch, only.refusals):
        return ChosenRuntime(RuntimeChoice("system"))
    return ChosenRuntime(only.choice, only.refusals, only.name if is_library(only.choice) else "")


def _of_several(candidates: Sequence[Candidate]) -> ChosenRuntime:
    """Return the newest that fits; where none does, the first with the findings against each."""
    count = len(candidates)
    fitting = [one for one in candidates if not one.refusals]
    if not fitting:
        refusals = [replace(f, observed=f"{one.name}: {f.observed}") for one in candidates for f in one.refusals[:1]]
        return ChosenRuntime(candidates[0].choice, tuple(refusals), one_of=count)
    newest = max(fitting, key=lambda one: parse_version(one.version) or (0,))  # the first of equals
    others = [f"not {one.name}: {one.refusals[0].observed.rstrip('.')}" for one in candidates if one.refusals]
    fit = f"the newest of {len(fitting)} that fit" if len(fitting) > 1 else f"the only one of {count} that fits"
    return ChosenRuntime(newest.choice, why=shortened("; ".join([f"{newest.name}, {fit}", *others]), 500), one_of=count)


def falls_back_to_own(config: Config, device: Device, arch: str, refusals: Sequence[Finding]) -> bool:
    """Whether the device's own runtime is used instead of one that was refused: none is named, and no wheel fits."""
    return not is_named(config, device, arch) and all(refusal.code == "LF302" for refusal in refusals)


def is_named(config: Config, device: Device, arch: str) -> bool:
    """Whether litefleet.yaml or the inventory names the device's runtime."""
    return bool(device.runtime) or arch in config.runtimes


def judge_choice(
    choice: RuntimeChoice, facts: Facts, model: NbModel | None, cache: Path, engine: EngineSettings = NOTHING_ASKED
) -> Candidate:
    """Judge one choice for a device of these facts; `model` is what it must be able to run, None: any."""
    kind = DeviceKind.of(facts)
    refusal = None if choice.kind == "system" else refusal_of_device(choice, kind)
    if refusal is None and is_library(choice):
        return _library_candidate(choice, facts, model, cache, engine)
    if choice.kind == "system":
        return Candidate(choice, "the device's own Paddle-Lite", facts.paddlelite.version, own_runtime_findings(facts))
    name, version = f"{choice.kind} {choice.path.name}", ""
    if choice.kind == "wheels":
        name, version = f"the published wheels of {choice.paddlelite}", choice.paddlelite
    elif refusal is None and choice.kind == "wheel":
        refusal, parts = refusal_of_wheel(choice.path, kind), wheel_name(choice.path.name)
        version = parts.version if parts else ""
    elif refusal is None:
        refusal = refusal_of_elf(choice.path, kind, str(choice.path))
        version = describe_runtime(str(choice.path), []).paddlelite_version
    return Candidate(choice, name, version, () if refusal is None else (refusal,))


def _library_candidate(
    choice: RuntimeChoice, facts: Facts, model: NbModel | None, cache: Path, engine: EngineSettings
) -> Candidate:
    try:
        library = read_library(choice.path, cache)
    except FindingError as error:
        return Candidate(choice, choice.path.name, refusals=error.findings)
    refusals = tuple(library_refusals(library, facts, model, engine))
    return Candidate(choice, library.words, library.runtime.paddlelite_version, refusals)


def library_refusals(
    library: Library, facts: Facts, model: NbModel | None = None, engine: EngineSettings = NOTHING_ASKED
) -> list[Finding]:
    """Return the errors of a library on a device of these facts, with a model or with any."""
    if model is not None:
        return errors_beforehand(model, facts, library.runtime, engine)
    arch = ARCHES.get(facts.arch)
    if arch is None:
        return [finding("LF303", f"This device is {facts.machine or 'unknown'}.")]
    found = [*check_runtime(facts, library.runtime), *check_cpu(facts, arch.isa, library.runtime)]
    return [f for f in found if f.decides]


def errors_beforehand(
    model: NbModel, facts: Facts, runtime: RuntimeFacts | None, engine: EngineSettings = NOTHING_ASKED
) -> list[Finding]:
    """Return the errors of a model with a runtime on a device that the device itself would find, before anything is sent.

    `runtime` None: the device's own, of which only the device knows more than whether it has what an accelerator needs.
    """
    if runtime is None:
        return [f for f in check_environment(model, facts, engine=engine) if f.code == "LF103"]
    found = judge_runtime(model, facts, runtime, engine)
    return root_findings(facts) + [f for f in found if f.decides and f.code not in _MOMENTARY]


def root_findings(facts: Facts) -> list[Finding]:
    """Return LF327 where no library of a runtime that is brought could be loaded from the agent's root."""
    return [finding("LF327", "The agent's root on this device is mounted noexec.")] if facts.noexec else []


def told_beforehand(
    model: NbModel, facts: Facts, runtime: RuntimeFacts | None, engine: EngineSettings
) -> list[Finding]:
    """Return what the plan says of accelerators: settings that change nothing, and that nobody here ran one."""
    found = check_environment(model, facts, runtime, engine=engine)
    return [f for f in found if f.code in ("LF433", "LF434")]


def own_runtime_findings(facts: Facts) -> tuple[Finding, ...]:
    """Return LF302 where the device's own Python imports no Paddle-Lite; its numpy is judged where the library is read: there."""
    if facts.paddlelite.path:
        return ()
    python = sanitize(facts.python.executable) or "the device's Python"
    return (finding("LF302", f"No paddlelite package is installed for {python}."),)
