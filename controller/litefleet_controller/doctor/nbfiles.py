"""What `inspect` found of a .nb file, as a diagnosis."""

from __future__ import annotations

from pathlib import Path

from litefleet_agent.findings import Severity
from litefleet_agent.findings.model_file import accelerators
from litefleet_agent.formats.nb import NbModel

from ..inspection import Inspection, inspect_file
from .diagnosis import Diagnosis, Fact, Kind

__all__ = ["diagnose_nb", "diagnosis_of"]


def diagnose_nb(path: Path, for_arch: str | None = None) -> Diagnosis:
    """Read a .nb file and judge it, alone or for an architecture.  Raises: UsageError as `inspect_file` does."""
    return diagnosis_of(inspect_file(path, for_arch))


def diagnosis_of(inspection: Inspection) -> Diagnosis:
    """Return what was found of one file in the shape that doctor's reports and SARIF are made from."""
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
    said = []
    if model.complete and model.parameters_walked:
        said.append(f"The file is whole: all {model.parameter_count} parameters are where the program looks for them.")
    if inspection.arch and not any(f.severity is not Severity.NOTE for f in inspection.findings):
        said.append(_runs(model, inspection.arch.name))
    return tuple(said)


def _runs(model: NbModel, arch: str) -> str:
    others = accelerators(model)
    count = sum(kernel.target in others for kernel in model.kernels)
    if not count:
        return f"All {len(model.kernels)} kernels run on {arch}."
    return (
        f"{count} of {len(model.kernels)} kernels need {', '.join(sorted(others))}, which was not looked for "
        f"(`--limit DEVICE` does); the others run on {arch}."
    )
