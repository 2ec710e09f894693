"""Golden cases: inputs with the outputs of an isolated reference engine, or the user's own files."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from litefleet_agent import ARCHIVE_ROOT
from litefleet_agent.sandbox import Policy
from litefleet_agent.sandbox.launch import command

from ...common.errors import EngineError, FindingError, LitefleetError, ToolchainError, UsageError
from ...common.files import locked, sha256_of, write_atomically
from ...common.lazy import numpy as np
from ...common.subprocesses import SubprocessEnd, run_subprocess
from ...config.choices import GoldenSpec
from .files import Array, Tensor, canonical_npz, check_cases, merged, read_npz
from .inputs import draw_inputs, plan_inputs
from .made import note_of, read_note, write_note
from .own_inputs import check_inputs, read_inputs

__all__ = [
    "GoldenSpec",
    "Interpreter",
    "ReferenceToolchains",
    "inputs_of",
    "make_golden",
    "run_reference",
]

_ENGINES = Path(__file__).parent / "engines"
# Bytes that an engine may take in memory, besides multiples of its model, and write to a file
_DATA, _FILE = (4 << 30, 1 << 30)
_NOISE = 2  # cases
_RECIPE = 2  # raise it when inputs or outputs are made in another way


class Interpreter(Protocol):
    """An isolated environment's Python."""

    @property
    def python(self) -> Path: ...  # noqa: D102


class ReferenceToolchains(Protocol):
    """Source of the reference engines' environments."""

    async def paddle(self) -> Interpreter: ...  # noqa: D102
    async def paddle_version(self) -> str: ...  # noqa: D102
    async def lite(self, version: str, /) -> Interpreter: ...  # noqa: D102


@dataclass(frozen=True)
class _Unstated:
    """An output whose name the program does not declare."""

    name: str
    dtype: str = ""
    dims: tuple[int, ...] = ()


async def make_golden(
    source_program: Path,
    source_params: Path,
    inputs: Sequence[Tensor],
    spec: GoldenSpec,
    toolchains: ReferenceToolchains,
    store: Path,
    *,
    outputs: Sequence[Tensor] = (),
    nb: Path | None = None,
    time_limit_s: float = 300,
    model: str = "MODEL",
    vocabularies: Mapping[str, int] | None = None,
) -> tuple[Path, ...]:
    """Return one .npz per case in `store`, made now or earlier; `nb` is the x86 file that the engine "paddlelite" runs.

    `vocabularies` is what `plan_inputs` takes.

    Raises: FindingError LF412 (a golden that does not fit), ConfigError (a free dim without a number), UsageError (inputs
    that cannot be used), LitefleetError (the engine failed).
    """
    if spec.engine == "files":
        return _adopt(spec.files, inputs, outputs, store)
    if spec.cases < 2:
        raise UsageError(f"golden: cases is {spec.cases}; at least 2 different inputs are needed.")
    if spec.engine == "paddlelite" and nb is None:
        raise UsageError("golden: the engine paddlelite needs the model's x86 .nb; convert for x86_64 first.")
    sources = (nb,) if spec.engine == "paddlelite" and nb is not None else (source_program, source_params)
    version = await toolchains.paddle_version() if spec.engine == "paddle" else spec.paddlelite
    note = note_of(store, _RECIPE, sources, inputs, spec, version, vocabularies)
    if note is not None and (found := read_note(note, spec.cases)):
        return found
    given = inputs_of(inputs, outputs, spec, model, vocabularies)
    key = _key(sources, given, spec.engine, version)
    paths = tuple(store / f"{key}-{case}.npz" for case in range(len(given)))
    async with locked(store / f"{key}.lock"):
        if not all(_is_readable(path) for path in paths):
            await _make(sources, inputs, outputs, given, spec, toolchains, paths, time_limit_s)
        if note is not None:
            write_note(note, paths)
    return paths


def inputs_of(
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    spec: GoldenSpec,
    model: str,
    vocabularies: Mapping[str, int] | None = None,
) -> list[dict[str, Array]]:
    """Return the inputs of each case: those of the files that `golden.inputs` names, else drawn ones.

    Raises: ConfigError and LitefleetError as `plan_inputs` does, UsageError for a file that does not fit the model.
    """
    if spec.own:
        named = read_inputs(spec.own, inputs, outputs, spec.preprocess, model, spec.inputs, vocabularies)
        for name, arrays in named:
            check_inputs(name, arrays, inputs, model)
        return [arrays for _, arrays in named]
    plan = plan_inputs(inputs, spec.inputs, model, vocabularies)
    # The first two cases are noise; further ones, made where those cannot tell enough, show something.
    return [draw_inputs(plan, spec.seed + case, patches=case >= _NOISE) for case in range(spec.cases)]


def _is_readable(path: Path) -> bool:
    """Whether a golden made earlier exists and is undamaged; the archive holds a CRC-32 of each array."""
    try:
        read_npz(path)
    except FindingError:
        return False
    return True


def _key(sources: Sequence[Path], given: Sequence[Mapping[str, Array]], engine: str, version: str) -> str:
    """Return the cache key, over everything that changes a golden's bytes.  Raises: UsageError for a missing source."""
    try:
        hashes = [sha256_of(path) for path in sources]
    except OSError as error:
        raise UsageError(f"the model cannot be read: {error}") from error
    cases = [hashlib.sha256(canonical_npz(arrays)).hexdigest() for arrays in given]
    facts = json.dumps([_RECIPE, engine, version, hashes, cases])
    return hashlib.sha256(facts.encode()).hexdigest()[:32]


async def _make(
    sources: Sequence[Path],
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    given: Sequence[Mapping[str, Array]],
    spec: GoldenSpec,
    toolchains: ReferenceToolchains,
    paths: Sequence[Path],
    time_limit_s: float,
) -> None:
    """Run the engine on all cases, check its outputs and write the files."""
    lite = spec.paddlelite if spec.engine == "paddlelite" else ""
    name, answers = await run_reference(sources, given, toolchains, lite, time_limit_s)
    goldens = [(f"{name}, case {i}", merged(name, *pair)) for i, pair in enumerate(zip(given, answers, strict=True))]
    # The engine may use other output names than the program; their values are checked anyway.
    named = {t.name: t for t in outputs}
    known = [named.get(n) or _Unstated(n) for n in sorted(answers[0])]
    check_cases(goldens, inputs, known)
    for path, (_, arrays) in zip(paths, goldens, strict=True):
        write_atomically(path, canonical_npz(arrays))


async def run_reference(
    sources: Sequence[Path],
    given: Sequence[Mapping[str, Array]],
    toolchains: ReferenceToolchains,
    paddlelite: str = "",
    time_limit_s: float = 300,
    params: Sequence[Path] = (),
) -> tuple[str, list[dict[str, Array]]]:
    """Return (the engine's name and version, each case's outputs by the engine's own names).

    PaddlePaddle runs `sources` = (program, parameters); with `paddlelite`, that version of Paddle-Lite runs (x86 .nb,).
    `params` names other parameters for each case of PaddlePaddle, of the same program.

    Raises: EngineError when the engine crashed, failed or did not end in time; ToolchainError when it cannot be started.
    """
    if paddlelite:
        interpreter, script = await toolchains.lite(paddlelite), "lite_reference.py"
        name, request = f"Paddle-Lite {paddlelite}", {"nb": str(sources[0].resolve())}
    else:
        interpreter, script = await toolchains.paddle(), "paddle_reference.py"
        name = f"PaddlePaddle {await toolchains.paddle_version()}"
        request = {"program": str(sources[0].resolve()), "params": str(sources[1].resolve())}
    with tempfile.TemporaryDirectory(prefix="litefleet-golden-") as folder:
        return name, await _run_engine(name, interpreter, script, request, given, Path(folder), time_limit_s, params)


async def _run_engine(
    name: str,
    interpreter: Interpreter,
    script: str,
    request: Mapping[str, object],
    given: Sequence[Mapping[str, Array]],
    folder: Path,
    time_limit_s: float,
    params: Sequence[Path] = (),
) -> list[dict[str, Array]]:
    """Return each case's outputs.  Raises: as `run_reference`."""
    cases: list[dict[str, str]] = []
    written: dict[int, Path] = {}
    for i, arrays in enumerate(given):
        if id(arrays) not in written:  # damaged weights get the same inputs many times
            written[id(arrays)] = folder / f"in{i}.npz"
            written[id(arrays)].write_bytes(canonical_npz(arrays))
        cases.append({"inputs": str(written[id(arrays)]), "outputs": str(folder / f"out{i}.npz")})
    for case, path in zip(cases, params, strict=False):
        case["params"] = str(path)
    (folder / "request.json").write_text(json.dumps({**request, "cases": cases}), encoding="utf-8")
    reads = tuple(dict.fromkeys([*map(str, request.values()), *map(str, params)]))
    size = sum(Path(path).stat().st_size for path in reads if Path(path).is_file())
    reads = (*reads, ARCHIVE_ROOT)  # the agent's engines
    policy = Policy(work=str(folder), reads=reads, data_bytes=_DATA + 8 * size, file_bytes=_FILE)
    argv = command(str(interpreter.python), policy, str(_ENGINES / script), [str(folder / "request.json")])
    # One thread, no log; the user's settings for these must not reach the reference.  PaddlePaddle makes ~/.cache/paddle when
    # it is imported, which the confinement forbids in the user's own home.
    settings = {"OMP_NUM_THREADS": "1", "GLOG_minloglevel": "2", "FLAGS_use_mkldnn": "0", "HOME": str(folder)}
    try:
        ended = await run_subprocess(argv, time_limit_s=time_limit_s, env={**os.environ, **settings})
    except LitefleetError as error:
        raise ToolchainError(f"{name} cannot be started ({error}); remove its environment and run again.") from error
    if not ended.ok:
        raise _failure(name, ended, time_limit_s)
    answers = [read_npz(folder / f"out{i}.npz") for i in range(len(given))]
    # Paddle-Lite has no tensor without dimensions: its answer is a row of one number.
    return [{output: np.atleast_1d(value) for output, value in arrays.items()} for arrays in answers]


def _failure(name: str, ended: SubprocessEnd, time_limit_s: float) -> LitefleetError:
    """Return the error for an engine that failed."""
    last_output = ended.last_lines()
    if ended.timed_out:
        return EngineError(f"{name} did not finish within {time_limit_s:g} s; use smaller `inputs:` or fewer `cases:`.")
    if "ModuleNotFoundError" in last_output or "ImportError" in last_output:
        return ToolchainError(f"{name}'s environment is incomplete ({last_output}); remove it and run again.")
    return EngineError(
        f"{name} could not run the model ({ended.ending}), so there is no reference to compare with. "
        f"Its output: {last_output or 'none'}. "
        "Check the source model and `inputs:`, or give golden files (`golden: {files: [a.npz, b.npz]}`)."
    )


def _adopt(files: Sequence[Path], inputs: Sequence[Tensor], outputs: Sequence[Tensor], store: Path) -> tuple[Path, ...]:
    """Check the user's golden files and copy them into `store`, named by their content."""
    given = {tensor.name for tensor in inputs}
    read = [(str(path), read_npz(path)) for path in files]
    cases = [(path, {n: a if n in given else np.atleast_1d(a) for n, a in arrays.items()}) for path, arrays in read]
    check_cases(cases, inputs, outputs)
    kept = []
    for _, arrays in cases:
        data = canonical_npz(arrays)
        path = store / f"{hashlib.sha256(data).hexdigest()[:32]}.npz"
        if not path.exists() or path.read_bytes() != data:
            write_atomically(path, data)
        kept.append(path)
    return tuple(kept)
