"""`litefleet runtime`: what each runtime is, and which devices of the inventory it fits; adds one to litefleet.yaml."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from litefleet_agent.errors import AgentError
from litefleet_agent.facts import Facts
from litefleet_agent.facts.arch import arch_of
from litefleet_agent.facts.runtime import RuntimeFacts
from litefleet_agent.findings import Finding, Severity, finding
from litefleet_inventory import Device

from ..build.runtimes.choose import choose_runtime, judge_choice
from ..build.runtimes.library_files import is_archive
from ..build.toolchain import default_cache
from ..common.errors import UsageError
from ..common.text import sanitize
from ..config import Config
from ..config.choices import RuntimeChoice
from ..config.edit import add_runtime
from ..project import Options
from ..project.project import Project, open_project, open_state
from ..reports.grouping import fold
from .diagnosis import Diagnosis, Fact, Kind
from .files import Examined, examine, expand

_THIS_COMMAND = "litefleet runtime add"  # what doctor suggests for a file


@dataclass(frozen=True)
class _Fits:
    """The devices that could use a runtime: those of its architecture, and those whose facts are unknown."""

    fitting: tuple[str, ...]
    refused: Mapping[str, Finding]
    unknown: tuple[str, ...]

    def facts(self) -> tuple[Fact, ...]:
        """Return lines for people."""
        by_sentence: dict[str, list[str]] = {}
        for device, found in self.refused.items():
            by_sentence.setdefault(f"{found.observed} ({found.code})", []).append(device)
        lines = [("fits", ", ".join(fold(self.fitting)) or ("" if self.refused or self.unknown else "no device"))]
        lines += [("does not fit", f"{', '.join(fold(names))}: {why}") for why, names in by_sentence.items()]
        if self.unknown:
            names = ", ".join(fold(self.unknown))
            lines.append(("not known yet", f"{names}: `litefleet plan` asks them for their facts"))
        return tuple(Fact(label, sanitize(text)) for label, text in lines if text)

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        refused = {device: found.to_dict() for device, found in self.refused.items()}
        return {"fit": list(self.fitting), "refused": refused, "unknown": list(self.unknown)}


def list_runtimes(options: Options) -> list[Diagnosis]:
    """Return a diagnosis of each runtime that litefleet.yaml names, with the devices that it fits and those that get it.

    Raises: ConfigError, UsageError, StateError.
    """
    project = open_project(options)
    known, version = _known_facts(project.config), project.config.toolchain.paddlelite
    found = []
    for name, given in project.config.runtimes.items():
        for choice in (one.choice(version) for one in given):
            users = [d for d in project.devices if _may_get(d, name, known.get(d.name))]
            found.append(_entry(project, f"runtimes.{name}", choice, users, known))
    return found


def check_files(options: Options, files: Sequence[Path]) -> list[Diagnosis]:
    """Return a diagnosis of each file, with the devices that it would fit.  Raises: as `list_runtimes`."""
    project = open_project(options)
    known = _known_facts(project.config)
    found = []
    for path in expand(list(files)):
        examined = examine(path)
        runtime = examined.runtime
        if runtime is None:
            found.append(_none(examined))
            continue
        machine = runtime.so_machine
        users = [d for d in project.devices if _may_get(d, machine, known.get(d.name))]
        fits = _fits(_choice_of(path, runtime), users, known)
        found.append(_with(examined.diagnosis, fits, {}))
    return found


def add_files(options: Options, files: Sequence[Path], dry_run: bool = False) -> list[Diagnosis]:
    """Add each file to litefleet.yaml under its architecture, and return a diagnosis of each; one with errors is not added.

    Raises: as `list_runtimes`; UsageError when litefleet.yaml cannot be changed.
    """
    found = []
    for path, diagnosis in zip(expand(list(files)), check_files(options, files), strict=True):
        runtime = examine(path).runtime
        if runtime is None or any(f.severity is Severity.ERROR for f in diagnosis.findings):
            found.append(_said(diagnosis, "not added", "for what is said below"))
            continue
        choice = _choice_of(path, runtime)
        named = open_project(options).config.runtimes.get(runtime.so_machine, ())
        if any(one.choice("").path.resolve() == path.resolve() for one in named):
            found.append(
                _said(diagnosis, "not added", f"it is under runtimes.{runtime.so_machine} in {options.config} already")
            )
        elif dry_run:
            found.append(_said(diagnosis, "would be added", f"under runtimes.{runtime.so_machine} in {options.config}"))
        else:
            entry = add_runtime(options.config, runtime.so_machine, _key_of(choice), path)
            found.append(_said(diagnosis, "added", f"{entry} in {options.config}", {"entry": entry}))
    return found


def _said(diagnosis: Diagnosis, label: str, words: str, data: Mapping[str, object] | None = None) -> Diagnosis:
    added = Fact(label, sanitize(words))
    return replace(diagnosis, facts=(*diagnosis.facts, added), data={**diagnosis.data, **(data or {})})


def _none(examined: Examined) -> Diagnosis:
    """Return the diagnosis of a file that is no runtime.  Raises: UsageError where nothing else says so."""
    if not examined.diagnosis.findings:
        raise UsageError(f"{examined.diagnosis.subject} is no Paddle-Lite runtime: `litefleet doctor` describes it.")
    return examined.diagnosis


def _choice_of(path: Path, runtime: RuntimeFacts) -> RuntimeChoice:
    if path.is_dir():
        return RuntimeChoice("folder", path=path)
    if runtime.kind == "library":
        return RuntimeChoice("library", path=path)
    return RuntimeChoice("wheel", path=path)


def _key_of(choice: RuntimeChoice) -> str:
    """Return the key under which litefleet.yaml names it."""
    return "archive" if choice.kind == "library" and is_archive(choice.path) else choice.kind


def _known_facts(config: Config) -> dict[str, Facts]:
    """Return the facts of the devices that were met before; a missing state is not created."""
    if not config.state and not (config.store / "state.db").exists():
        return {}
    found = {}
    with closing(open_state(config)) as state:
        for name, known in state.known().items():
            try:
                found[name] = Facts.from_dict(dict(known.facts))
            except AgentError:  # an older litefleet's facts: unknown
                continue
    return found


def _may_get(device: Device, name: str, facts: Facts | None) -> bool:
    """Return whether a device may get a runtime of this name: its own, or its architecture's."""
    if device.runtime:
        return device.runtime == name
    expected = arch_of(device.arch) if device.arch else None
    arch = facts.arch if facts is not None else expected.name if expected else ""
    return arch in ("", name) and arch_of(name) is not None


def _fits(choice: RuntimeChoice, devices: Sequence[Device], known: Mapping[str, Facts]) -> _Fits:
    refused = {}
    for device in devices:
        if device.name in known:
            errors = judge_choice(choice, known[device.name], None, default_cache()).refusals
            refused.update({device.name: errors[0]} if errors else {})
    names = [device.name for device in devices]
    fitting = tuple(name for name in names if name in known and name not in refused)
    return _Fits(fitting, refused, tuple(name for name in names if name not in known))


def _with(diagnosis: Diagnosis, fits: _Fits, data: Mapping[str, object]) -> Diagnosis:
    return replace(
        diagnosis,
        facts=(*diagnosis.facts, *fits.facts()),
        works=tuple(sentence for sentence in diagnosis.works if _THIS_COMMAND not in sentence),
        data={"runtime": diagnosis.data, "devices": fits.to_dict(), **data},
    )


def _entry(
    project: Project, place: str, choice: RuntimeChoice, users: Sequence[Device], known: Mapping[str, Facts]
) -> Diagnosis:
    """Describe one configured runtime."""
    if choice.kind in ("wheels", "system"):
        words = "the devices' own" if choice.kind == "system" else f"published wheels of paddlelite {choice.paddlelite}"
        diagnosis = Diagnosis(Kind.RUNTIME, f"{place}: {words}")
    elif not choice.path.exists():
        missing = finding("LF302", f"{choice.path} is missing.")
        return Diagnosis(Kind.RUNTIME, f"{place}: {choice.path.name}", findings=(missing,), data={"place": place})
    else:
        diagnosis = examine(choice.path).diagnosis
        diagnosis = replace(diagnosis, subject=f"{place}: {diagnosis.subject}")
    gets = [
        device.name
        for device in users
        if device.name in known and choose_runtime(project.config, device, known[device.name]).choice == choice
    ]
    entry = _with(diagnosis, _fits(choice, users, known), {"place": place, "gets": gets})
    return replace(entry, facts=(*entry.facts, Fact("is sent to", ", ".join(fold(gets))))) if gets else entry
