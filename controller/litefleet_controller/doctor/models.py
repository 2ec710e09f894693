"""Diagnoses of models: .nb files as `inspect` finds them, and PaddlePaddle source models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from litefleet_agent.findings import Finding, Severity
from litefleet_agent.findings.model_file import accelerators
from litefleet_agent.formats.nb import NbModel

from ..build.conversion.opsets import knows
from ..build.conversion.preflight import SourceFacts, find_source, load_source
from ..build.conversion.static import check_source_for
from ..common.errors import FindingError
from ..common.text import sanitize
from ..config.choices import CPU_TARGETS, DEFAULT_PADDLELITE
from ..inspection.model import Inspection, described_shape, inspect_file
from .diagnosis import Diagnosis, Fact, Kind

__all__ = ["DEFAULT_PADDLELITE", "diagnose_nb", "diagnose_source", "diagnosis_of"]


def diagnose_nb(path: Path, for_arch: str | None = None) -> Diagnosis:
    """Read a .nb file and judge it, alone or for an architecture.  Raises: UsageError as `inspect_file` does."""
    return diagnosis_of(inspect_file(path, for_arch))


def diagnosis_of(inspection: Inspection) -> Diagnosis:
    """Return one file's inspection as a diagnosis."""
    return Diagnosis(
        kind=Kind.NB,
        subject=inspection.path.name,
        facts=tuple(Fact(label, text) for label, text in inspection.described()),
        works=_works(inspection),
        findings=inspection.findings,
        path=inspection.path,
        data=inspection.to_dict(),
    )


def _works(inspection: Inspection) -> tuple[str, ...]:
    model = inspection.model
    if model is None:
        return ()
    sentences = []
    if model.complete and model.parameters_walked:
        sentences.append(f"The file is whole: all {model.parameter_count} parameters are where the program reads them.")
    if inspection.arch and not any(f.severity is not Severity.NOTE for f in inspection.findings):
        sentences.append(_runs(model, inspection.arch.name))
    return tuple(sentences)


def _runs(model: NbModel, arch: str) -> str:
    others = accelerators(model)
    count = sum(kernel.target in others for kernel in model.kernels)
    if not count:
        return f"All {len(model.kernels)} kernels run on {arch}."
    return (
        f"{count} of {len(model.kernels)} kernels need {', '.join(sorted(others))}, which this check does not see "
        f"(`--limit DEVICE` does); the others run on {arch}."
    )


_MOST_OPS = 12


def diagnose_source(
    path: Path, opt_version: str = DEFAULT_PADDLELITE, targets: Sequence[str] = CPU_TARGETS, fp16: bool = False
) -> Diagnosis:
    """Check a model's folder or program file for conversion with that Paddle-Lite for each of `targets`.

    An unreadable model is a finding: nothing is raised.
    """
    try:
        facts = load_source(path).facts
    except FindingError as error:
        return Diagnosis(Kind.SOURCE, sanitize(path.name), findings=error.findings, path=_file(path))
    against = {target: check_source_for(facts, target, opt_version, fp16) for target in targets}
    return Diagnosis(
        kind=Kind.SOURCE,
        subject=sanitize(path.name),
        facts=_described(facts),
        works=_source_works(facts, against, opt_version),
        findings=tuple(dict.fromkeys([*facts.findings, *(f for found in against.values() for f in found)])),
        path=_file(path),
        data={**_data(facts), "opt_version": opt_version},
    )


def _file(path: Path) -> Path:
    """Return the program file that findings refer to; the path itself when there is none."""
    try:
        return find_source(path)[0]
    except FindingError:
        return path


def _source_works(facts: SourceFacts, against: dict[str, list[Finding]], opt_version: str) -> tuple[str, ...]:
    sentences = ["Program and parameters belong together, and are whole."]
    for target, found in against.items():
        if knows(target, opt_version) and not any(f.code == "LF206" for f in found):
            sentences.append(
                f"All {len(facts.ops)} kinds of operators are known on {target} in Paddle-Lite {opt_version}."
            )
    return tuple(sentences)


def _described(facts: SourceFacts) -> tuple[Fact, ...]:
    ops = sorted(facts.ops.items(), key=lambda pair: (-pair[1], pair[0]))
    named = ", ".join(f"{count} {sanitize(name, 60)}" for name, count in ops[:_MOST_OPS])
    if len(ops) > _MOST_OPS:
        named += f" and {len(ops) - _MOST_OPS} more kinds"
    saved = f"PaddlePaddle {facts.paddle_version}" if facts.paddle_version else "a development build of PaddlePaddle"
    return (
        Fact("saved by", saved),
        *(Fact("input", described_shape(tensor.name, tensor.dtype, tensor.dims)) for tensor in facts.inputs),
        *(Fact("output", described_shape(tensor.name, tensor.dtype, tensor.dims)) for tensor in facts.outputs),
        Fact("parameters", str(facts.parameters)),
        Fact("operators", f"{sum(facts.ops.values())}: {named}"),
        Fact("size", f"{facts.size:,} bytes ({facts.size / 2**20:.1f} MiB)"),
        Fact("SHA-256", facts.sha256),
    )


def _data(facts: SourceFacts) -> dict[str, object]:
    return {
        "paddle_version": facts.paddle_version,
        "inputs": [{"name": t.name, "dtype": t.dtype, "dims": list(t.dims)} for t in facts.inputs],
        "outputs": [{"name": t.name, "dtype": t.dtype, "dims": list(t.dims)} for t in facts.outputs],
        "parameters": facts.parameters,
        "ops": dict(sorted(facts.ops.items())),
        "forms": facts.forms,
        "size": facts.size,
        "sha256": facts.sha256,
    }
