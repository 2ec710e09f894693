"""Reads a .nb file into one value that describes it."""

import hashlib
from dataclasses import dataclass
from typing import Dict, Iterable, Optional, Tuple

from .consistency import inconsistency
from .header import HEADER_SIZE, VERSION_END, Bytes, Header, normalised_version, read_header
from .params import Params, read_params
from .program import Kernel, Program, Tensor, read_program

QUANTISED = frozenset(["int8", "int16"])
WIDTHS = {"float64": 8, "int64": 8, "float16": 2, "int16": 2, "int8": 1, "uint8": 1, "bool": 1}
MOST = 1 << 50  # elements of one tensor that an estimate counts at most
RUNTIME_BYTES = 24 << 20  # code and tables of the runtime itself, without Python


@dataclass(frozen=True)
class NbModel:
    """Description of a .nb file."""

    meta_version: int
    opt_version: str  # "v2.13-rc"; "" or a commit hash when an untagged opt wrote it
    program_version: int  # of the PaddlePaddle that saved the source: 2003002 is 2.3.2; 0 when unknown
    kernels: Tuple[Kernel, ...]  # one for each operator that computes, in the order of the program
    ops: Dict[str, int]  # operator -> count
    inputs: Tuple[Tensor, ...]  # in the order of the feeds
    outputs: Tuple[Tensor, ...]
    parameter_count: int
    parameter_bytes: int
    parameters_walked: (
        bool  # False for meta version 1: the count is then the program's, the bytes are all that follow it
    )
    weight_dtypes: Dict[str, int]  # type -> count of parameters; "int8" and "int16" are opt's weight quantisation
    complete: bool
    damage: str  # why it is not complete, "" otherwise
    size: int  # bytes
    sha256: str
    normalised_sha256: str  # of the file with the header's unused bytes zeroed
    estimated_memory_bytes: int  # for loading and one run, with free dims as 1: a lower bound

    def kernels_by_target(self) -> Dict[str, int]:
        """Count of the kernels by target, the most frequent first."""
        return _counted(k.target for k in self.kernels)

    def kernels_by_precision(self) -> Dict[str, int]:
        """Count of the kernels by precision, the most frequent first."""
        return _counted(k.precision for k in self.kernels)

    def kernels_by_layout(self) -> Dict[str, int]:
        """Count of the kernels by data layout, the most frequent first."""
        return _counted(k.layout for k in self.kernels)

    @property
    def quantised_weights(self) -> int:
        """Count of the parameters whose weights opt quantised."""
        return sum(count for dtype, count in self.weight_dtypes.items() if dtype in QUANTISED)


def read_nb(data: Bytes, hashes: Optional[Tuple[str, str]] = None) -> NbModel:
    """Describe a .nb file from its bytes; `hashes` are its SHA-256 and its normalised form's where they are known.

    A file whose parameters are damaged or cut off is described with `complete=False`.
    Raises NbError, the only exception for any bytes, when it cannot be described at all.
    """
    view = memoryview(data)
    header = read_header(view)
    program = read_program(view[HEADER_SIZE : HEADER_SIZE + header.topology_size])
    rest = view[HEADER_SIZE + header.topology_size :]
    if header.meta_version == 1:
        params = Params((), "" if len(rest) else "the file ends before its parameters begin")
    else:
        params = read_params(rest)
    damage = inconsistency(view[HEADER_SIZE : HEADER_SIZE + header.topology_size])
    return _model(view, header, program, params, len(rest), damage, hashes or _hashes(view))


def _model(
    view: memoryview,
    header: Header,
    program: Program,
    params: Params,
    rest: int,
    damage: str,
    hashes: Tuple[str, str],
) -> NbModel:
    walked = header.meta_version != 1
    damage = params.damage or _missing(program, params, walked) or damage
    sha256, normalised = hashes
    return NbModel(
        meta_version=header.meta_version,
        opt_version=header.opt_version,
        program_version=program.version,
        kernels=program.kernels,
        ops=program.ops,
        inputs=program.inputs,
        outputs=program.outputs,
        parameter_count=len(params.items) if walked else len(program.persistables),
        parameter_bytes=params.size if walked else rest,
        parameters_walked=walked,
        weight_dtypes=params.dtypes,
        complete=not damage,
        damage=damage,
        size=len(view),
        sha256=sha256,
        normalised_sha256=normalised,
        estimated_memory_bytes=_memory(len(view), program, params),
    )


def _missing(program: Program, params: Params, walked: bool) -> str:
    """Describe which of the program's parameters the file lacks, "" when it has them all."""
    if not walked:
        return ""
    missing = sorted(set(program.persistables) - {p.name for p in params.items})
    if not missing:
        return ""
    return "%d of the program's %d parameters are absent, %r first" % (
        len(missing),
        len(program.persistables),
        missing[0][:80],
    )


def _hashes(view: memoryview) -> Tuple[str, str]:
    """Return the SHA-256 of the bytes and of their normalised form, without copying them."""
    sha256 = hashlib.sha256(view).hexdigest()
    head = normalised_version(view)
    if head == bytes(view[:VERSION_END]):
        return sha256, sha256
    normalised = hashlib.sha256(head)
    normalised.update(view[VERSION_END:])
    return sha256, normalised.hexdigest()


def _memory(size: int, program: Program, params: Params) -> int:
    """Estimate bytes of memory: file buffer, weights as fp32 (quantisation is undone at load), activations, runtime."""
    weights = sum(p.size * (4 // WIDTHS[p.dtype] if p.dtype in QUANTISED else 1) for p in params.items)
    activations = 0
    for tensor in program.activations:
        elements = 1
        for dim in tensor.dims:
            elements = min(elements * max(dim, 1), MOST)
        activations += elements * WIDTHS.get(tensor.dtype, 4)
    return RUNTIME_BYTES + size + weights + activations


def _counted(names: Iterable[str]) -> Dict[str, int]:
    counts: Dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))
