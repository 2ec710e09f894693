"""Goldens that can tell: makes cases, measures their power with damaged weights, and makes more cases while that helps."""

from __future__ import annotations

import asyncio
import hashlib
import json
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from litefleet_agent.findings import Finding, finding
from litefleet_agent.verification.comparison import ComparisonSpec

from ...common.checked import mapping_or_empty, sequence_or_empty
from ...common.errors import FindingError, LitefleetError
from ...common.files import write_atomically
from ..conversion.params import ParamsError
from ..conversion.program import Program
from .files import Array, read_npz
from .make import ReferenceToolchains, run_reference
from .perturb import classes_to_swap, find_head, perturbations
from .power import Answers, Damaged, GoldenPower, measure_power

_RECIPE = 2  # raise it when power is measured in another way
_MOST_CASES = 8  # made by doubling
_MOST_OUTPUTS = 50  # whose power a release keeps
# Bytes of all damaged parameter files together; larger models are judged by their answers alone
_MOST_DAMAGED = 2 << 30
# Power is judged at fp32, whatever precision the .nb has: a golden is of the source model and shared by all of its
# files, and at int8's limits random inputs hardly ever prove a classifier.
_PRECISION = "fp32"

MakeCases = Callable[[int], Awaitable[tuple[Path, ...]]]


@dataclass(frozen=True)
class Reference:
    """The source model that PaddlePaddle runs again with damaged weights."""

    program_path: Path
    params_path: Path
    program: Program
    toolchains: ReferenceToolchains
    time_limit_s: float = 300


@dataclass(frozen=True)
class JudgedGolden:
    """A golden's cases, one .npz each, and what its power is: `verdict` is "strong", "weak" or "refused"."""

    paths: tuple[Path, ...]
    verdict: str
    sentence: str
    power: Mapping[str, Any]  # as `GoldenPower.to_dict` gives it

    @property
    def record(self) -> Mapping[str, Any]:
        """What a release keeps of the power: verdict, sentence, and what was measured, of the first outputs."""
        measured = {**self.power, "outputs": list(sequence_or_empty(self.power.get("outputs")))[:_MOST_OUTPUTS]}
        return {**measured, "cases": len(self.paths), "verdict": self.verdict, "sentence": self.sentence}

    @property
    def findings(self) -> tuple[Finding, ...]:
        """LF425 for a golden that is not strong."""
        return () if self.verdict == "strong" else (finding("LF425", self.sentence),)


async def judged_golden(
    make: MakeCases,
    cases: int,
    specs: Mapping[str, ComparisonSpec],
    inputs: Sequence[str],
    reference: Reference | None,
    store: Path,
    *,
    more: bool = True,
    refuse: bool = True,
) -> JudgedGolden:
    """Return the golden of `cases` cases, or of up to 8 while more of them make it stronger.

    `make` returns the paths of that many cases, the first of them always the same; `specs` says how outputs are compared;
    `inputs` names the model's inputs.  Without a `reference` the answers alone are judged.  The result is kept in `store`.

    Raises: FindingError LF412 for a golden that cannot tell the model from constants, unless `refuse` is off.
    """
    first = await make(cases)
    record = store / f"{_key(first, specs, more, reference)}.power.json"
    known = await asyncio.to_thread(_kept, record)
    if known is not None:
        golden = await _from_record(make, known, first, cases)
    else:
        golden = await _strongest(make, first, specs, inputs, reference, more)
        written = {"cases": len(golden.paths), "verdict": golden.verdict, "sentence": golden.sentence}
        write_atomically(record, json.dumps({**written, "power": golden.power}).encode())
    if golden.verdict == "refused" and refuse:
        raise FindingError([finding("LF412", golden.sentence)])
    return golden


def findings_at(
    precision: str, paths: Sequence[Path], specs: Mapping[str, ComparisonSpec], inputs: Sequence[str]
) -> tuple[Finding, ...]:
    """Return LF425 where a golden that can tell at fp32 tells nothing at a file's lower precision, as one of pure noise does.

    `specs` and `inputs` as in `judged_golden`.  Raises: FindingError for a case that cannot be read.
    """
    power = measure_power([_without(read_npz(path), inputs) for path in paths], specs, precision)
    if power.verdict != "refused":
        return ()
    ways = ", ".join(f"{output.name}: {output.constant}" for output in power.outputs[:3] if output.constant)
    farthest = max(output.apart_max for output in power.outputs)
    observed = (
        f"At the limits of {precision} the golden cannot tell this model from constants ({ways}): the cases lie at most "
        f"{farthest:.3g} tolerances apart, as those of random inputs do. Give inputs from the field "
        "(`golden: {inputs: [a.png, b.npz]}`), or labelled data (`golden: {dataset: FOLDER, metric: top1}`)."
    )
    return (finding("LF425", observed),)


def _key(paths: Sequence[Path], specs: Mapping[str, ComparisonSpec], more: bool, reference: Reference | None) -> str:
    """Return a hash over what decides a golden's power; a case's file name is the hash of what made it."""
    described = {name: spec.to_dict() for name, spec in specs.items()}
    facts = [_RECIPE, [path.name for path in paths], described, more, reference is not None]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def _kept(path: Path) -> Mapping[str, Any] | None:
    """Return a record made earlier, None where there is none or it is damaged."""
    try:
        known = mapping_or_empty(json.loads(path.read_bytes()))
    except (OSError, ValueError):
        return None
    whole = isinstance(known.get("cases"), int) and known.get("verdict") in ("strong", "weak", "refused")
    return known if whole else None


async def _from_record(make: MakeCases, known: Mapping[str, Any], first: tuple[Path, ...], cases: int) -> JudgedGolden:
    paths = first if known["cases"] == len(first) else await make(max(cases, min(known["cases"], _MOST_CASES)))
    return JudgedGolden(paths, known["verdict"], str(known.get("sentence")), mapping_or_empty(known.get("power")))


async def _strongest(
    make: MakeCases,
    paths: tuple[Path, ...],
    specs: Mapping[str, ComparisonSpec],
    inputs: Sequence[str],
    reference: Reference | None,
    more: bool,
) -> JudgedGolden:
    """Return the fewest cases that reach the best verdict."""
    damage = _Damage(reference, inputs)
    best: tuple[int, JudgedGolden] | None = None
    while True:
        answers = [_without(read_npz(path), inputs) for path in paths]
        damaged = await damage.answers([read_npz(path) for path in paths])
        power = await asyncio.to_thread(measure_power, answers, specs, _PRECISION, damaged)
        rank = _rank(power)
        if best is None or rank > best[0]:
            best = rank, JudgedGolden(paths, power.verdict, power.sentence, power.to_dict())
        if not more or not power.more_cases_may_help or 2 * len(paths) > _MOST_CASES:
            return best[1]
        paths = await make(2 * len(paths))


def _rank(power: GoldenPower) -> int:
    """Return a number that grows with what a golden tells."""
    told = sum(one.counts and one.rejected for one in power.damages)
    told += sum(not one.constant for one in power.outputs) - sum(len(one.permuted) for one in power.outputs)
    return 1000 * ("refused", "weak", "strong").index(power.verdict) + told


def _without(arrays: Mapping[str, Array], inputs: Sequence[str]) -> Answers:
    return {name: value for name, value in arrays.items() if name not in inputs}


class _Damage:
    """What the reference answers with damaged weights; cases that were run once are not run again."""

    def __init__(self, reference: Reference | None, inputs: Sequence[str]) -> None:
        self._reference, self._inputs = reference, inputs
        self._done: dict[str, Damaged] = {}
        self._classes: tuple[int, int] | None = None
        self._head_of = ""

    async def answers(self, cases: Sequence[Mapping[str, Array]]) -> tuple[Damaged, ...]:
        """Return every damage with its answers for all cases; none where the reference cannot run them."""
        if self._reference is None:
            return ()
        known = len(next(iter(self._done.values())).answers) if self._done else 0
        try:
            await self._run(self._reference, cases, known)
        except (LitefleetError, ParamsError):  # damaged weights may be more than an engine can take
            return ()
        return tuple(self._done.values())

    async def _run(self, reference: Reference, cases: Sequence[Mapping[str, Array]], known: int) -> None:
        head = self._head(reference.program, cases)
        if 8 * reference.params_path.stat().st_size > _MOST_DAMAGED:
            return
        with tempfile.TemporaryDirectory(prefix="litefleet-damaged-") as folder:
            made = []
            for one in perturbations(reference.program, reference.params_path, head, self._classes or (0, 0)):
                path = Path(folder) / f"{one.name}.pdiparams"
                await asyncio.to_thread(one.write, path)
                made.append((one, path))
            given = [{n: case[n] for n in self._inputs if n in case} for case in cases[known:]]
            _, found = await run_reference(
                (reference.program_path, reference.params_path),
                given * len(made),
                reference.toolchains,
                time_limit_s=reference.time_limit_s,
                params=[path for _, path in made for _ in given],
            )
        for place, (one, _) in enumerate(made):
            before = self._done[one.name].answers if one.name in self._done else ()
            new = tuple(found[place * len(given) : (place + 1) * len(given)])
            self._done[one.name] = Damaged(one.name, one.sentence, one.harmless, (*before, *new))

    def _head(self, program: Program, cases: Sequence[Mapping[str, Array]]) -> Any:
        """Return the head whose classes are swapped; which ones the first cases' answers decide."""
        for output in program.outputs:
            head = find_head(program, output.name)
            if head is None or (self._head_of and output.name != self._head_of):
                continue
            answers = [case[output.name] for case in cases if output.name in case]
            self._classes = self._classes or classes_to_swap(answers, head.classes)
            if self._classes is not None:
                self._head_of = output.name
                return head
        return None
