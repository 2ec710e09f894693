"""Checks the local files that a project names, before any device is contacted: models, goldens, runtimes and keys.

Only files are read: nothing is converted, downloaded, changed or contacted.  Each problem is one sentence that begins with
the file and line of the setting, 'litefleet.yaml:12: models.cls.source: … is missing.'
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import asyncssh
from litefleet_agent.facts.arch import ARCHES, arch_of
from litefleet_agent.findings import Certainty, Finding, Severity
from litefleet_inventory import Device

from ..build.conversion.aborts import check_aborts
from ..build.conversion.preflight import SourceFacts, load_source
from ..build.golden.dataset import read_dataset
from ..build.golden.files import check_cases, read_npz
from ..build.golden.make import inputs_of
from ..build.golden.meaning import meanings_of
from ..build.runtimes.compatibility import DeviceKind, refusal_of_elf, wheel_name
from ..build.runtimes.library import is_library
from ..build.runtimes.library_files import is_archive
from ..common.errors import ConfigError, FindingError, LitefleetError
from ..common.files import expanded
from ..config import ModelConfig
from ..config.choices import AccuracySpec, RuntimeChoice
from ..config.document import read_document
from ..inspection.model import inspect_file
from ..signing.signer import Signer
from . import Files, Options
from .project import Project, open_project

_MAX_KEY_BYTES = 1 << 20  # a private key has a few KiB
_LOCKED = (
    "is protected by a passphrase, and litefleet does not ask for one; load it with `ssh-add` and leave `key:` out"
)


async def checked_project(
    options: Options, files: Files = Files.ALL, only: Collection[str] | None = None, stores: bool = True
) -> Project:
    """Open a project and check the local files that its selected devices (or those named in `only`) and models need.

    With `stores`, also that the folder of `store` can be written: what devices answer must not be lost afterwards.
    Raises: ConfigError or UsageError with all problems at once.
    """
    project = open_project(options)
    if only is not None:
        project = replace(project, devices=tuple(d for d in project.inventory.devices if d.name in only))
    problems = list(_store(project)) if stores else []
    if files is Files.ALL:
        problems += await check_project(project)
    if files is Files.SOURCES:
        problems += _sentences(project, _sources(project))
    if files in (Files.SOURCES, Files.KEYS):
        problems += _keys(project)
    if problems:
        raise ConfigError(problems)
    return project


async def check_project(project: Project) -> list[str]:
    """Return one sentence 'FILE:LINE: SETTING: problem' for each local file that is missing, unreadable or unsuitable."""
    found = [*_models(project), *_runtimes(project), *(await _signing(project))]
    return [*_sentences(project, found), *_keys(project), *_artifacts(project)]


def _sentences(project: Project, found: Iterable[_Problem]) -> list[str]:
    """Return problems as sentences that begin with the file and line of their setting."""
    path = project.options.config
    document = read_document(path.read_text(encoding="utf-8"), str(path))
    return [f"{path}:{document.line(place)}: {'.'.join(place)}: {text}" for place, text in found]


def _store(project: Project) -> Iterator[str]:
    """Yield why the folder of `store` cannot be made or written, if so; nothing is left behind."""
    store = project.config.store
    there = next(folder for folder in (store, *store.absolute().parents) if os.path.lexists(folder))
    try:
        with tempfile.TemporaryFile(dir=there):  # access(2) says yes to root, also on what is mounted read-only
            return
    except OSError as error:
        why = "it is not a folder" if isinstance(error, NotADirectoryError) else error.strerror
        yield from _sentences(project, [(("store",), f"{store} cannot be written ({there}: {why}).")])


_Problem = tuple[tuple[str, ...], str]  # the setting's path in litefleet.yaml, and the sentence


def _models(project: Project) -> Iterator[_Problem]:
    artifacts = {(m, d.artifact) for d in project.devices for m in project.models_of(d)}
    for name in project.models:
        if all(given for model, given in artifacts if model == name):
            continue  # every device receives a file of its own: the model's source is not needed
        model = project.config.models[name]
        facts = None
        try:
            facts = _source(model)
        except FindingError as error:
            yield from _of_source(name, error)
        data = model.golden.accuracy_spec()
        if facts is not None and not model.golden.files and (data is None or model.golden.inputs):
            yield from _inputs(name, model, facts)
        if facts is not None:
            yield from _outputs(name, model, facts)
            yield from ((("models", name, "source"), _sentence(f)) for f in _stops(project, name, facts))
        for arch, nb in model.nb.items():
            yield from ((("models", name, "nb", arch), problem) for problem in _nb(nb, arch))
        yield from ((("models", name, "golden"), problem) for problem in _goldens(model, facts))
        if data is not None:
            yield from _dataset(name, data)


def _stops(project: Project, name: str, facts: SourceFacts) -> list[Finding]:
    """Return why no device can run what is made of a source: forms at which Paddle-Lite ends on each architecture there is.

    What ends on some of the architectures alone is a finding of the devices that have them: the others get the model.
    """
    model = project.config.models[name]
    devices = [d for d in project.devices if name in project.models_of(d) and not d.artifact]
    stated = [arch_of(d.arch) for d in devices]
    # A device whose architecture is not stated may have any.
    arches = {arch for arch in stated if arch is not None} if stated and None not in stated else set(ARCHES.values())
    targets = {model.targets.get(arch.name, arch.target) for arch in arches if arch.name not in model.nb}
    found = [_certain(check_aborts(facts.forms, target)) for target in sorted(targets)]
    everywhere = [f for f in found[0] if all(f in other for other in found)] if found else []
    return [*_certain(facts.findings), *everywhere] if targets else []


def _certain(findings: Iterable[Finding]) -> list[Finding]:
    return [f for f in findings if _is_error(f) and f.certainty is Certainty.CERTAIN]


def _dataset(name: str, spec: AccuracySpec) -> Iterator[_Problem]:
    place = ("models", name, "golden", "dataset")
    try:
        read_dataset(spec, name)
    except ConfigError as error:
        yield from ((place, problem.removeprefix(".".join(place)).lstrip(": ")) for problem in error.problems)


def _source(model: ModelConfig) -> SourceFacts | None:
    source = model.source
    path = (source.folder or source.model) if source is not None else None
    return load_source(path, source.params if source is not None else None).facts if path is not None else None


def _of_source(name: str, error: FindingError) -> list[_Problem]:
    return [(("models", name, "source"), _sentence(f)) for f in error.findings if _is_error(f)]


def _sources(project: Project) -> Iterator[_Problem]:
    """Yield the problems of the sources alone, for a command that reads nothing else of a model."""
    for name in project.models:
        try:
            _source(project.config.models[name])
        except FindingError as error:
            yield from _of_source(name, error)


def _inputs(name: str, model: ModelConfig, facts: SourceFacts) -> Iterator[_Problem]:
    try:
        inputs_of(facts.inputs, facts.outputs, model.golden_spec(""), name, facts.vocabularies)
    except ConfigError as error:
        place = ("models", name, "inputs")
        for problem in error.problems:
            yield place, problem.removeprefix(f"models.{name}.inputs").removeprefix(f"models.{name}").lstrip(":. ")
    except LitefleetError as error:
        yield ("models", name, "golden"), str(error)


def _outputs(name: str, model: ModelConfig, facts: SourceFacts) -> Iterator[_Problem]:
    try:
        meanings_of(name, facts.outputs, None, model.outputs, {})
    except ConfigError as error:
        for problem in error.problems:
            yield ("models", name, "outputs"), problem.removeprefix(f"models.{name}.outputs").lstrip(":. ")


def _nb(path: Path, arch: str = "") -> Iterator[str]:
    """Yield the errors of a .nb file; `arch` "" checks only that it is one."""
    try:
        inspection = inspect_file(path, arch or None)
    except LitefleetError as error:
        yield f"{error}"
        return
    yield from (_sentence(f) for f in inspection.findings if _is_error(f))


def _goldens(model: ModelConfig, facts: SourceFacts | None) -> Iterator[str]:
    if not model.golden.files:
        return
    try:
        cases = [(path.name, read_npz(path)) for path in model.golden.files]
        if facts is not None:
            check_cases(cases, facts.inputs, facts.outputs)
    except FindingError as error:
        yield from map(_sentence, error.findings)


def _runtimes(project: Project) -> Iterator[_Problem]:
    """Yield the problems of configured runtimes; a device's architecture decides later which one it uses."""
    for name, configured in project.config.runtimes.items():
        for number, one in enumerate(configured):
            choice = one.choice(project.config.toolchain.paddlelite)
            where = ("runtimes", name, str(number)) if len(configured) > 1 else ("runtimes", name)
            yield from (((*where, key), problem) for key, problem in _runtime(choice))


def _runtime(choice: RuntimeChoice) -> Iterator[tuple[str, str]]:
    """Yield (key, problem) for the files of one runtime."""
    if choice.kind == "wheel":
        if not choice.path.is_file():
            yield "wheel", f"{choice.path} is missing."
        elif wheel_name(choice.path.name) is None:
            yield "wheel", f"{choice.path.name} is not the file name of a wheel (LF307)."
    elif choice.kind == "library" and not choice.path.exists():
        yield "archive" if is_archive(choice.path) else "library", f"{choice.path} is missing."
    elif choice.kind == "folder" and not is_library(choice):
        kinds = [DeviceKind(arch, "cp310", "glibc", "9.9") for arch in ARCHES]  # newer than every libc
        refusals = [refusal_of_elf(choice.path, kind, str(choice.path)) for kind in kinds]
        if None not in refusals and refusals[0] is not None and refusals[0].code != "LF308":
            yield "folder", _sentence(refusals[0])


async def _signing(project: Project) -> list[_Problem]:
    if project.config.signing is None:
        return []
    try:
        await Signer(project.config.signing).check()
    except ConfigError as error:
        return [
            (("signing",), problem.removeprefix("signing.").removeprefix("signing: ")) for problem in error.problems
        ]
    return []


def _keys(project: Project) -> Iterator[str]:
    """Yield the problems of the SSH keys that the inventory names, each key once."""
    for name, place, more in _named_files(project.devices, "key"):
        problem = unusable_key(expanded(name))
        if problem:
            yield f"{place}: {name} {problem}{more}."


def _artifacts(project: Project) -> Iterator[str]:
    """Yield the problems of the .nb files that the inventory names for single devices, each file once."""
    for name, place, more in _named_files(project.devices, "artifact"):
        for problem in _nb(project.config.inventory.path.parent / expanded(name)):
            yield f"{place}: {problem}{more}"


def _named_files(devices: Iterable[Device], setting: str) -> Iterator[tuple[str, str, str]]:
    """Yield each file that a setting names: its name, the first device that has it, and how many there are."""
    users: dict[str, list[Device]] = {}
    for device in devices:
        if name := str(getattr(device, setting)):
            users.setdefault(name, []).append(device)
    for name, sharing in users.items():
        more = f" ({len(sharing)} devices use it)" if len(sharing) > 1 else ""
        yield name, f"{sharing[0].source}: {sharing[0].name}.{setting}", more


def unusable_key(path: Path) -> str:
    """Return why a private SSH key cannot be used, "" when it can: "is missing", "is not a private key: …"."""
    try:
        if not path.is_file():
            return "is missing" if not path.exists() else "is not a file"
        if path.stat().st_size > _MAX_KEY_BYTES:
            return "is too large for a key"
        if path.suffix == ".pub":
            return "is the public half; name the private one"
        asyncssh.read_private_key(path)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except (asyncssh.Error, ValueError) as error:
        locked = isinstance(error, asyncssh.KeyEncryptionError) or "passphrase" in str(error).lower()
        return _LOCKED if locked else f"is not a private key: {error}"
    return ""


def _is_error(found: Finding) -> bool:
    return found.severity is Severity.ERROR


def _sentence(found: Finding) -> str:
    return f"{found.observed} ({found.code})"
