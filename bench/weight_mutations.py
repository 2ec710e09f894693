"""Which broken models do goldens catch?  Twelve models, ten ways to break each, two ways that are harmless.

    python bench/weight_mutations.py                  # twelve models; twenty minutes
    python bench/weight_mutations.py shapes cls       # these only

For each mutation: whether the two default cases compared item by item caught it (litefleet before outputs had meanings),
whether the default golden does now, whether a golden of two real inputs does, and whether a data set of 24 further real
inputs does (`drop: 0.01`, labelled with the reference's own answers; none for vectors, which have no metric); beside it
whether the top answer for any of eight real inputs changes.  All are judged at fp32's limits, rounding to fp16 at fp16's, as
litefleet judges a source whose weights are rounded so.  Real inputs are pictures or words on which the small models were
trained, for the others patches of colour.  The mutated models run in PaddlePaddle; Paddle-Lite on x86_64 differs from it by
less than a tenth of a tolerance (precisions.py).
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from litefleet_agent.verification.compare import compare, default_tolerance, peak  # noqa: E402
from litefleet_agent.verification.comparison import compare_outputs  # noqa: E402
from litefleet_controller.build.conversion.preflight import load_source  # noqa: E402
from litefleet_controller.build.conversion.program import read_program  # noqa: E402
from litefleet_controller.build.golden.files import read_npz  # noqa: E402
from litefleet_controller.build.golden.judged import Reference, judged_golden  # noqa: E402
from litefleet_controller.build.golden.labels import Label, label_of_array  # noqa: E402
from litefleet_controller.build.golden.make import make_golden, run_reference  # noqa: E402
from litefleet_controller.build.golden.meaning import OutputMeaning, meanings_of  # noqa: E402
from litefleet_controller.build.golden.perturb import changed, classes_to_swap, find_head, perturbations, weights_of  # noqa: E402
from litefleet_controller.config.choices import GoldenSpec, InputSpec, MetricName  # noqa: E402
from litefleet_controller.evaluate.metrics import observe, score  # noqa: E402

from tests.agent.verification.comparison.tensors import tensor  # noqa: E402
from tests.conftest import _once, paddle_environment, source_models  # noqa: E402
from tests.controller.build.golden_power.test_real import EXPORT, Toolchains, picture  # noqa: E402

OWN = Path(__file__).with_name("mutation_models.py")
DIMS = {"cls": (1, 3, 48, 192), "det": (1, 3, 320, 320), "rec": (1, 3, 48, 160)}
ENDS = ("detector", "matrix", "heads")  # untrained, 96 x 96
TRAINED = ("shapes", "segments", "mask", "vectors", "raw", "tokens")
MODELS = (*DIMS, *ENDS, *TRAINED)
REAL = 8  # inputs whose top answers are looked at; those behind them are the data set
DATA = 24
DROP = 0.01
# kind of the first output -> the metric of its data set; the recognizer's rows are characters
METRICS: Mapping[str, MetricName] = {
    "topk": "top1", "tensor": "top1", "labels": "iou", "mask": "iou", "detections": "map50",
}  # fmt: skip
BEFORE = 1e-5  # fp32's mean_abs before this study; its other limits are as they were
Answer = Mapping[str, npt.NDArray[np.generic]]


def exported(script: Path) -> Path:
    """Return the folder of a script's models, exported once."""
    with _once(f"mutation-{hashlib.sha256(script.read_bytes()).hexdigest()[:12]}") as folder:
        if not (folder / "done").exists():
            folder.mkdir(exist_ok=True)
            subprocess.run([paddle_environment(), script, folder], check=True, capture_output=True)
            (folder / "done").touch()
        return folder


@dataclass(frozen=True)
class Model:
    """A source model, its real inputs, and how its outputs are compared."""

    name: str
    program: Path
    params: Path
    inputs: Mapping[str, InputSpec]
    real: Sequence[Answer]

    @property
    def meanings(self) -> tuple[OutputMeaning, ...]:
        source = load_source(self.program, self.params)
        return meanings_of(self.name, source.facts.outputs, read_program(source.program), {}, {})


def model(name: str) -> Model:
    if name in DIMS:
        base, inputs, shape = source_models()[name] / "inference", {"x": InputSpec(dims=DIMS[name])}, DIMS[name]
        real: list[Answer] = [{"x": picture(seed, shape)} for seed in range(REAL + DATA)]
    elif name in ENDS:
        base, inputs = exported(EXPORT) / name, {}
        real = [{"image": picture(seed, (1, 3, 96, 96))} for seed in range(REAL + DATA)]
    else:
        base, inputs = exported(OWN) / name, {"ids": InputSpec(range=(0, 199))} if name == "tokens" else {}
        kept = "ids" if name == "tokens" else "image"
        real = [{kept: value} for value in read_npz(base.with_name("inputs.npz"))[kept]]
    return Model(name, base.with_suffix(".pdmodel"), base.with_suffix(".pdiparams"), inputs, real)


@dataclass(frozen=True)
class Mutation:
    """One broken copy of a model."""

    name: str
    harmless: bool
    params: bytes
    program: bytes = b""  # "": the model's own


def mutations(one: Model, right: Sequence[Answer]) -> list[Mutation]:
    """Return the ten ways, as far as the model has what they break, and the two harmless ones."""
    data, params = one.program.read_bytes(), one.params.read_bytes()
    program = read_program(data)
    heads = [(find_head(program, out.name), [case[out.name] for case in right]) for out in program.outputs]
    pairs = [(head, classes_to_swap(answers, head.classes)) for head, answers in heads if head]
    head, classes = next(((h, c) for h, c in pairs if c), (None, None))
    made = [Mutation(p.name, p.harmless, p.params) for p in perturbations(program, params, head, classes or (0, 0))]
    weights = weights_of(program, params)
    first, middle, last = weights[0], weights[len(weights) // 2], weights[-1]
    random = np.random.RandomState(1)
    ways: dict[str, tuple[list[str], Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]]] = {
        "noise 10 %": (weights, lambda w: (w * (1 + 0.1 * random.standard_normal(w.shape))).astype("f4")),
        "a layer of zeros": ([middle], np.zeros_like),
        "last layer of zeros": ([last], np.zeros_like),
        "filters reversed": ([first], lambda w: np.ascontiguousarray(w[::-1])),
    }
    for name, (names, change) in ways.items():
        made.append(Mutation(name, False, changed(program, params, dict.fromkeys(names, change))))
    other = data.replace(b"\x1a\x04relu", b"\x1a\x04tanh")  # the type of an operator, of equal length
    if other != data:
        made.append(Mutation("relu to tanh", False, params, other))
    return made


def caught(right: Sequence[Answer], got: Sequence[Answer], meanings: Sequence[OutputMeaning], precision: str) -> bool:
    specs = {meaning.name: meaning.spec for meaning in meanings}
    return any(
        not found.passed
        for want, have in zip(right, got, strict=True)
        for found in compare_outputs(wire(want), wire(have), specs, precision).values()
    )


def caught_before(right: Sequence[Answer], got: Sequence[Answer], precision: str) -> bool:
    """Return whether two cases compared item by item would have caught it."""
    for want, have in zip(right[:2], got[:2], strict=True):
        for name, value in want.items():
            expected, actual = tensor(value), tensor(have[name])
            limits = default_tolerance(precision, peak(expected))
            if precision == "fp32":
                limits = replace(limits, mean_abs=limits.mean_abs * BEFORE / 1e-4)
            if not compare(expected, actual, limits).ok:
                return True
    return False


def wire(answer: Answer) -> dict[str, object]:
    return {name: tensor(value) for name, value in answer.items()}


def label_of(metric: MetricName, answer: npt.NDArray[np.generic]) -> Label:
    """Return the label with which the reference's own answer is right."""
    if metric == "map50":
        sure = answer[answer[:, 1] > 0.3] if answer.size > 1 else np.zeros((0, 6), "f4")
        return label_of_array(np.concatenate([sure[:, :1], sure[:, 2:6]], 1), metric)
    if metric == "iou":
        plane = answer.reshape(answer.shape[-2:])
        return label_of_array((plane > 0.5 if plane.dtype.kind == "f" else plane).astype("i8"), metric)
    best = answer.argmax(-1).ravel()
    if metric == "cer":  # as CTC reads them: repeats once, class 0 is the blank
        best = best[(best != 0) & (best != np.concatenate([[-1], best[:-1]]))]
    return label_of_array(best, metric)


def caught_by_data(
    one: Model, right: Sequence[Answer], got: Sequence[Answer], meanings: Sequence[OutputMeaning]
) -> bool | None:
    """Return whether the score on the data set drops by more than `DROP`; None for a model without a metric."""
    metric: MetricName | None = "cer" if one.name == "rec" else METRICS.get(meanings[0].spec.kind)
    if metric is None:
        return None
    name, labels = meanings[0].name, [label_of(metric, case[meanings[0].name]) for case in right]
    scores = []
    for answers in (right, got):
        try:
            records = [observe(metric, case[name], label) for case, label in zip(answers, labels, strict=True)]
        except ValueError:  # an output that is empty or not finite
            return True
        scores.append(score(metric, records).value)
    return scores[1] < scores[0] - DROP or not all(np.isfinite(case[name]).all() for case in got)


def top_changes(right: Answer, got: Answer, meanings: Sequence[OutputMeaning]) -> bool:
    """Return whether the answer that a user sees is another one."""
    return any(_changes(one.spec.kind, right[one.name], got[one.name]) for one in meanings)


def _changes(kind: str, want: npt.NDArray[np.generic], got: npt.NDArray[np.generic]) -> bool:
    if kind == "detections":  # the surest box: its class, or its place by more than a quarter of its size
        if not want.size or want.shape[-1] < 6 or not got.size or got.shape[-1] < 6:
            return bool(want.size > 1) != bool(got.size > 1)
        a, b = want[want[:, 1].argmax()], got[got[:, 1].argmax()]
        near = np.abs(a[2:] - b[2:]).max() < 0.25 * max(float(a[4] - a[2]), float(a[5] - a[3]))
        return bool(a[0] != b[0] or not near) and abs(float(a[1] - b[1])) > 1e-3
    if kind in ("counts",) or want.shape != got.shape:
        return kind != "counts"
    if kind == "labels":
        return bool((want != got).mean() > 0.02)
    if kind == "mask":
        inside = ((want > 0.5) | (got > 0.5)).sum()
        return bool(inside and ((want > 0.5) & (got > 0.5)).sum() / inside < 0.9)
    if kind == "topk" or (want.ndim == 2 and 1 < want.shape[-1] < 10):
        return bool((want.argmax(-1) != got.argmax(-1)).any())
    size = float(np.linalg.norm(want.astype("f8")))
    return bool(np.linalg.norm((got - want).astype("f8")) > 0.1 * size)


@dataclass(frozen=True)
class Row:
    """One mutation's fate."""

    model: str
    mutation: str
    harmless: bool
    before: bool
    default: bool
    real: bool
    data: bool | None
    top: bool


async def study(one: Model, folder: Path) -> tuple[str, list[Row]]:
    toolchains, source = Toolchains(), load_source(one.program, one.params)
    facts, meanings = source.facts, one.meanings

    async def make(cases: int) -> tuple[Path, ...]:
        spec, files = GoldenSpec(inputs=one.inputs, cases=cases), (one.program, one.params)
        return await make_golden(*files, facts.inputs, spec, toolchains, folder, outputs=facts.outputs, model=one.name)

    names = [given.name for given in facts.inputs]
    reference = Reference(one.program, one.params, read_program(source.program), toolchains)
    specs = {meaning.name: meaning.spec for meaning in meanings}
    golden = await judged_golden(make, 2, specs, names, reference, folder, refuse=False)
    cases = [read_npz(path) for path in golden.paths]
    given: list[Answer] = [{name: case[name] for name in names} for case in cases] + list(one.real)
    _, right = await run_reference((one.program, one.params), given, toolchains)
    made, rows, at = mutations(one, right), [], len(cases)
    last = at + REAL
    for place, mutation in enumerate(made):
        params, program = folder / f"{place}.pdiparams", folder / f"{place}.pdmodel"
        params.write_bytes(mutation.params)
        program.write_bytes(mutation.program or one.program.read_bytes())
    plain = [place for place, mutation in enumerate(made) if not mutation.program]
    files = [folder / f"{place}.pdiparams" for place in plain for _ in given]
    _, answers = await run_reference((one.program, one.params), given * len(plain), toolchains, params=files)
    found = {place: answers[n * len(given) : (n + 1) * len(given)] for n, place in enumerate(plain)}
    for place in set(range(len(made))) - set(plain):
        sources = (folder / f"{place}.pdmodel", folder / f"{place}.pdiparams")
        found[place] = (await run_reference(sources, given, toolchains))[1]
    for place, mutation in enumerate(made):
        got = found[place]
        # As the file would be judged: rounding to fp16 is harmless in a file of fp16 weights, and not in one of fp32.
        precision = "fp16" if mutation.name == "fp16" else "fp32"
        rows.append(
            Row(
                one.name,
                mutation.name,
                mutation.harmless,
                caught_before(right, got, precision),
                caught(right[:at], got[:at], meanings, precision),
                caught(right[at : at + 2], got[at : at + 2], meanings, precision),
                caught_by_data(one, right[at + REAL :], got[at + REAL :], meanings),
                any(top_changes(w, g, meanings) for w, g in zip(right[at:last], got[at:last], strict=True)),
            )
        )
    kinds = ", ".join(meaning.spec.kind for meaning in meanings)
    return f"{one.name:9} {golden.verdict:7} {len(cases)} cases; {kinds}", rows


def table(rows: Sequence[Row]) -> str:
    """Return the counts by mutation: caught of broken, for each kind of golden; and where the top answer changed."""
    lines = [
        "| mutation | models | caught before | default golden | two real inputs | data set | top answer changes | "
        "of these caught: default golden | two real inputs | data set |"
    ]
    lines.append(f"| --- |{' ---: |' * 9}")
    groups = list(dict.fromkeys((row.harmless, row.mutation) for row in rows))
    chosen = [(name, [r for r in rows if r.mutation == name]) for _, name in sorted(groups, key=lambda g: g[0])]
    chosen.append(("all that break", [r for r in rows if not r.harmless]))
    chosen.append(("all harmless", [r for r in rows if r.harmless]))
    for name, part in chosen:
        top = [r for r in part if r.top]
        cells = [name, str(len(part)), _of(r.before for r in part), *_caught(part), str(len(top)), *_caught(top)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _caught(rows: Sequence[Row]) -> list[str]:
    return [_of(r.default for r in rows), _of(r.real for r in rows), _of(r.data for r in rows)]


def _of(known: Iterable[bool | None]) -> str:
    """Return how many are true, "of" how many where some are not known."""
    seen = list(known)
    lacking = seen.count(None)
    return f"{seen.count(True)} of {len(seen) - lacking}" if lacking else f"{seen.count(True)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=MODELS, help=", ".join(MODELS))
    rows: list[Row] = []
    for name in parser.parse_args().models:
        with tempfile.TemporaryDirectory(prefix="litefleet-mutations-") as folder:
            about, found = asyncio.run(study(model(name), Path(folder)))
        rows += found
        missed = [f"{r.mutation}{' (top changes)' if r.top else ''}" for r in found if not r.harmless and not r.default]
        alarms = [r.mutation for r in found if r.harmless and r.default]
        by_data = [r.mutation for r in found if r.data is False and r.top] + [
            f"{r.mutation} (harmless, rejected)" for r in found if r.harmless and r.data
        ]
        print(
            f"{about}; passes: {', '.join(missed) or 'none'}; rejected though harmless: {', '.join(alarms) or 'none'}; "
            f"the data set errs at: {', '.join(by_data) or 'none'}"
        )
    print(table(rows))


if __name__ == "__main__":
    main()
