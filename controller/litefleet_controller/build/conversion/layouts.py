"""Finds the files of a source model: the layouts in which PaddlePaddle saved models, under any names.

A program with its combined parameters (`inference.pdmodel` and `.pdiparams`, `__model__` and `__params__`, any two names), a
program with one file per parameter beside it (`__model__`), and a program without parameters.
"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ...common.errors import FindingError
from ...inspection.foreign import other_file
from .params import Params, ParamsError, read_tensors
from .program import Program, read_program
from .protobuf import WireError

_MOST_FILES = 200  # of a folder, checked for a model
_MOST_PROGRAM = 256 << 20  # bytes of a program
_PAIRS = (("inference.pdmodel", "inference.pdiparams"), ("__model__", "__params__"), ("model", "params"))
_NO_MODEL = frozenset({".info", ".yml", ".yaml", ".json", ".txt", ".md", ".nb", ".py", ".npz", ".npy", ".png", ".jpg"})
ENCRYPTED = (
    "its bytes look random, as an encrypted file's do. The converter reads no encrypted model: decrypt it first."
)
_LEAST_RANDOM = 512  # bytes from which on encryption shows


class SourceFiles(NamedTuple):
    """A source model's files; `params` is the combined file, or the folder that holds one file per parameter."""

    program: Path
    params: Path


def is_pir(data: bytes) -> bool:
    """Recognise PaddlePaddle 3's JSON: `{"base_code": {"magic": "pir", ...`."""
    head = data[:4096].lstrip()
    return head.startswith(b"{") and b'"pir"' in head


def looks_random(data: bytes) -> bool:
    """Whether a file's bytes are spread as evenly as only encryption (or compression) spreads them."""
    sample = data[:65536]
    if len(sample) < _LEAST_RANDOM:
        return False
    counts = Counter(sample).values()
    entropy = -sum(n / len(sample) * math.log2(n / len(sample)) for n in counts)
    return entropy > 8 - 255 / (2 * math.log(2) * len(sample)) - 0.1  # the mean for random bytes, less a margin


def find_source(path: Path) -> SourceFiles:
    """Return the files of the model in a folder, or of a program file.

    Raises: FindingError with LF201 when one of them is missing, LF202 for a PIR model, LF210 or LF207 for other formats.
    """
    if path.is_dir():
        return _in_folder(path)
    if not path.is_file():
        raise FindingError.of("LF201", f"{path} does not exist.")
    if path.suffix == ".json" and is_pir(_head(path)):
        raise FindingError.of("LF202", f"{path} is PaddlePaddle 3's PIR format (JSON).")
    _reject_foreign(path)
    beside = dict(_PAIRS).get(path.name)
    return _with_params(path, path.with_name(beside) if beside else path.with_suffix(".pdiparams"))


def _in_folder(folder: Path) -> SourceFiles:
    for program, params in _PAIRS:
        if (folder / program).is_file():
            return _with_params(folder / program, folder / params)
    programs = sorted(folder.glob("*.pdmodel"))
    if len(programs) == 1:
        return _with_params(programs[0], programs[0].with_suffix(".pdiparams"))
    if programs:
        names = ", ".join(p.name for p in programs)
        raise FindingError.of("LF201", f"{folder} holds several models ({names}): name one of the files.")
    return _under_any_names(folder)


def _with_params(program: Path, params: Path) -> SourceFiles:
    """Return the files of a known program: its parameters are in `params`, in another file, or in one file each."""
    if params.is_file():
        return SourceFiles(program, params)
    read = _program_in(program)
    if read is None:
        if looks_random(_head(program)):
            raise FindingError.of("LF207", f"{program} is not a PaddlePaddle program: {ENCRYPTED}")
        raise FindingError.of("LF201", f"The parameters file {params} does not exist.")
    if all((program.parent / name).is_file() for name in _names(read)):
        return SourceFiles(program, program.parent)
    others = [path for path in _files(program.parent) if path != program and _holds(path, read)]
    if len(others) == 1:
        return SourceFiles(program, others[0])
    missing = [name for name in _names(read) if not (program.parent / name).is_file()]
    if len(missing) < len(read.parameters):
        raise FindingError.of(
            "LF201",
            f"{len(missing)} of the model's {len(read.parameters)} parameters have no file in {program.parent}; the first "
            f"is {missing[0]!r}.",
        )
    raise FindingError.of("LF201", f"The parameters file {params} does not exist.")


def _under_any_names(folder: Path) -> SourceFiles:
    """Return the one program in a folder whose files have other names, found by content."""
    files = _files(folder)
    programs = {path: read for path in files if (read := _program_in(path)) is not None}
    if len(programs) == 1:
        (program, read) = next(iter(programs.items()))
        others = [path for path in files if path != program and _holds(path, read)]
        return SourceFiles(program, others[0]) if len(others) == 1 else _with_params(program, folder / "params")
    if programs:
        names = ", ".join(path.name for path in programs)
        raise FindingError.of("LF201", f"{folder} holds several models ({names}): name one of the files.")
    if any(is_pir(_head(path)) for path in sorted(folder.glob("*.json"))):
        raise FindingError.of("LF202", f"{folder} holds PaddlePaddle 3's PIR format (JSON) only, and no .pdmodel.")
    for path in sorted(p for p in folder.iterdir() if p.is_file())[:_MOST_FILES]:
        _reject_foreign(path)
    raise FindingError.of("LF201", f"{folder} holds no PaddlePaddle model (inference.pdmodel).")


def _files(folder: Path) -> list[Path]:
    """Return the files of a folder that may belong to a model."""
    found = sorted(p for p in folder.iterdir() if p.is_file() and p.suffix.lower() not in _NO_MODEL)
    return found[:_MOST_FILES]


def _program_in(path: Path) -> Program | None:
    """Return the program in a file, None where it holds none."""
    try:
        if path.stat().st_size > _MOST_PROGRAM:
            return None
        read = read_program(path.read_bytes())
    except (OSError, WireError):
        return None
    return read if read.inputs or read.outputs else None


def _holds(path: Path, program: Program) -> bool:
    """Whether a file holds as many saved tensors as a program has parameters, and nothing else."""
    try:
        with Params((path,)).reader() as reader:
            return sum(1 for _ in read_tensors(reader)) == len(program.parameters) > 0
    except (FindingError, ParamsError):
        return False


def _names(program: Program) -> list[str]:
    """Return the file names of a program's parameters, in the order of a combined file; LF201 for one outside its folder."""
    names = [parameter.name for parameter in program.parameters]
    for name in names:
        parts = PurePosixPath(name).parts
        if not parts or parts[0] == "/" or ".." in parts or "\x00" in name:
            raise FindingError.of(
                "LF201", f"A parameter has the name {name[:80]!r}, which is no file in the model's folder."
            )
    return names


def read_files(files: SourceFiles) -> tuple[bytes, Params]:
    """Return the program's bytes and its parameters; a combined file is the single ones in the order of their names.

    Raises: FindingError LF201 for a file that cannot be read.
    """
    program = _read(files.program)
    if not files.params.is_dir():
        return program, Params((files.params,))
    try:
        names = _names(read_program(program))
    except WireError:
        names = []  # the program's own check says what is wrong
    return program, Params(tuple(files.params / name for name in names))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FindingError.of("LF201", f"{path} cannot be read: {error.strerror}.") from error


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(4096)
    except OSError:
        return b""


def _reject_foreign(path: Path) -> None:
    """Raise LF210 for another framework's model, LF207 for training files and for what is no source model at all."""
    found = other_file(_head(path), path.name, str(path), is_source=True)
    if found is not None:
        raise FindingError([found])
