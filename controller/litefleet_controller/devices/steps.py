"""One device's way through a run: choose, push, prove, switch on, confirm.  A failure is data, never an exception."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from litefleet_agent.facts import Facts
from litefleet_agent.findings import Finding, Verdict, decide, finding
from litefleet_inventory.model import Device

from ..common.errors import FindingError
from ..rollout import DeviceEvent
from ..rollout.policy import Keep, Regression
from .agent_client import Refused, Request
from .deliver import (
    Supplied,
    mapping,
    measurements_of,
    open_lease,
    proof_that_holds,
    pushes,
    regressions,
    room,
    short_of_space,
    told,
)
from .outcome import DeviceOutcome
from .visit import Contact, Visit, visit

__all__ = ["Ledger", "Mode", "NoLedger", "Patience", "Supplied", "Supplier", "run_device"]


@dataclass(frozen=True)
class Mode:
    """What a run does on each device once it is probed."""

    stage: bool = True  # push and prove; without it the run ends at the probe
    activate: bool = True  # switch a proven release on
    again: bool = False  # prove anew even where this release was proven in this same environment
    verify_limit_s: float = 300.0
    lease_s: int = 600  # within which the device must hear from us again after the switch
    keep: Keep | None = None  # what may be dropped from the device; None: nothing is
    regression: Regression | None = None  # how much worse than the release before it may be


class Supplier(Protocol):
    """Makes releases ready; FindingError where none can be made."""

    async def supply(self, model: str, device: Device, facts: Facts) -> Supplied:
        """Return the release of `model` for this device, converted, with its goldens and its runtime."""


class Ledger(Protocol):
    """Writes down what happened to a device before anything depends on it."""

    async def note(self, event: DeviceEvent, outcome: DeviceOutcome, hello: Mapping[str, Any]) -> None:
        """Commit one event; whoever returns from here may go on."""


class NoLedger:
    """Remembers nothing: for runs that switch nothing on."""

    async def note(self, event: DeviceEvent, outcome: DeviceOutcome, hello: Mapping[str, Any]) -> None:
        """Do nothing."""


_NO_LEDGER = NoLedger()
Hear = Callable[[Mapping[str, Any]], tuple[Finding, ...]]  # what a device's hello tells of the time before


async def run_device(
    device: Device,
    models: Sequence[str],
    mode: Mode,
    contact: Contact,
    supplier: Supplier,
    ledger: Ledger = _NO_LEDGER,
    hear: Hear = lambda hello: (),
) -> list[DeviceOutcome]:
    """Return one outcome per model (one in all for a probe, or when the device never answered)."""

    async def work(here: Visit, done: list[DeviceOutcome]) -> None:
        here.notes += hear(here.hello)
        if not mode.stage:
            done.append(here.outcome("", here.notes))
            return
        for model in models:
            done.append(await _Delivery(here, mode, supplier, ledger, model).run())

    return await visit(contact, device, models, work)


@dataclass
class _Delivery:
    """One model's way to one device; what goes wrong with it is its own outcome, and the next model has its turn."""

    here: Visit
    mode: Mode
    supplier: Supplier
    ledger: Ledger
    model: str
    findings: list[Finding] = field(default_factory=list)
    supplied: Supplied = field(default_factory=lambda: Supplied("", {}, "", {}))

    async def run(self) -> DeviceOutcome:
        """Choose, push, prove, switch on and confirm, as far as it goes."""
        facts = self.here.facts
        if not facts.arch:
            return self.here.outcome(self.model, [finding("LF303", f"this device is {facts.machine}")])
        self.here.step("prepare")
        try:
            self.supplied = await self.supplier.supply(self.model, self.here.device, facts)
        except FindingError as error:
            return self.here.outcome(self.model, error.findings)
        self.findings = [*self.here.notes, *self.supplied.findings]
        if decide(self.findings) is not Verdict.VERIFIED:
            return self._outcome()
        try:
            return await self._deliver(facts)
        except Refused as error:
            self.findings.append(error.found)
            return self._outcome()

    async def _deliver(self, facts: Facts) -> DeviceOutcome:
        release, current = self.supplied.release, mapping(self.here.hello.get("current")).get(self.model)
        proof = None if self.mode.again else proof_that_holds(self.here.hello, release)
        if proof is not None and (current == release or not self.mode.activate):
            measured = mapping(proof.get("measurements"))
            if open_lease(self.here.hello, self.model) is None or not self.mode.activate:
                return await self._same(measured)
            return await self._switch_on(measured)  # an earlier run got as far as the lease
        if (short := short_of_space(facts, self.here.hello, self.supplied)) is not None and self.mode.keep is None:
            self.findings.append(short)
            return self._outcome()
        return await self._prove()

    async def _same(self, measured: Mapping[str, Any]) -> DeviceOutcome:
        outcome = replace(self._outcome(), unchanged=True, activated=self.mode.activate, measurements=measured)
        await self._note(DeviceEvent.SAME, outcome)
        return outcome

    async def _prove(self) -> DeviceOutcome:
        self.here.step("push and prove")
        requests = [*self._welcome(), Request("verify", {"release": self.supplied.release})]
        results = await self.here.ask(*requests, limit_s=self.mode.verify_limit_s)
        proof = results[-1]
        heard = [note for request, answer in zip(requests, results, strict=True) for note in _heard(request, answer)]
        self.findings = told([*self.findings, *heard], proof.get("findings"), self.supplied)
        self.here.detail = str(proof.get("detail", ""))[:4000]
        measured = mapping(proof.get("measurements"))
        self._compare(measured)
        if decide(self.findings) is Verdict.VERIFIED and proof.get("verified") is not True:
            self.findings.append(
                finding("LF900", "the agent did not say that the model was proven, and gave no reason")
            )
        if decide(self.findings) is Verdict.VERIFIED and self.mode.activate:
            return await self._switch_on(measured)
        return replace(self._outcome(), measurements=measured)

    def _welcome(self) -> list[Request]:
        """Return what brings the release to the device, and makes room for it."""
        requests = [room(self.here.hello, self.supplied, self.mode.keep)] if self.mode.keep else []
        known = mapping(self.here.hello.get("trust")).get("signers")
        if (
            self.mode.activate and self.supplied.trusted_signers and not known
        ):  # later changes are for `litefleet trust`
            requests.append(Request("trust", {"allowed_signers": self.supplied.trusted_signers, "signature": ""}))
        manifest = {"manifest": self.supplied.manifest, "sealed": self.supplied.sealed, "again": not self.mode.activate}
        return [*requests, *pushes(self.here.hello, self.supplied), Request("release", manifest)]

    def _compare(self, measured: Mapping[str, Any]) -> None:
        """Compare with the release that runs here now, as it was measured on this very device."""
        before = mapping(self.here.hello.get("current")).get(self.model)
        if self.mode.regression is None or before is None or before == self.supplied.release:
            return
        self.findings += regressions(measurements_of(self.here.hello, before), measured, self.mode.regression)

    async def _switch_on(self, measured: Mapping[str, Any]) -> DeviceOutcome:
        """Switch on under a lease, and make it final: every word is committed here before the next one is sent."""
        proven = replace(self._outcome(), measurements=measured)
        await self._note(DeviceEvent.PROVE, proven)
        await self._note(DeviceEvent.SWITCH, proven)
        self.here.step("activate")
        release = self.supplied.release
        await self.here.ask(Request("activate", {"release": release, "lease_s": self.mode.lease_s}))
        await self._note(DeviceEvent.LEASE, proven)
        tidy = [room(self.here.hello, None, self.mode.keep)] if self.mode.keep else []
        try:
            await self.here.ask(Request("confirm", {"release": release}), *tidy)
        except Refused as error:
            if error.request.op == "confirm":
                raise  # else only the tidying failed, and the release is confirmed
        outcome = replace(self._outcome(), measurements=measured, activated=True)
        await self._note(DeviceEvent.CONFIRM, outcome)
        return outcome

    async def _note(self, event: DeviceEvent, outcome: DeviceOutcome) -> None:
        await self.ledger.note(event, outcome, self.here.hello)

    def _outcome(self) -> DeviceOutcome:
        return self.here.outcome(self.model, self.findings, self.supplied.release, self.supplied.artifact)


def _heard(request: Request, answer: Mapping[str, Any]) -> list[Finding]:
    """Return the notes that came with a release's acceptance: a signature that could not be checked there."""
    found = answer.get("findings") if request.op == "release" else None
    return [Finding.from_dict(f) for f in (found if isinstance(found, list) else [])[:10]]


class Patience(enum.Enum):
    """How long a run waits before it leaves the rest to a later one."""

    NONE = "none"  # do what can be done now (a timer will call again)
    WAVES = "waves"  # wait for soaks, windows and limits; not for devices that are offline
    ALL = "all"  # and for devices that are offline, until none is left
