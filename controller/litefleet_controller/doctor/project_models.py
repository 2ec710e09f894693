"""What litefleet.yaml names for one model: its source, ready-made files and goldens, read as a run would read them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from litefleet_agent.findings import Finding

from ..config import Config, ModelConfig
from ..conversion.preflight import SourceFacts, check_age, load_source
from ..errors import FindingError, LitefleetError
from ..golden.files import check_cases, read_npz
from ..inspection import inspect_file
from .looked import Looked, joined, trouble, works

__all__ = ["look_at_model"]


def look_at_model(name: str, model: ModelConfig, config: Config) -> Looked:
    """Look at the files of one model; what is made from them on first use is not made here."""
    source, found = _source(name, model, config.toolchain.paddlelite)
    found += joined(_ready(name, arch, path) for arch, path in model.nb.items())
    return found + _golden(name, model.golden.files, source)


def _source(name: str, model: ModelConfig, opt_version: str) -> tuple[SourceFacts | None, Looked]:
    if model.source is None:
        return None, Looked()
    path = model.source.folder or model.source.model
    assert path is not None  # the configuration holds one of the two
    try:
        facts = load_source(path, model.source.params).facts
    except FindingError as error:
        return None, _named(name, error.findings)
    found = _named(name, (*facts.findings, *check_age(facts, opt_version)))
    return facts, found + works(f"{name}: the source model is whole, {sum(facts.ops.values())} operators.")


def _ready(name: str, arch: str, path: Path) -> Looked:
    try:
        inspection = inspect_file(path, arch)
    except LitefleetError as error:
        return trouble("LF201", f"{name}: {error}")
    found = _named(name, inspection.findings, f" ({path.name} for {arch})")
    return found + (works(f"{name}: {path.name} fits {arch}.") if inspection.exit_code == 0 else Looked())


def _golden(name: str, files: tuple[Path, ...], source: SourceFacts | None) -> Looked:
    if not files:
        return Looked()
    try:
        cases = [(path.name, read_npz(path)) for path in files]
        if source is not None:
            check_cases(cases, source.inputs, source.outputs)
    except FindingError as error:
        return _named(name, error.findings)
    return works(f"{name}: {len(files)} golden files can be read.")


def _named(name: str, findings: Iterable[Finding], where: str = "") -> Looked:
    """Return findings with the model's name before each sentence."""
    return joined(trouble(f.code, f"{name}{where}: {f.seen}", f.certainty) for f in findings)
