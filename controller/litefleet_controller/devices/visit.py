"""One session with one device: connect, probe, work, and end in outcomes whatever happens."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

from litefleet_agent.errors import AgentError
from litefleet_agent.facts import Facts
from litefleet_agent.facts.arch import arch_of
from litefleet_agent.findings import Finding, Severity, decide, finding
from litefleet_inventory.model import Device

from ..common.errors import LitefleetError
from .agent_archive import AgentArchive
from .agent_client import Answer, NoPython, Request, RequestRejected
from .bootstrap import Choice
from .bring import Brought, form_for
from .outcome import DeviceOutcome, unexpected
from .python_bundle import PythonMaker
from .shared_facts import FactsForm, shared_facts
from .starter import Agent, AgentStarter, Launch, LocalStarter
from .transport.base import Transport, TransportError

Report = Callable[[str, str], None]  # device name, step


class SessionKeeper(Protocol):
    """Keeps sessions open between two that follow one another; `kept_sessions` has the one that runs use."""

    async def look(
        self,
        session: DeviceSession,
        models: Sequence[str],
        work: Callable[[DeviceSession], Awaitable[None]],
        done: list[DeviceOutcome],
    ) -> None:
        """Run a session that may stay open; return when its work is done."""

    def taken(self, device: Device) -> AbstractAsyncContextManager[DeviceSession | None]:
        """Yield the device's open session, None where there is none."""

    async def only(self, names: Collection[str]) -> None:
        """Close the sessions with all other devices."""

    async def close(self) -> None:
        """Close all sessions."""


class NeighbourFiles(Protocol):
    """Brings files from device to device; `site_cache` has the one that runs use."""

    def serves(self, session: DeviceSession) -> bool:
        """Say whether a device may get files from neighbours and serve them."""

    async def bring(self, session: DeviceSession, requests: Sequence[Request], sizes: Mapping[str, int]) -> None:
        """Bring files to a device: from a neighbour where one has them, else by `requests`, one for each file."""


@dataclass(frozen=True)
class SessionFactory:
    """What all sessions of a run share."""

    transport: Transport
    archive: AgentArchive
    report: Report = lambda device, step: None
    step_limit_s: float = 120.0
    keep_agent: bool = True  # without it, a probe changes nothing on the device
    pythons: PythonMaker | None = None  # makes what is brought to devices without Python; None: nothing is
    elsewhere: AgentStarter | None = None  # starts the agents; None: this process does, over `transport`
    kept: SessionKeeper | None = None  # None: no session stays open for the next one
    site_cache: NeighbourFiles | None = None  # None: each device gets all files from here
    at_once: int = 0  # devices at work at once that the starters can serve; 0: as `ssh.concurrency` says

    @property
    def starter(self) -> AgentStarter:
        """Who starts the agents."""
        return self.elsewhere or LocalStarter(self.transport, self.archive)


class Traffic(NamedTuple):
    """What a connection carried: bytes sent to the device, and round trips after the SSH handshake."""

    sent_bytes: int = 0
    round_trips: int = 0


_NO_TRAFFIC = Traffic()


@dataclass
class DeviceSession:
    """One open session: what the device reported, and how to send it requests."""

    device: Device
    session_factory: SessionFactory
    agent: Agent | None = None
    brought: Brought | None = None  # the Python that the agent was started with, where one was brought
    hello: Mapping[str, object] = field(default_factory=dict)
    facts: Facts = field(default_factory=Facts)
    reported_facts: Mapping[str, object] = field(default_factory=dict)  # as they go into outcomes
    host_key: str = ""  # the fingerprint of the device's SSH host key
    notes: tuple[Finding, ...] = ()
    steps: dict[str, float] = field(default_factory=dict)
    detail: str = ""
    not_brought: str = ""  # why no Python could be made for this device
    asked: set[str] = field(default_factory=set)  # operations, after hello
    _facts_form: object = None  # as the agent sent them last
    _counted_model: str | None = None  # the model of the latest outcome
    _counted: Traffic = _NO_TRAFFIC  # by the connection up to that outcome
    _before: Traffic = _NO_TRAFFIC  # by the connection before that model

    def step(self, name: str) -> None:
        """Begin a step: the time since the last one goes to the step that ends."""
        now = time.monotonic()
        for open_step in [s for s, v in self.steps.items() if v < 0]:
            self.steps[open_step] = round(now + self.steps[open_step], 3)
        if name:
            self.steps[name] = -now
            self.session_factory.report(self.device.name, name)

    async def ask(self, *requests: Request, limit_s: float = 0.0) -> list[dict[str, object]]:
        """Send requests without waiting and return their results; RequestRejected at the first error."""
        return [answer.result for answer in await self.exchange(*requests, limit_s=limit_s)]

    async def exchange(self, *requests: Request, limit_s: float = 0.0) -> list[Answer]:
        """Do as `ask`, and return the answers with their bodies."""
        assert self.agent is not None
        self.asked.update(request.op for request in requests)
        return await self.agent.ask(requests, max(limit_s, self.session_factory.step_limit_s))

    def outcome(
        self, model: str, findings: Sequence[Finding], release: str = "", artifact: str = "", **more: Any
    ) -> DeviceOutcome:
        """Return a model's outcome on this device; the findings decide the verdict.

        Its traffic is what the connection carried since the model before it: that of the start is the first model's.
        """
        self.step("")
        traffic = self._traffic_of(model)
        return DeviceOutcome(
            device=self.device.name,
            model=model,
            verdict=decide(findings),
            findings=tuple(sorted(findings, key=lambda f: f.severity is not Severity.ERROR)),
            facts=self.reported_facts,
            steps=dict(self.steps),
            release=release,
            artifact=artifact,
            sent_bytes=traffic.sent_bytes,
            round_trips=traffic.round_trips,
            detail=self.detail,
            **more,
        )

    def _traffic_of(self, model: str) -> Traffic:
        """Return the traffic since the outcomes of another model; several outcomes of one model count from the same place."""
        parts = [part for part in (self.agent, self.brought) if part is not None]
        now = Traffic(sum(p.sent_bytes for p in parts), sum(p.round_trips for p in parts))
        if model != self._counted_model:
            self._counted_model, self._before = model, self._counted
        self._counted = now
        return Traffic(now.sent_bytes - self._before.sent_bytes, now.round_trips - self._before.round_trips)

    def _read_hello(self, hello: Mapping[str, object]) -> None:
        """Take an answer in; its facts are kept as `facts` alone, since their JSON is six times as large."""
        form = hello.get("facts")
        if not self.hello or form != self._facts_form:  # an agent gathers them once
            self.facts = shared_facts(Facts.from_dict(form))
            self.reported_facts = FactsForm(self.facts)
        self._facts_form = form
        self.hello = {name: value for name, value in hello.items() if name != "facts"}
        expected = arch_of(self.device.arch) if self.device.arch else None
        if expected is not None and expected.name != self.facts.arch:
            observed = f"the inventory says {expected.name}, the device is {self.facts.arch or self.facts.machine}"
            self.notes = (finding("LF314", observed),)

    async def look_again(self, limit_s: float) -> None:
        """Ask the device again what it runs and holds, and begin anew with it, on the same connection.

        Raises: TransportError, RequestRejected, AgentError.
        """
        assert self.agent is not None
        (answer,) = await self.agent.ask([Request("hello")], limit_s)
        self.notes, self.detail = (), ""
        self._counted_model, self._counted = None, _NO_TRAFFIC  # the connection's start counts with the next model
        self._read_hello(answer.result)

    async def run(
        self, models: Sequence[str], work: Callable[[DeviceSession], Awaitable[None]], done: list[DeviceOutcome]
    ) -> None:
        """Connect, learn, and do `work`, which puts its outcomes into `done`; models without one get what went wrong."""
        await self.settle(models, self._connect_and_work(work), done)

    async def _connect_and_work(self, work: Callable[[DeviceSession], Awaitable[None]]) -> None:
        self.step("connect")
        try:
            await self._work(work)
        except NoPython as error:
            await self._work(work, await self._bring(error))

    async def settle(self, models: Sequence[str], work: Awaitable[None], done: list[DeviceOutcome]) -> None:
        """Wait for `work`, which puts its outcomes into `done`; models without one get what went wrong."""
        try:
            await work
            return
        except NoPython as error:
            found = _without_python(self.device, error, self.not_brought)
            self.reported_facts = {"machine": error.facts.get("machine", ""), "sh": dict(error.facts)}
        except (TransportError, RequestRejected) as error:
            found = [error.found]
        except AgentError as error:  # ProtocolError, or facts that are none
            found = [finding("LF507", f"{self.device.name}: {error}")]
        except Exception as error:  # a bug, or an unforeseen answer, is this device's outcome alone
            self.step("")
            bug = replace(unexpected(self.device.name, "", error), facts=self.reported_facts, steps=dict(self.steps))
            done += [replace(bug, model=model) for model in _without_outcome(models, done)]
            return
        finally:
            self.session_factory.report(self.device.name, "")  # no longer at work, whatever waits for it
        done += [self.outcome(model, found) for model in _without_outcome(models, done)]

    async def _work(self, work: Callable[[DeviceSession], Awaitable[None]], brought: Brought | None = None) -> None:
        """Start the agent, by the Python at `brought` if there is one, and do `work` with it."""
        factory, named = self.session_factory, self.device.python
        choice = _CHOICES.get(named, Choice.OWN) if factory.pythons is not None else Choice.OWN
        python, temporary = "" if named in _CHOICES else named, ""
        if brought is not None:
            python, temporary, choice = brought.path, "" if factory.keep_agent else brought.folder, Choice.OWN
        launch = Launch(python, factory.keep_agent, choice, temporary, factory.step_limit_s)
        async with factory.starter.open(self.device, launch) as agent:
            self.agent, self.brought = agent, brought
            self.host_key = agent.host_key
            self.step("probe")
            self._read_hello(await agent.start())
            await work(self)

    async def _bring(self, error: NoPython) -> Brought:
        """Place a Python on the device that has none, where its inventory lets that happen.

        Raises: NoPython with why it could not be done, TransportError with what the device answered.
        """
        factory, device, facts = self.session_factory, self.device, error.facts
        may_bring = _CHOICES.get(device.python, Choice.OWN) is not Choice.OWN
        if factory.pythons is None or not may_bring or arch_of(facts.get("machine", "")) is None:
            raise error
        self.step("python")
        try:
            bundle = await factory.pythons.for_machine(facts["machine"], form_for(facts))
        except LitefleetError as why:
            if _CHOICES[device.python] is Choice.BRING:
                raise NoPython(facts, str(why)) from why
            self.not_brought = str(why)
            return Brought("")  # one without ctypes may do
        if unfit := bundle.why_not(facts):
            raise TransportError(finding("LF326", unfit))
        return await factory.starter.bring(device, bundle, factory.keep_agent, factory.step_limit_s)


_CHOICES = {"": Choice.AUTO, "auto": Choice.AUTO, "bring": Choice.BRING, "own": Choice.OWN}  # else it is a path


async def open_session(
    session_factory: SessionFactory,
    device: Device,
    models: Sequence[str],
    work: Callable[[DeviceSession, list[DeviceOutcome]], Awaitable[None]],
    keep: bool = False,
) -> list[DeviceOutcome]:
    """Return one outcome per model: what `work` puts into its list, else why it could not be done.

    With `keep`, the session may stay open for the next one with this device, where the factory keeps any.
    """
    done: list[DeviceOutcome] = []

    async def bound(session: DeviceSession) -> None:
        await work(session, done)

    new, kept = DeviceSession(device, session_factory), session_factory.kept
    if kept is None:
        await new.run(models, bound, done)
    elif keep:
        await kept.look(new, models, bound, done)
    else:
        async with kept.taken(device) as open_one:
            if open_one is not None:
                await open_one.settle(models, work(open_one, done), done)
            else:
                await new.run(models, bound, done)
    return done


def _without_outcome(models: Sequence[str], done: Sequence[DeviceOutcome]) -> list[str]:
    return [m for m in models if m not in {o.model for o in done}]


def _without_python(device: Device, error: NoPython, not_made: str) -> list[Finding]:
    facts = error.facts
    machine = facts.get("machine", "an unknown machine")
    libc, system = facts.get("libc", "unknown"), facts.get("os") or "unknown system"
    why = error.why or not_made
    why = f"; none could be brought: {why}" if why else ""
    if _CHOICES.get(device.python, Choice.OWN) is Choice.OWN:
        why = f"; none is brought, since the inventory says `python: {device.python}`"
    seen = "no Python 3.7 or later on PATH"
    if device.python not in _CHOICES:
        wrong = {"78": "is older than Python 3.7", "126": "cannot be executed"}.get(facts.get("why", ""))
        seen = f"`python:` of {device.name} names {device.python}, which {wrong or 'is missing, or cannot be started'}"
    found = [finding("LF301", f"{seen}; sh reports {machine}, libc {libc}, {system}{why}")]
    if arch_of(machine) is None:
        found.insert(0, finding("LF303", f"this device is {machine}"))
    return found
