"""`litefleet inspect`: one .nb file described for people and for programs, and judged for one architecture."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from litefleet_agent.facts.arch import ARCHES, Arch, arch_of
from litefleet_agent.findings import Finding, finding
from litefleet_agent.findings.model_file import (
    accelerators,
    check_alone,
    check_file,
    cpu_features,
    deciding_kernels,
    verdict,
)
from litefleet_agent.formats.nb import Kernel, NbError, NbModel, Tensor, read_header, read_nb

from ..catalogue.articles import advice, title_of
from ..catalogue.language import in_lang
from ..catalogue.translate import tr, translated, translated_cell, translated_sentence
from ..catalogue.wrap import padded
from ..common.errors import UsageError
from ..common.text import sanitize
from .foreign import other_file

HEAD = 4096  # bytes


@dataclass(frozen=True)
class Inspection:
    """One inspected file: its description (None when it cannot be described) and its findings."""

    path: Path
    size: int  # bytes
    arch: Arch | None
    model: NbModel | None
    findings: tuple[Finding, ...]
    deciding: tuple[tuple[Kernel, int], ...] = ()  # kernels that `arch` cannot run, with their counts

    @property
    def verdict(self) -> str | None:
        """ "refused", "conditional" or "good"; None when no architecture was named and the file could be described.

        "good" states that nothing in the file rules out the architecture; "conditional" that the device must have
        what `needs` names as well.  Only a run on the device proves more.
        """
        if self.arch is None and self.model is not None:
            return None
        found = verdict(self.findings)
        return "conditional" if found == "good" and self.needs else found

    @property
    def needs(self) -> tuple[str, ...]:
        """What the kernels need beyond the architecture: "opencl", "metal", or a CPU feature such as "asimdhp"."""
        return tuple(sorted(accelerators(self.model) | cpu_features(self.model))) if self.model else ()

    @property
    def exit_code(self) -> int:
        """1 when the file is refused, else 0."""
        return 0 if verdict(self.findings) == "good" else 1

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form; the description's keys are null for a file that cannot be described."""
        described = _described(self.model) if self.model else dict.fromkeys(DESCRIBED)
        return {
            "file": str(self.path),
            "size": self.size,
            **described,
            "for": self.arch.name if self.arch else None,
            "verdict": self.verdict,
            "deciding": [{**kernel._asdict(), "count": count} for kernel, count in self.deciding],
            "findings": [f.to_dict() for f in self.findings],
        }

    def described(self) -> list[tuple[str, str]]:
        """Return the file's description as (label, text), sanitized for a terminal."""
        return _lines(self.model) if self.model else [("size", _bytes(self.size))]

    def to_text(self) -> str:
        """Return the description for an operator's terminal, without a final newline."""
        colon = in_lang(":", "：")
        lines = [str(self.path), *(_line(label, text) for label, text in self.described())]
        for found in self.findings:
            said = translated_sentence(found.observed)
            lines += ["", f"{tr(found.severity.value)} {found.code} {title_of(found.code)}: {said}"]
            why, do = advice(found.code)
            lines += [f"  {padded(tr('why') + colon, 4)} {why}", f"  {padded(tr('do') + colon, 4)} {do}"]
        if self.deciding:
            lines += ["", tr("kernels that decide it:")]
            lines += [f"  {n:5} {sanitize(k.op)} ({k.target}, {k.precision}, {k.layout})" for k, n in self.deciding]
        if self.verdict is not None:
            lines += ["", translated(self._conclusion())]
        return "\n".join(lines)

    def _conclusion(self) -> str:
        """Return the last line of the text: what the verdict claims, and no more."""
        if self.arch is None or self.verdict == "refused":
            return f"refused for {self.arch.name}" if self.arch else "refused"
        fine = f"nothing in the file rules out {self.arch.name}"
        if self.verdict == "good":
            return fine
        return f"needs {' and '.join(_NEEDS.get(name, name) for name in self.needs)} on the device; else {fine}"


_NEEDS = {"opencl": "OpenCL", "metal": "Metal", "asimdhp": "half precision (asimdhp)"}  # as people call them


DESCRIBED = (
    "meta_version",
    "opt_version",
    "program_version",
    "kernels",
    "accelerators",
    "cpu_features",
    "ops",
    "inputs",
    "outputs",
    "parameters",
    "complete",
    "sha256",
    "normalised_sha256",
    "estimated_memory_bytes",
)


def inspect_file(path: Path, for_arch: str | None = None) -> Inspection:
    """Read a .nb file and judge it for the architecture that `uname -m` calls `for_arch`.

    Raises: UsageError when the file cannot be read, or the architecture is not one that Paddle-Lite knows.
    """
    arch = arch_named(for_arch) if for_arch is not None else None
    data, size = _read(path)
    try:
        model = read_nb(data)
    except NbError as error:
        other = None if error.finding_code == "LF105" else other_file(data[:HEAD], path.name)
        return Inspection(path, size, arch, None, (other or finding(error.finding_code, str(error)),))
    findings = check_file(model, arch) if arch else check_alone(model)
    deciding = deciding_kernels(model, arch) if arch else ()
    return Inspection(path, size, arch, model, tuple(findings), deciding)


def arch_named(name: str) -> Arch:
    """Return the architecture that `uname -m` calls `name`.  Raises: UsageError when Paddle-Lite does not know it."""
    arch = arch_of(name)
    if arch is None:
        raise UsageError(
            f"Paddle-Lite has no CPU backend for the architecture {name!r}; "
            f"name one of {', '.join(ARCHES)} (what `uname -m` says on the device)."
        )
    return arch


def _read(path: Path) -> tuple[bytes, int]:
    """Return the file's bytes and size; only its first bytes when they show that it is not a .nb."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            kind = "a folder" if stat.S_ISDIR(mode) else "not an ordinary file"
            raise UsageError(f"{path} is {kind}; name the .nb file itself.")
        with path.open("rb") as stream:
            head = stream.read(HEAD)
            if len(head) == HEAD and not _promising(head):
                return head, path.stat().st_size
            stream.seek(0)
            data = stream.read()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}. Check path and permissions.") from error
    return data, len(data)


def _promising(head: bytes) -> bool:
    """Whether the first bytes can be a .nb's; its table of contents may be longer than they are (LF105)."""
    try:
        read_header(head)
    except NbError as error:
        return error.finding_code == "LF105"
    return True


def _described(model: NbModel) -> dict[str, object]:
    return {
        "meta_version": model.meta_version,
        "opt_version": model.opt_version,
        "program_version": model.program_version,
        "kernels": {
            "total": len(model.kernels),
            "by_target": model.kernels_by_target(),
            "by_precision": model.kernels_by_precision(),
            "by_layout": model.kernels_by_layout(),
        },
        "accelerators": sorted(accelerators(model)),
        "cpu_features": sorted(cpu_features(model)),
        "ops": dict(sorted(model.ops.items())),
        "inputs": [_tensor(t) for t in model.inputs],
        "outputs": [_tensor(t) for t in model.outputs],
        "parameters": {
            "count": model.parameter_count,
            "bytes": model.parameter_bytes,
            "walked": model.parameters_walked,
            "dtypes": model.weight_dtypes,
        },
        "complete": model.complete,
        "sha256": model.sha256,
        "normalised_sha256": model.normalised_sha256,
        "estimated_memory_bytes": model.estimated_memory_bytes,
    }


def _tensor(tensor: Tensor) -> dict[str, object]:
    return {"name": tensor.name, "dtype": tensor.dtype, "dims": list(tensor.dims)}


def _lines(model: NbModel) -> list[tuple[str, str]]:
    """Return the description as (label, text)."""
    ops = sorted(model.ops.items(), key=lambda pair: (-pair[1], pair[0]))
    params = f"{model.parameter_count}, {_bytes(model.parameter_bytes)} ({_counts(model.weight_dtypes)})"
    if not model.parameters_walked:
        params = f"{model.parameter_count}, {_bytes(model.parameter_bytes)} (layout version 1, not read)"
    whole = "yes" if model.complete else f"no: {model.damage}"
    if model.complete and not model.parameters_walked:
        whole = "as far as layout version 1 can be checked"
    needs = sorted(accelerators(model) | cpu_features(model))
    return [
        ("layout version", str(model.meta_version)),
        ("opt version", model.opt_version or "unknown (an untagged build)"),
        ("PaddlePaddle", version_text(model.program_version) or "unknown"),
        ("kernels", f"{len(model.kernels)}: {_counts(model.kernels_by_target())}"),
        ("precision", _counts(model.kernels_by_precision())),
        ("layout", _counts(model.kernels_by_layout())),
        *([("needs", ", ".join(needs))] if needs else []),
        ("operators", _counts(dict(ops))),
        *(("input", described_shape(t.name, t.dtype, t.dims)) for t in model.inputs),
        *(("output", described_shape(t.name, t.dtype, t.dims)) for t in model.outputs),
        ("parameters", params),
        ("whole", whole),
        ("size", _bytes(model.size)),
        ("memory", f"at least {_bytes(model.estimated_memory_bytes)} to load and run once"),
        ("SHA-256", model.sha256),
        ("normalised", model.normalised_sha256),
    ]


def _line(label: str, text: str) -> str:
    return f"  {padded(translated_cell(label), 15)} {translated_cell(text)}"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {sanitize(name)}" for name, count in counts.items()) or "none"


def described_shape(name: str, dtype: str, dims: Sequence[int]) -> str:
    """Return a tensor as one line, "?" for a free dim."""
    shape = " x ".join("?" if d < 0 else str(d) for d in dims) or "dims not stated"
    return f"{sanitize(name)} {dtype} {shape}"


def version_text(version: int) -> str:
    """Return PaddlePaddle's version for the number that it writes: "2.3.2" for 2003002, "" for 0."""
    if version <= 0:
        return ""
    return f"{version // 1_000_000}.{version // 1000 % 1000}.{version % 1000}"


def _bytes(count: int) -> str:
    if count < 100 << 10:
        return f"{count:,} bytes"
    return f"{count:,} bytes ({count / 2**20:.1f} MiB)"
