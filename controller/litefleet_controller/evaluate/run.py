"""Measures accuracy: the reference engine on this machine once, then each device in bounded batches; both can be continued."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from litefleet_agent.findings import finding

from ..build.conversion.preflight import find_source, load_source
from ..build.golden.dataset import DataSet, read_datasets
from ..build.golden.files import Array
from ..build.golden.make import run_reference
from ..build.releases import ReleaseBuilder
from ..build.toolchain import Toolchains
from ..common.errors import ConfigError, FindingError, UsageError
from ..devices.progress import Progress
from ..devices.steps import Evaluation
from ..devices.visit import DeviceSession
from ..project.project import Project
from .device_run import MOST, DeviceRun
from .figures import Accuracy, judge, make_accuracy
from .journal import Journal, key_of
from .metrics import Score, score
from .samples import Task, batches

_AT_ONCE = 8  # devices in a batch: with the bounds of `device_run`, this bounds the controller's memory
_REFERENCE_BYTES = 64 << 20
_CLASSES = {True: 1000, False: 20}  # in a report; in a rollout's outcomes, which the state database keeps
_LIMIT_S = 30.0  # for one sample on a device
Say = Callable[[str], None]
Run = Callable[[Sequence[Mapping[str, Array]]], Awaitable[Sequence[Mapping[str, Array]]]]


class _Reference(NamedTuple):
    """An engine on this machine with a model."""

    engine: str  # "PaddlePaddle 2.6.2"
    sha256: str  # of the model
    run: Run


@dataclass(frozen=True)
class _Prepared:
    """A model whose data set has been read and run by the reference engine."""

    task: Task
    reference: Score | None
    engine: str


class Evaluations:
    """Measures the accuracy of a project's models; an `Evaluator` of a device's steps.

    `again` measures anew where a measurement is complete; one that was cut is continued in any case.
    """

    def __init__(self, project: Project, release_builder: ReleaseBuilder, progress: Progress, again: bool) -> None:
        self._project, self._release_builder, self._progress, self._again = project, release_builder, progress, again
        self._folder = project.config.store / "evaluations"
        self._busy = asyncio.Semaphore(_AT_ONCE)
        self._prepared: dict[str, _Prepared] = {}

    async def prepare(self) -> None:
        """Read every data set and run it with the reference engine.

        Raises: ConfigError and UsageError for what is wrong with the data; LitefleetError when the engine fails.
        """
        for model, data in read_datasets(self._project.config, self._project.models).items():
            self._prepared[model] = await self._prepare(model, data)

    async def _prepare(self, model: str, data: DataSet) -> _Prepared:
        configured = self._project.config.models[model]
        inputs, outputs = await self._release_builder.tensors(model)
        task = Task(model, data, tuple(inputs), tuple(outputs), configured.preprocess, configured.input_specs)
        reference = await self._reference(model, data)
        if reference is None:
            await asyncio.to_thread(task.load, 0)
            return _Prepared(task, None, "")
        journal = Journal(self._folder, key_of("reference", reference.engine, reference.sha256, key_of_task(task)))
        return _Prepared(
            task, await local_score(task, reference.run, journal, self._progress.message), reference.engine
        )

    async def _reference(self, model: str, data: DataSet) -> _Reference | None:
        """Return what runs a model's data set on this machine; None where nothing can and only `min` counts."""
        configured, builder = self._project.config.models[model], self._release_builder
        if data.spec.reference is not None:
            return await _given_reference(model, data.spec.reference)
        if configured.source is None and configured.golden_spec("").engine != "paddlelite":
            if data.spec.drop is not None:
                why = f"{model} has no `source:`, so no reference engine can run its data set: give `min:`, or `reference:`"
                raise ConfigError([f"models.{model}.golden.drop: {why}"])
            return None

        async def run(given: Sequence[Mapping[str, Array]]) -> Sequence[Mapping[str, Array]]:
            return (await builder.reference(model, given))[1]

        return _Reference(*await builder.reference_identity(model), run)

    async def of_file(self, model: str, nb: Path, version: str) -> Accuracy | None:
        """Return the accuracy of an x86 .nb with this version of Paddle-Lite on this machine; None without a data set.

        Raises: LitefleetError when the file cannot be run.
        """
        prepared = self._prepared.get(model)
        if prepared is None:
            return None
        task, toolchains = prepared.task, Toolchains()
        sha256 = hashlib.sha256(await asyncio.to_thread(nb.read_bytes)).hexdigest()
        journal = Journal(self._folder, key_of("file", version, sha256, key_of_task(task)))

        async def run(given: Sequence[Mapping[str, Array]]) -> Sequence[Mapping[str, Array]]:
            return (await run_reference([nb], given, toolchains, version))[1]

        measured = await local_score(task, run, journal, self._progress.message)
        return make_accuracy(task.data.spec, task.data.classes, measured, prepared.reference, prepared.engine)

    async def __call__(self, session: DeviceSession, model: str, release: str) -> Evaluation:
        """Run a model's data set with a verified release on a device, and judge it; empty for a model without one."""
        prepared = self._prepared.get(model)
        if prepared is None:
            return Evaluation()
        environment = str(session.hello.get("fingerprint") or "")[:128]
        key = key_of("device", session.device.name, environment, release, key_of_task(prepared.task))
        measurement = DeviceRun(session, prepared.task, release, Journal(self._folder, key), self._limit_s, self._busy)
        session.step("evaluate")
        try:
            records, found = await measurement.run(self._again)
        except (UsageError, OSError) as error:  # a file of the data set changed meanwhile, or the store is full
            return Evaluation((finding("LF412", f"{error}"),))
        if found:
            return Evaluation(found)
        spec = prepared.task.data.spec
        measured = make_accuracy(
            spec, prepared.task.data.classes, score(spec.metric, records), prepared.reference, prepared.engine
        )
        return Evaluation(judge(measured), {"accuracy": measured.to_dict(_CLASSES[self._again])})

    @property
    def _limit_s(self) -> float:
        return min(_LIMIT_S, self._project.config.verify.time_limit_s)


def key_of_task(task: Task) -> list[object]:
    """Return what decides a task's records, besides who runs it."""
    spec = task.data.spec
    how = task.how.model_dump(mode="json") if task.how is not None else None
    given = sorted((name, repr(one)) for name, one in task.given.items())
    return [task.model, spec.metric, spec.output, task.data.digest, how, given]


async def _given_reference(model: str, path: Path) -> _Reference:
    """Return PaddlePaddle with the source model `golden.reference`.  Raises: ConfigError."""
    try:
        source, files = await asyncio.to_thread(load_source, path), find_source(path)
    except FindingError as error:
        raise ConfigError([f"models.{model}.golden.reference: {found.observed}" for found in error.findings]) from error

    toolchains = Toolchains()

    async def run(given: Sequence[Mapping[str, Array]]) -> Sequence[Mapping[str, Array]]:
        return (await run_reference(files, given, toolchains))[1]

    return _Reference(f"PaddlePaddle {await toolchains.paddle_version()} and {path.name}", source.sha256, run)


async def local_score(task: Task, run: Run, journal: Journal, say: Say) -> Score:
    """Return the score of a task with an engine on this machine; what the journal holds is not run again.

    Raises: UsageError for a sample that does not fit the model or the metric; LitefleetError when the engine fails.
    """
    known = await asyncio.to_thread(journal.read, len(task.data.samples))
    missing = [n for n in range(len(task.data.samples)) if n not in known]
    pending = batches(task, missing, MOST, _REFERENCE_BYTES)
    while (batch := await asyncio.to_thread(next, pending, None)) is not None:
        say(
            f"running the data set of {task.model} on this machine: {len(known):,} of {len(task.data.samples):,} samples"
        )
        answers = await run([one.case.arrays for one in batch])
        try:
            new = {one.number: task.record(one, outputs) for one, outputs in zip(batch, answers, strict=True)}
        except ValueError as error:
            raise UsageError(f"models.{task.model}.golden.metric: {error}") from error
        await asyncio.to_thread(journal.add, new)
        known |= new
    return score(task.data.spec.metric, [known[n] for n in sorted(known)])
