"""`litefleet infer`: runs the same inputs on every selected device, and compares the outputs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Self

from litefleet_agent.findings import Finding, Verdict, decide
from litefleet_agent.session.infer import MAX_BODY
from litefleet_inventory import Device

from ..build.golden.files import Array, Tensor
from ..build.golden.meaning import OutputMeaning
from ..common.errors import UsageError
from ..devices.agent_client import Request
from ..devices.outcome import DeviceOutcome
from ..devices.progress import Progress, QuietProgress
from ..devices.visit import DeviceSession, open_session
from ..project import Options
from ..project.project import Project, open_project
from ..project.run_fleet import ProgressFor, Stopwatch, fan_out
from .cases import Case, agent_too_old, check_cases, header_of, parts_of, read_cases
from .compare import Difference, Limits, against_reference, among_devices
from .outputs import read_answers, reported_findings
from .report import CaseAnswer, DeviceAnswer, InferenceReport, judged, save, usable_folder

_IDENTITY = re.compile(r"[0-9a-f]{8,64}")  # of a release, or its beginning


@dataclass(frozen=True)
class InferChoice:
    """Options of an inference."""

    model: str = ""  # may be left out where the project has one
    release: str = ""  # "": the one that is current on each device
    limit_s: float = 30.0  # for each input
    reference: bool = False  # compare with the reference engine too
    out: Path | None = None  # a folder for the outputs


class Inference:
    """Runs models on a project's devices, for as long as its context lasts.

        project = litefleet.open_project("litefleet.yaml", limit="hall")
        async with litefleet.Inference(project) as inference:
            answers = await inference.run("cls", [litefleet.Case("door", {"x": image})])
        print([(answer.device, answer.outcome.verdict, answer.cases[0].outputs) for answer in answers])

    `progress` receives each device's steps; without one, nothing is shown.

    Raises: ConfigError, UsageError, LitefleetError for what is wrong on this side. What is wrong with a device is in its answer's
    `outcome`, never an exception.
    """

    def __init__(self, project: Project, progress: Progress | None = None) -> None:
        self._project, self._progress = project, progress or QuietProgress()
        self._release_builder = project.release_builder(self._progress)
        self.interrupted = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._release_builder.close()

    async def tensors(self, model: str) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """Return the model's inputs and outputs, as the project's own files declare them."""
        return await self._release_builder.tensors(model)

    async def meanings(self, model: str) -> tuple[OutputMeaning, ...]:
        """Return how each output of the model is compared."""
        return await self._release_builder.meanings(model)

    async def reference(self, model: str, cases: Sequence[Case]) -> tuple[str, Sequence[Mapping[str, Array]]]:
        """Return the reference engine's name and its outputs for each case."""
        return await self._release_builder.reference(model, [case.arrays for case in cases])

    async def run(
        self, model: str, cases: Sequence[Case], release: str = "", limit_s: float = 30.0
    ) -> tuple[DeviceAnswer, ...]:
        """Return what each device of the project that may have this model answers, in the inventory's order."""
        if release not in ("", "current", "previous") and not _IDENTITY.fullmatch(release):
            raise UsageError(f"release {release[:80]!r}: give `previous`, an id, or its first 8 digits")
        inputs, _ = await self.tensors(model)
        check_cases(cases, inputs, model)
        devices = [device for device in self._project.devices if device.model in ("", model)]
        if not devices:
            raise UsageError(
                f"none of the chosen devices has the model {model}: the inventory names another one for them"
            )
        query = _Query(model, cases, infer_request(model, cases, inputs, release, limit_s))
        answers: dict[str, DeviceAnswer] = {}
        session_factory = self._project.session_factory(self._progress)
        time_limit_s = self._project.verify_limit_s + limit_s * len(cases)

        async def one(device: Device) -> list[DeviceOutcome]:
            async def work(session: DeviceSession, done: list[DeviceOutcome]) -> None:
                answers[device.name] = await _ask(session, query, time_limit_s)
                done.append(answers[device.name].outcome)

            return await open_session(session_factory, device, [model], work)

        outcomes, interrupted = await fan_out(self._project, devices, one, self._progress)
        self.interrupted = self.interrupted or interrupted
        return tuple(answers.get(outcome.device, DeviceAnswer(outcome)) for outcome in outcomes)


@dataclass(frozen=True)
class _Query:
    """The request to every device."""

    model: str
    cases: Sequence[Case]
    request: Request


class Sending(Enum):
    """How the data of a request reaches the device: sent, sent to be kept there, or named, as it was kept before."""

    SENT = "sent"
    KEPT = "kept"
    NAMED = "named"


def infer_request(
    model: str,
    cases: Sequence[Case],
    inputs: Sequence[Tensor],
    release: str,
    limit_s: float,
    sending: Sending = Sending.SENT,
) -> Request:
    """Return the request that runs these cases on a device; `release` "" is the one that is current there.

    Data that is not sent plainly needs an agent that announces `kept_inputs`.
    """
    headers, data = [header_of(case, inputs) for case in cases], [b"".join(parts_of(case, inputs)) for case in cases]
    if sending is Sending.KEPT:
        headers = [{**header, "keep": True} for header in headers]
    elif sending is Sending.NAMED:
        named = [hashlib.sha256(part).hexdigest() for part in data]
        headers = [{**header, "kept": sha} for header, sha in zip(headers, named, strict=True)]
        data = []
    fields: dict[str, object] = {"model": model, "requests": headers, "limit_s": limit_s}
    if release:
        fields["release"] = release
    return Request("infer", fields, b"".join(data), MAX_BODY)


async def _ask(session: DeviceSession, query: _Query, time_limit_s: float) -> DeviceAnswer:
    """Return one device's answer.  RequestRejected, TransportError and ProtocolError are left to the session."""
    session.step("infer")
    if refused := agent_too_old(session.hello, query.cases):
        return DeviceAnswer(session.outcome(query.model, [*session.notes, *refused], ""))
    (answer,) = await session.exchange(query.request, limit_s=time_limit_s)
    reported = answer.result
    release, by = str(reported.get("release", ""))[:64], str(reported.get("by", ""))[:20]
    found: Sequence[Finding] = reported_findings(reported)
    cases: tuple[CaseAnswer, ...] = ()
    if decide(found) is Verdict.VERIFIED:
        cases, failures = read_answers(reported, answer.body, [case.name for case in query.cases])
        found = [*found, *failures]
    outcome = session.outcome(query.model, [*session.notes, *found], release)
    return DeviceAnswer(outcome, by, str(reported.get("precision", ""))[:10], cases)


async def run_inference(
    options: Options, files: Sequence[Path], choice: InferChoice, progress_for: ProgressFor
) -> InferenceReport:
    """Run the files on the chosen devices and return what came of it.

    Raises: ConfigError, UsageError before any device is met; LitefleetError when the reference engine or the disk fails.
    """
    project = open_project(options)
    model = _model(project, choice.model)
    watch = Stopwatch()
    with progress_for(len(project.devices)) as progress:
        async with Inference(project, progress) as inference:
            inputs, outputs = await inference.tensors(model)
            configured = project.config.models[model]
            cases = read_cases(files, inputs, outputs, configured.preprocess, model, configured.input_specs)
            folder = usable_folder(choice.out) if choice.out else None
            reference_engine, expected = await inference.reference(model, cases) if choice.reference else ("", ())
            answers = await inference.run(model, cases, choice.release, choice.limit_s)
            meanings = await inference.meanings(model)
    limits = Limits(
        {answer.device: answer.precision for answer in answers if answer.precision},
        project.config.models[model].tolerance.model_dump(exclude_none=True),
        {one.name: one.spec for one in meanings},
    )
    differences, majority = _compared(cases, answers, expected, limits)
    final = tuple(judged(answer, differences, majority) for answer in answers)
    return InferenceReport(
        model,
        watch.stamp,
        watch.seconds,
        tuple(case.name for case in cases),
        final,
        majority,
        differences,
        save(folder, model, final) if folder else (),
        reference_engine,
        inference.interrupted,
    )


def _model(project: Project, wanted: str) -> str:
    if not wanted and len(project.models) > 1:
        raise UsageError(f"which model? Name one with -m: {', '.join(project.models)}")
    return wanted or project.models[0]


def _compared(
    cases: Sequence[Case],
    answers: Sequence[DeviceAnswer],
    expected: Sequence[Mapping[str, Array]],
    limits: Limits,
) -> tuple[tuple[Difference, ...], dict[str, str]]:
    """Return how the answers differ, and by case the device whose answer most agree on."""
    differences: list[Difference] = []
    majority: dict[str, str] = {}
    for number, case in enumerate(cases):
        given = {a.device: c.outputs for a in answers for c in a.cases if c.case == case.name and c.outputs}
        if expected:
            differences += against_reference(case.name, given, expected[number], limits)
        if len(given) > 1:
            majority[case.name], found = among_devices(case.name, given, limits)
            differences += found
    return tuple(differences), majority
