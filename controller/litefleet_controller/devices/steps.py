"""The steps on one device: choose, push, verify, activate, confirm.  A failure is data, never an exception."""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

from litefleet_agent.facts import Facts
from litefleet_agent.findings import Finding, Verdict, decide, finding
from litefleet_agent.formats.checked import shortened
from litefleet_inventory.model import Device

from ..common.checked import findings_or_empty, mapping_or_empty
from ..common.errors import FindingError
from ..rollout import DeviceEvent
from ..rollout.policy import Keep, Regression
from .agent_client import Request, RequestRejected
from .deliver import (
    measurements_of,
    merge_findings,
    old_agent_findings,
    open_lease,
    pushes,
    room_request,
    space_finding,
    valid_proof,
    with_files,
    with_reasons,
)
from .identity import Identity
from .outcome import DeviceOutcome
from .regression import BENCH_LIMIT_S, bench_request, confirmed, other_engine, regressions
from .release import Release
from .sending import made_there, smallest
from .visit import DeviceSession, SessionFactory, open_session

__all__ = [
    "DeviceRecorder",
    "Evaluation",
    "Evaluator",
    "Mode",
    "NoRecorder",
    "Release",
    "ReleaseProvider",
    "WaitPolicy",
    "run_device",
]


class Evaluation(NamedTuple):
    """What a data set showed of a release on a device."""

    findings: tuple[Finding, ...] = ()
    measurements: Mapping[str, object] = {}


class Evaluator(Protocol):
    """Measures accuracy on labelled data, for the models that have such data."""

    async def __call__(self, session: DeviceSession, model: str, release: str) -> Evaluation:
        """Run the model's data set with a release that was verified on this device."""


@dataclass(frozen=True)
class Mode:
    """What a run does on each device after the probe."""

    stage: bool = True  # push and verify; without it the run ends at the probe
    activate: bool = True  # activate a verified release
    again: bool = False  # verify again even where this release was verified in this same environment
    verify_limit_s: float = 300.0
    lease_s: int = 600  # within which the controller must confirm after the activation
    keep: Keep | None = None  # what may be deleted from the device; None: nothing
    regression: Regression | None = None  # how much worse than the release before it may be
    evaluator: Evaluator | None = None  # None: accuracy is not measured


class ReleaseProvider(Protocol):
    """Builds releases; FindingError where none can be built."""

    async def release_for(self, model: str, device: Device, facts: Facts) -> Release:
        """Return the release of `model` for this device, converted, with its goldens and its runtime."""


class DeviceRecorder(Protocol):
    """Stores what happened to a device before anything depends on it."""

    @property
    def identity(self) -> Identity:
        """The identity under which the device is switched."""

    async def record(
        self,
        event: DeviceEvent,
        outcome: DeviceOutcome,
        hello: Mapping[str, object],
        then: DeviceEvent | None = None,
    ) -> None:
        """Commit one event, together with `then`, which follows it at once; both are stored when this returns."""


class NoRecorder:
    """Stores nothing: for runs that activate nothing."""

    identity = Identity()

    async def record(
        self,
        event: DeviceEvent,
        outcome: DeviceOutcome,
        hello: Mapping[str, object],
        then: DeviceEvent | None = None,
    ) -> None:
        """Do nothing."""


_NO_RECORDER = NoRecorder()
HelloCheck = Callable[
    [Mapping[str, object]], tuple[Finding, ...]
]  # findings about the time before, from a device's hello


async def run_device(
    device: Device,
    models: Sequence[str],
    mode: Mode,
    session_factory: SessionFactory,
    provider: ReleaseProvider,
    recorder: DeviceRecorder = _NO_RECORDER,
    check_hello: HelloCheck = lambda hello: (),
    needed: Collection[str] = (),
) -> list[DeviceOutcome]:
    """Return one outcome per model (one in all for a probe, or when the device never answered).

    `needed` are files, by SHA-256, that a cleanup on the device leaves there: those of all these models.
    """

    async def work(session: DeviceSession, done: list[DeviceOutcome]) -> None:
        session.notes += check_hello(session.hello)
        if not mode.stage:
            await _add_sandbox(session)
            done.append(session.outcome("", session.notes))
            return
        for model in models:
            done.append(await _Delivery(session, mode, provider, recorder, model, needed).run())

    return await open_session(session_factory, device, models, work)


async def _add_sandbox(session: DeviceSession) -> None:
    """Add to the reported facts what the device's kernel offers to confine a model's process; agents before it cannot say."""
    with suppress(RequestRejected):
        (sandbox,) = await session.ask(Request("sandbox"))
        session.reported_facts = {**session.reported_facts, "sandbox": sandbox}


@dataclass
class _Delivery:
    """Delivers one model to one device; its failure is its own outcome, and the next model follows."""

    session: DeviceSession
    mode: Mode
    provider: ReleaseProvider
    recorder: DeviceRecorder
    model: str
    needed: Collection[str] = ()
    findings: list[Finding] = field(default_factory=list)
    built: Release = field(default_factory=Release)

    async def run(self) -> DeviceOutcome:
        """Choose, push, verify, activate and confirm, until a step fails."""
        facts = self.session.facts
        if not facts.arch:
            return self.session.outcome(self.model, [finding("LF303", f"this device is {facts.machine}")])
        self.session.step("prepare")
        try:
            self.built = await self.provider.release_for(self.model, self.session.device, facts)
        except FindingError as error:
            return self.session.outcome(self.model, error.findings)
        too_old = old_agent_findings(self.session.hello, self.built)
        self.findings = [*self.session.notes, *self.built.findings, *too_old]
        if decide(self.findings) is not Verdict.VERIFIED:
            return self._outcome()
        try:
            return await self._deliver(facts)
        except RequestRejected as error:
            self.findings.append(error.found)
            return self._outcome()

    async def _deliver(self, facts: Facts) -> DeviceOutcome:
        release, current = self.built.id, mapping_or_empty(self.session.hello.get("current")).get(self.model)
        proof = None if self.mode.again else valid_proof(self.session.hello, release)
        if proof is not None and (current == release or not self.mode.activate):
            measured = mapping_or_empty(proof.get("measurements"))
            if open_lease(self.session.hello, self.model) is None or not self.mode.activate:
                return await self._report_unchanged(measured)
            return await self._activate(measured)  # an earlier run got as far as the lease
        if (short := space_finding(facts, self.session.hello, self.built)) is not None and self.mode.keep is None:
            self.findings.append(short)
            return self._outcome()
        return await self._push_and_verify()

    async def _report_unchanged(self, measured: Mapping[str, object]) -> DeviceOutcome:
        outcome = replace(self._outcome(), unchanged=True, activated=self.mode.activate, measurements=measured)
        await self._record(DeviceEvent.SAME, outcome)
        return outcome

    async def _push_and_verify(self) -> DeviceOutcome:
        self.session.step("push and prove")
        room = await made_there(self.session, self.built, self._room(self.built), self.mode.verify_limit_s)
        requests = [*room, *self._preparation_requests(), Request("verify", {"release": self.built.id})]
        requests = await smallest(self.session, self.built, requests)
        results = await self.session.ask(*requests, limit_s=self.mode.verify_limit_s)
        self.session.hello = with_files(self.session.hello, self.built)  # what models share is sent once
        proof = results[-1]
        acceptance_findings = [
            found
            for request, answer in zip(requests, results, strict=True)
            for found in _acceptance_findings(request, answer)
        ]
        self.findings = merge_findings([*self.findings, *acceptance_findings], proof.get("findings"), self.built)
        self.session.detail = str(proof.get("detail", ""))[:4000]
        measured = with_reasons(mapping_or_empty(proof.get("measurements")), self.built)
        await self._compare(measured)
        if decide(self.findings) is Verdict.VERIFIED and proof.get("verified") is not True:
            self.findings.append(
                finding("LF900", "the agent did not say that the model was proven, and gave no reason")
            )
        if decide(self.findings) is Verdict.VERIFIED and self.mode.evaluator is not None:
            evaluation = await self.mode.evaluator(self.session, self.model, self.built.id)
            self.findings += evaluation.findings
            measured = {**measured, **evaluation.measurements}
        if decide(self.findings) is Verdict.VERIFIED and self.mode.activate:
            return await self._activate(measured)
        return replace(self._outcome(), measurements=measured)

    def _room(self, built: Release | None) -> list[Request]:
        """Return the request that frees space for a release, or only drops what is not needed; none where nothing may go."""
        keep = self.mode.keep
        return [room_request(self.session.hello, built, keep, self.needed)] if keep is not None else []

    def _preparation_requests(self) -> list[Request]:
        """Return the requests that send the release and what the device lacks of it."""
        requests: list[Request] = []
        known = mapping_or_empty(self.session.hello.get("trust")).get("signers")
        if self.mode.activate and self.built.trusted_signers and not known:  # later changes are for `litefleet trust`
            requests.append(Request("trust", {"allowed_signers": self.built.trusted_signers, "signature": ""}))
        manifest = {"manifest": self.built.manifest, "sealed": self.built.signed, "again": not self.mode.activate}
        return [*requests, *pushes(self.session.hello, self.built), Request("release", manifest)]

    async def _compare(self, measured: Mapping[str, object]) -> None:
        """Compare with the release that runs here now, as it was measured on this device; what is worse is measured again."""
        before, limits = (
            str(mapping_or_empty(self.session.hello.get("current")).get(self.model) or ""),
            self.mode.regression,
        )
        if limits is None or before in ("", self.built.id) or decide(self.findings) is not Verdict.VERIFIED:
            return  # a release that fails is not measured again, and one measurement alone is no evidence
        recorded = measurements_of(self.session.hello, before)
        self._say(other_engine(recorded, measured))
        found = regressions(recorded, measured, limits)
        if found:
            self.findings += await self._measure_again(before, found, limits)

    def _say(self, note: str) -> None:
        """Put a note before the model's own last lines."""
        self.session.detail = "\n".join(filter(None, (note, self.session.detail)))[:4000]

    async def _measure_again(self, before: str, found: list[Finding], limits: Regression) -> list[Finding]:
        self.session.step("measure again")
        try:
            (answer,) = await self.session.ask(bench_request(self.model, before, self.built.id), limit_s=BENCH_LIMIT_S)
        except RequestRejected as error:  # an older agent, or a release that cannot be measured any more
            return [
                finding(f.code, f"{f.observed}; not measured again: {shortened(error.found.observed, 200)}")
                for f in found
            ]
        again = confirmed(found, answer, limits)
        self._say(again.note)
        return list(again.findings)

    async def _activate(self, measured: Mapping[str, object]) -> DeviceOutcome:
        """Activate under a lease, and confirm: every event is committed here before the next request is sent."""
        proven = replace(self._outcome(), measurements=measured)
        await self._record(DeviceEvent.PROVE, proven, DeviceEvent.SWITCH)
        self.session.step("activate")
        release = self.built.id
        order = self.recorder.identity.order(self.session.hello)
        await self.session.ask(Request("activate", {"release": release, "lease_s": self.mode.lease_s, **order}))
        await self._record(DeviceEvent.LEASE, proven)
        try:
            await self.session.ask(Request("confirm", {"release": release}), *self._room(None))
        except RequestRejected as error:
            if error.request.op == "confirm":
                raise  # else only the cleanup failed, and the release is confirmed
        outcome = replace(self._outcome(), measurements=measured, activated=True)
        await self._record(DeviceEvent.CONFIRM, outcome)
        return outcome

    async def _record(self, event: DeviceEvent, outcome: DeviceOutcome, then: DeviceEvent | None = None) -> None:
        await self.recorder.record(event, outcome, self.session.hello, then)

    def _outcome(self) -> DeviceOutcome:
        return self.session.outcome(self.model, self.findings, self.built.id, self.built.artifact)


def _acceptance_findings(request: Request, answer: Mapping[str, object]) -> list[Finding]:
    """Return the findings of an accepted release: a signature that the device could not check."""
    return findings_or_empty(answer.get("findings"), 10) if request.op == "release" else []


class WaitPolicy(enum.Enum):
    """How long a run waits before it leaves the rest to a later run."""

    NONE = "none"  # do what can be done now (a timer will call again)
    WAVES = "waves"  # wait for soaks, windows and limits; not for devices that are offline
    ALL = "all"  # and for devices that are offline, until none is left
