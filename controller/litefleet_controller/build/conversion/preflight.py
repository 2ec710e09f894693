"""Checks a source model before conversion: its format, whether it is complete, whether its two files belong together."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from litefleet_agent.findings import Certainty, Finding, finding
from litefleet_agent.releases.atomic import write_atomic

from ...common.errors import FindingError
from ...common.files import sha256_of, write_atomically
from ...inspection.foreign import other_file
from ...inspection.model import version_text
from .forms import ZERO_D, forms_of
from .layouts import ENCRYPTED, SourceFiles, find_source, is_pir, looks_random, read_files
from .params import Params, ParamsError, ParamsReader, read_tensors
from .program import Program, TensorSpec, read_program
from .protobuf import WireError
from .vocabularies import vocabularies

__all__ = ["Source", "SourceFacts", "TensorSpec", "check_source", "find_source", "load_source"]

# Paddle-Lite version -> the PaddlePaddle release that was current when it came out.  No document states which ones a
# converter accepts: a newer one alone is a hint; forms.py lists what is known to fail.
_CURRENT = {"2.10": (2, 2), "2.11": (2, 3), "2.12": (2, 4), "2.13": (2, 5)}
_FP16_MOST = 65504.0  # the largest finite number of IEEE 754 binary16
# Operators whose integer weights are saved as such and declared as floats: exports of post-training quantisation and of
# quantisation-aware training, with onnx_format=True and without.
_DEQUANTISE = frozenset({"dequantize_linear", "fake_dequantize_max_abs", "fake_channel_wise_dequantize_max_abs"})
_TRAINING = re.compile(r"\w+_grad2?|adam\w{0,3}|momentum|sgd|rmsprop|adagrad|adadelta|lamb|lars_momentum|ftrl|dpsgd")


@dataclass(frozen=True)
class SourceFacts:
    """The description of a source model; `inputs` in feed order, `outputs` in fetch order."""

    paddle_version: str  # "2.3.2"; "" for a development build, which records none
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    parameters: int
    ops: dict[str, int]
    sha256: str  # of program and parameters together
    findings: tuple[Finding, ...] = ()  # warnings; LF213 is an error
    forms: dict[str, int] = field(default_factory=dict)  # counts by `forms_of`
    beyond_fp16: tuple[tuple[str, float], ...] = ()  # weights too large for fp16, with their largest magnitude
    size: int = 0  # bytes of program and parameters
    vocabularies: Mapping[str, int] = field(default_factory=dict)  # rows of the tables that inputs index, by input
    params_sha256: str = ""  # of the parameters


@dataclass(frozen=True)
class Source:
    """A checked source model: its program, and where its parameters are, which are hashed again whenever they are used."""

    program: bytes = field(repr=False)
    params: Params = field(repr=False)
    facts: SourceFacts
    name: str = "model"

    @property
    def sha256(self) -> str:
        """The SHA-256 over program and parameters."""
        return self.facts.sha256

    def pieces(self) -> Iterator[bytes]:
        """Yield the parameters in pieces.  Raises: FindingError LF201 when they are not those that were checked."""
        return self.params.pieces(self.facts.params_sha256)

    def write_pair(self, program: Path, params: Path) -> None:
        """Write the program and the combined parameters where they are not whole yet.  Raises: FindingError LF201; OSError."""
        if not program.exists() or program.read_bytes() != self.program:
            write_atomically(program, self.program)
        if not params.exists() or sha256_of(params) != self.facts.params_sha256:
            write_atomic(str(params), self.pieces(), mode=0o644)


def _checked_program(data: bytes) -> Program:
    if not data:
        raise FindingError.of("LF201", "The model's program file is empty.")
    if is_pir(data):
        raise FindingError.of("LF202", "The model file is PaddlePaddle 3's PIR format (JSON).")
    try:
        return read_program(data)
    except WireError as error:
        other = other_file(data[:4096], "", f"The model file ({len(data)} bytes)", is_source=True)
        if other is not None:
            raise FindingError([other]) from error
        if looks_random(data):
            raise FindingError.of("LF207", f"The model file is not a PaddlePaddle program: {ENCRYPTED}") from error
        raise FindingError.of(
            "LF207", f"The model file ({len(data)} bytes) is not a PaddlePaddle program: {error}."
        ) from error


def _fits(want: TensorSpec, dtype: str, dims: tuple[int, ...], quantised: frozenset[str]) -> bool:
    """Whether a saved tensor fits its declaration; PaddlePaddle versions add and drop dimensions of 1.

    `quantised` names the weights that the program dequantises: saved as integers, and declared as floats.
    """
    if want.dtype != dtype and not (want.name in quantised and dtype in ("int8", "int16")):
        return False
    if -1 in want.dims:
        return len(want.dims) == len(dims) and all(w in (-1, d) for w, d in zip(want.dims, dims, strict=True))
    return [d for d in want.dims if d != 1] == [d for d in dims if d != 1]


def _check_params(program: Program, reader: ParamsReader) -> list[float]:
    """Return the largest magnitude of each parameter.  Raises: LF201/LF203 unless `reader` has the program's parameters alone."""
    if not reader.size and program.parameters:
        raise FindingError.of("LF201", "The model's parameters file is empty.")
    wanted = program.parameters
    quantised = frozenset(name for op in program.details if op.kind in _DEQUANTISE for name in op.inputs.get("X", ()))
    largest: list[float] = []
    try:
        for count, tensor in enumerate(read_tensors(reader, largest=True), 1):
            largest.append(tensor.largest)
            if count > len(wanted):
                continue
            want = wanted[count - 1]
            if not _fits(want, tensor.dtype, tensor.dims, quantised):
                raise FindingError.of(
                    "LF203",
                    f"Parameter {count} of {len(wanted)}, {want.name!r}, is {want.dtype} {list(want.dims)} in the "
                    f"program; the parameters file has {tensor.dtype} {list(tensor.dims)} there.",
                )
    except ParamsError as error:
        if not largest and looks_random(reader.head()):
            raise FindingError.of("LF203", f"The parameters file is not one of PaddlePaddle: {ENCRYPTED}") from error
        raise FindingError.of(
            "LF203", f"The parameters file is not whole, or is something else: after {len(largest)} tensors, {error}."
        ) from error
    if len(largest) != len(wanted):
        raise FindingError.of(
            "LF203", f"The program needs {len(wanted)} parameters; the parameters file holds {len(largest)}."
        )
    return largest


def _quantised_leftovers(program: Program) -> list[Finding]:
    """Return LF208 for observers that quantisation-aware training left in the export: Paddle-Lite has no kernels for them."""
    left = {op: n for op, n in program.ops.items() if "moving_average_abs_max_scale" in op}
    if not left:
        return []
    leftovers = ", ".join(f"{n} x {op}" for op, n in left.items())
    return [finding("LF208", f"The exported program still holds training-time quantisation operators: {leftovers}.")]


def _refuse_training(program: Program) -> None:
    """Raise LF212 for gradients and optimizers: Paddle-Lite has no kernels for them, on any target."""
    left = sorted(op for op in program.ops if _TRAINING.fullmatch(op))
    if left:
        more = f" and {len(left) - 6} more" if len(left) > 6 else ""
        raise FindingError.of("LF212", f"The program holds operators that train: {', '.join(left[:6])}{more}.")


def _known_aborts(program: Program) -> list[Finding]:
    """Return LF213 for forms at which every Paddle-Lite aborts in the first run; measured with 2.13rc0 and 2.12."""
    found = []
    scalars = forms_of(program).get(ZERO_D, 0)
    if scalars:
        found.append(
            f"{scalars} x {ZERO_D}: every Paddle-Lite aborts at the first run of such a model. PaddlePaddle 2.5 and later "
            "save if/else, LSTM, GRU and nonzero so; export with PaddlePaddle 2.4, or give the constants the shape [1]."
        )
    double = [tensor.name for tensor in program.inputs if tensor.dtype == "float64"]
    if double:
        found.append(
            f"The input {double[0]!r} is float64; the converter makes a float32 input of it, at which Paddle-Lite aborts. "
            "Export with a float32 input, and use float32 inside the model too."
        )
    return [finding("LF213", observed) for observed in found]


def check_source(program: bytes, params: bytes | ParamsReader) -> SourceFacts:
    """Check a program and its parameters, and return their description.

    A form at which every Paddle-Lite aborts (LF213) is in the description's findings: such a model converts.

    Raises: FindingError with LF201 (empty), LF202 (PIR), LF203 (foreign or damaged parameters), LF207 (no program) or
    LF212 (a program that trains).
    """
    read = _checked_program(program)
    _refuse_training(read)
    reader = ParamsReader.of(params) if isinstance(params, bytes) else params
    largest = _check_params(read, reader)
    if not read.inputs or not read.outputs:
        missing = "inputs (feed)" if not read.inputs else "outputs (fetch)"
        raise FindingError.of("LF207", f"The program has no {missing}: it was not saved for inference.")
    digest = hashlib.sha256(hashlib.sha256(program).digest() + bytes.fromhex(reader.sha256)).hexdigest()
    return SourceFacts(
        paddle_version=version_text(read.version),
        inputs=read.inputs,
        outputs=read.outputs,
        parameters=len(read.parameters),
        ops=dict(read.ops),
        sha256=digest,
        findings=(*_known_aborts(read), *_quantised_leftovers(read)),
        forms=forms_of(read),
        beyond_fp16=_beyond_fp16(read, largest),
        size=len(program) + reader.size,
        vocabularies=vocabularies(read),
        params_sha256=reader.sha256,
    )


def _beyond_fp16(program: Program, largest: Sequence[float]) -> tuple[tuple[str, float], ...]:
    """Return the weights beyond fp16's range, without those of batch norms, which the converter folds in fp32."""
    used = {n for op in program.details if op.kind != "batch_norm" for slot in op.inputs.values() for n in slot}
    return tuple(
        (spec.name, most)
        for spec, most in zip(program.parameters, largest, strict=True)
        if most > _FP16_MOST and spec.name in used
    )


def check_age(facts: SourceFacts, opt_version: str) -> list[Finding]:
    """Return LF204 (possible) when the model was saved by a newer PaddlePaddle than was current with this Paddle-Lite."""
    known = _CURRENT.get(opt_version.split("rc")[0])
    saved = tuple(int(part) for part in facts.paddle_version.split(".")[:2]) if facts.paddle_version else ()
    if known is None or not saved or saved <= known:
        return []
    return [
        finding(
            "LF204",
            f"The model was saved by PaddlePaddle {facts.paddle_version}; when Paddle-Lite {opt_version} came out, "
            f"{known[0]}.{known[1]} was current.",
            Certainty.POSSIBLE,
        )
    ]


def load_source(path: Path, params: Path | None = None) -> Source:
    """Read and check the source model in a folder, or of a program file with its parameters beside it or named.

    Raises: FindingError as `find_source` and `check_source` do; LF201 also for a file that cannot be read.
    """
    files = find_source(path) if params is None else SourceFiles(path, params)
    program, weights = read_files(files)
    return Source(program, weights, _facts(program, weights, weights.stamp), name=_name_of(path))


@lru_cache(maxsize=8)
def _facts(program: bytes, weights: Params, stamp: tuple[object, ...]) -> SourceFacts:
    """Return a model's description; a run asks for it when it checks its files, and when it builds releases.

    `stamp` changes with the parameters' files.  They are hashed again when they are used, so this decides nothing alone.
    """
    with weights.reader() as reader:
        return check_source(program, reader)


def _name_of(path: Path) -> str:
    resolved = path.resolve()
    return resolved.name if resolved.is_dir() else resolved.parent.name
