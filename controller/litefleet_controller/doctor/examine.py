"""`litefleet doctor`: examines everything that was named, and the pairs of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from litefleet_agent.facts.arch import Arch

from ..common.errors import LitefleetError, UsageError
from ..common.text import sanitize
from ..config.choices import DEFAULT_PADDLELITE, arch_of_option
from ..devices.progress import Progress
from ..project import Options
from .diagnosis import Diagnosis
from .files import Examined, Place, diagnose_pairs, examine, expand
from .logs import diagnose_log


@dataclass(frozen=True)
class Question:
    """The arguments of `litefleet doctor`; none mean this machine and the project."""

    options: Options
    files: tuple[Path, ...] = ()
    arches: tuple[str, ...] = ()
    logs: tuple[str, ...] = ()  # paths, "-" for stdin
    devices: bool = False  # those that options.limit selects


def examine_all(question: Question, progress_for: Callable[[int], Progress]) -> list[Diagnosis]:
    """Return a diagnosis of each thing that was named, then of each pair of them.

    Logs and files are read before the event loop starts, so that Ctrl-C ends a read from a terminal at once.

    Raises: UsageError for an unreadable file; ConfigError when devices are named without a project.
    """
    if question.arches and not question.files:
        raise UsageError("--for names where files will run: name a .nb, a model's folder or a wheel as well")
    arches = list(dict.fromkeys(arch_of_option(name) for name in question.arches))
    found = [diagnose_log(log) for log in question.logs]
    alone = arches[0] if len(arches) == 1 and not question.devices else None
    version = _opt_version(question.options.config)
    files = _distinct_subjects([examine(path, alone, version) for path in expand(list(question.files))])
    found += [file.diagnosis for file in files]
    places = [Place(arch.name, arch) for arch in arches]
    if question.devices:
        from .devices import diagnose_devices  # SSH is slow to import

        probed, diagnoses = asyncio.run(diagnose_devices(question.options, progress_for))
        found += diagnoses
        places += [Place.of_device(p.device, p.facts) for p in probed if p.facts is not None]
    found += diagnose_pairs(files, _left(files, places, alone), version)
    if not (question.files or question.logs or question.devices):
        from .controller_machine import diagnose_host

        found += asyncio.run(diagnose_host(question.options.config, question.options.inventory))
    return found


def _distinct_subjects(files: list[Examined]) -> list[Examined]:
    """Return the files, those with equal names named by their paths: models/*/inference.pdmodel."""
    times = Counter(file.diagnosis.subject for file in files)
    return [
        replace(file, diagnosis=replace(file.diagnosis, subject=sanitize(str(file.diagnosis.path))))
        if times[file.diagnosis.subject] > 1 and file.diagnosis.path is not None
        else file
        for file in files
    ]


def _left(files: list[Examined], places: list[Place], alone: Arch | None) -> list[Place]:
    """Return the places to pair files with; none when the only .nb was already judged for the only architecture."""
    if alone is not None and len(files) == 1 and files[0].diagnosis.data.get("for"):
        return []
    return places


def _opt_version(config: Path) -> str:
    """Return the converter's version of the project; the default one without a readable project."""
    try:
        if not config.is_file():
            return DEFAULT_PADDLELITE
        from ..config import load_config  # slow to import

        return load_config(config).toolchain.paddlelite
    except (LitefleetError, OSError):
        return DEFAULT_PADDLELITE
