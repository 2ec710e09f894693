"""Files together with each other, and with a device or an architecture: will this run there?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from litefleet_agent.facts import Facts
from litefleet_agent.facts.arch import ARCHES, Arch
from litefleet_agent.facts.runtime import RuntimeFacts
from litefleet_agent.findings import Finding, Severity, finding
from litefleet_agent.findings.environment import check_build, check_environment, grade_versions
from litefleet_agent.findings.model_file import check_file
from litefleet_agent.formats.nb import NbModel

from ..conversion.static import check_source_for
from .diagnosis import Diagnosis, Kind
from .files import Examined
from .runtimes import pair_runtime

__all__ = ["Place", "diagnose_pairs"]


@dataclass(frozen=True)
class Place:
    """Where files are to run: a device that was asked, or an architecture alone (`facts` None)."""

    name: str
    arch: Arch | None  # None: Paddle-Lite has no CPU backend for it
    facts: Facts | None = None

    @classmethod
    def of_device(cls, name: str, facts: Facts) -> Place:
        """Return the place that a device is."""
        return cls(name, ARCHES.get(facts.arch), facts)


def diagnose_pairs(files: Iterable[Examined], places: Iterable[Place], opt_version: str) -> list[Diagnosis]:
    """Judge each model with each runtime, if any is given, on each place, if any is given.

    A file that is neither model nor runtime, or that could not be read, takes part in no pair.
    `opt_version` is the converter's, for source models.
    """
    given = list(files)
    models = [f for f in given if f.model or f.source]
    runtimes = [f for f in given if f.runtime]
    everywhere = list(places)
    beside: list[Examined | None] = [*runtimes] or [None]
    where: list[Place | None] = [*everywhere] or [None]
    found = [
        _judge(model, runtime, place, opt_version)
        for place in where
        for model in models
        for runtime in beside
        if place or runtime
    ]
    if not models:
        found += [_judge_runtime(runtime, place) for place in everywhere for runtime in runtimes]
    return [pair for pair in found if pair.findings or pair.works]  # else all was said of the files themselves


def _judge(model: Examined, runtime: Examined | None, place: Place | None, opt_version: str) -> Diagnosis:
    findings: list[Finding] = []
    if place is not None and place.arch is None:
        findings.append(_no_backend(place))
    elif model.source is not None:
        targets = place.arch.target if place and place.arch else ""
        findings += check_source_for(model.source, targets, opt_version) if targets else []
        if runtime is not None and place is not None:
            findings += _runtime_on(runtime, place)
    elif model.model is not None:
        findings += _nb_on(model.model, runtime, place)
    return _paired([model, *([runtime] if runtime else [])], place, findings)


def _nb_on(model: NbModel, runtime: Examined | None, place: Place | None) -> list[Finding]:
    facts = place.facts if place else None
    found: list[Finding] = []
    if place and place.arch:
        features = frozenset(facts.cpu.features) or None if facts else None
        found += check_file(model, place.arch, features)
    if facts is not None:
        found += check_environment(model, facts, runtime.runtime if runtime else None)
    elif runtime is not None and runtime.runtime is not None:
        found += _nb_with(model, runtime.runtime)
        found += _runtime_on(runtime, place) if place else []
    return found


def _nb_with(model: NbModel, runtime: RuntimeFacts) -> list[Finding]:
    """Judge a .nb with a runtime, no device known: versions, and the CPU that the runtime's binary is for."""
    arch = ARCHES.get(runtime.so_machine)
    found = check_file(model, arch) if arch else []
    return [*found, *check_build(model, runtime), *grade_versions(model.opt_version, runtime.paddlelite_version)]


def _judge_runtime(runtime: Examined, place: Place) -> Diagnosis:
    findings = [_no_backend(place)] if place.arch is None else _runtime_on(runtime, place)
    return _paired([runtime], place, findings)


def _runtime_on(runtime: Examined, place: Place) -> list[Finding]:
    described = runtime.runtime
    if described is None:
        return []
    if place.facts is not None:
        return list(pair_runtime(described, place.facts))
    if place.arch and described.so_machine and described.so_machine != place.arch.name:
        seen = f"{runtime.diagnosis.subject} is for {described.so_machine}; {place.name} is {place.arch.name}."
        return [finding("LF308", seen)]
    return []


def _no_backend(place: Place) -> Finding:
    machine = place.facts.machine if place.facts else place.name
    return finding(
        "LF303", f"{place.name} is {machine or 'of an unknown architecture'}; Paddle-Lite runs on x86 and ARM."
    )


def _paired(files: list[Examined], place: Place | None, findings: list[Finding]) -> Diagnosis:
    names = " with ".join(f.diagnosis.subject for f in files)
    own = {f for file in files for f in file.diagnosis.findings}
    new = tuple(dict.fromkeys(f for f in findings if f not in own))
    return Diagnosis(
        kind=Kind.PAIR,
        subject=f"{names} on {place.name}" if place else names,
        works=_works(files, place, (*own, *new)),
        findings=new,
        path=files[0].diagnosis.path,
    )


def _works(files: list[Examined], place: Place | None, findings: Iterable[Finding]) -> tuple[str, ...]:
    """Say what speaks for the pair when no error speaks against it; the proof is the run, and that is said too."""
    if any(f.severity is Severity.ERROR for f in findings):
        return ()
    what = "these files" if len(files) > 1 else "this file"
    if place is None:
        return ("Nothing that can be seen beforehand speaks against these two together.",)
    if place.facts is None:
        return (f"Nothing in {what} speaks against {place.name}; the device itself was not asked.",)
    return (f"Nothing that can be seen beforehand speaks against {what} there; `litefleet verify` proves it.",)
