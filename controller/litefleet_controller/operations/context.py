"""The context of an operation on rollouts: the project, the state, the fleet's lock, and what the engine needs."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from litefleet_agent.findings import Finding
from litefleet_inventory.model import Device

from ..build.releases import ReleaseBuilder
from ..common.checked import mapping_or_empty
from ..common.errors import LitefleetError
from ..common.operator import actor
from ..config import Config
from ..devices.deliver import revert_findings
from ..devices.identity import Identity
from ..devices.kept_sessions import KeptSessions, most_kept
from ..devices.outcome import DeviceOutcome, RunReport
from ..devices.prepare import prepare_device
from ..devices.progress import Progress
from ..devices.release import Release
from ..devices.steps import Evaluator, HelloCheck, Mode, WaitPolicy, run_device
from ..devices.visit import SessionFactory
from ..project import Options
from ..project.project import Project, open_project, open_state
from ..project.run_fleet import ProgressFor, save_report
from ..rollout import DeviceRow, Rollout, RolloutEvent, RolloutState
from ..rollout.states import move_rollout
from ..rollout_engine import (
    Clock,
    DeviceRecorder,
    DeviceTask,
    EngineDeps,
    Prepare,
    RolloutEngine,
    SystemClock,
    ThreadWriter,
    Writer,
)
from ..rollout_engine.release_cache import ReleaseCache
from ..rollout_engine.store import endings
from ..rollout_engine.tracing import NO_TRACE, Trace, trace_from
from ..signing.signer import Signer
from ..state import FleetLock, State, this_process
from .device_records import follow_renames
from .device_tasks import RevertMarker, recheck, rollback_task
from .evaluate import evaluator_for
from .find import SEARCHED
from .session_source import session_factory_for

__all__ = [
    "ProgressFor",
    "RolloutContext",
    "finish_ended",
    "open_context",
    "open_ones",
    "open_state",
]

_T = TypeVar("_T")


@dataclass
class RolloutContext:
    """What one operation works with.  `lock` is the right to change this fleet's rollouts."""

    project: Project
    state: State
    lock: FleetLock
    session_factory: SessionFactory
    release_builder: ReleaseBuilder
    progress: Progress
    writer: Writer  # runs the state's blocking calls
    clock: Clock
    # By release: why it brings no runtime
    runtime_findings: dict[str, tuple[Finding, ...]] = field(default_factory=dict)
    built: dict[str, Release] = field(default_factory=dict)  # releases by id, as this process built them
    _evaluators: dict[tuple[str, ...], Evaluator | None] = field(default_factory=dict)  # by the models of a rollout
    last_seen: Mapping[str, float] = field(default_factory=dict)  # by device, before this operation; empty: as stored
    take_over: bool = False  # devices that another state has switched last follow this one from now on
    trace: Trace = NO_TRACE

    async def read(self, query: Callable[..., _T], *args: Any) -> _T:
        """Return what a query of the state returns, run on the state's own thread."""
        return await self.writer(query, *args)

    async def write(self, change: Callable[..., _T], *args: Any) -> _T:
        """Run a call that changes the state on the state's own thread; it is committed when this returns."""
        return await self.writer(change, *args)

    @property
    def config(self) -> Config:
        """The project's configuration."""
        return self.project.config

    @property
    def at_once(self) -> int:
        """How many devices are at work at once."""
        return self.session_factory.at_once or self.config.ssh.concurrency

    @property
    def actor(self) -> str:
        """Who runs this command, as rollouts and the audit log name people: "user@host"."""
        return actor(self.config.operator)

    @cached_property
    def signer(self) -> Signer | None:
        """Who signs, where `signing:` is set."""
        return Signer(self.config.signing) if self.config.signing else None

    @property
    def signers(self) -> str:
        """The list of signers that devices come to trust; "" without signing."""
        return self.signer.allowed_signers() if self.signer else ""

    async def signed(self, releases: Sequence[Release], numbers: Mapping[str, int]) -> list[Release]:
        """Return the releases with their seals, checked; unchanged where nothing is signed."""
        if self.signer is None:
            return list(releases)
        done = []
        for release in releases:
            now = self.clock.now()
            seal = await self.signer.seal(release.id, release.model, self.config.fleet, numbers[release.model], now)
            await self.signer.verify(seal, release.id, release.model, self.config.fleet, now)
            done.append(replace(release, signed=seal))
        return done

    def origin(self) -> dict[str, object]:
        """Return the paths and SHA-256 of configuration and inventory, which a rollout records."""
        options = self.project.options
        inventory = options.inventory or self.config.inventory.path
        return {
            "config": {"path": str(options.config), "sha256": _digest(options.config)},
            "inventory": {"path": str(inventory), "sha256": _digest(inventory)},
        }

    async def recipes(self, models: Sequence[str]) -> dict[str, str]:
        """Return by model the SHA-256 over all that decides its releases but the device; none for one that cannot be made."""
        found = {}
        for model in models:
            with suppress(LitefleetError):  # its devices are blocked, with the reason
                found[model] = await self.release_builder.recipe(model)
        return found

    async def evaluator(self, models: Sequence[str]) -> Evaluator | None:
        """Return what measures the accuracy of these models, made once; None where none of them has a data set.

        Raises: ConfigError and UsageError for data that cannot be used; LitefleetError when the reference engine fails.
        """
        chosen = tuple(m for m in self.project.models if m in models)
        if chosen not in self._evaluators:
            project = replace(self.project, models=chosen)
            made = await evaluator_for(project, self.release_builder, self.progress, again=False)
            self._evaluators[chosen] = made
        return self._evaluators[chosen]

    async def keep(self, report: RunReport) -> RunReport:
        """Write a report to the project's store, and return it with the versions of its releases."""
        return save_report(self.config, report, await self.read(self.state.versions))

    async def mark_running(self, rollout: Rollout) -> Rollout:
        """Start a planned rollout and return it; return any other one unchanged."""
        if rollout.state is not RolloutState.PLANNED:
            return rollout
        running = replace(rollout, state=move_rollout(rollout.state, RolloutEvent.START), updated_at=self.clock.now())
        await self.write(self.state.advance, self.lock, rollout, RolloutEvent.START, running)
        return running

    async def run_engine(self, rollout: Rollout, wait_policy: WaitPolicy) -> RolloutEngine:
        """Run a rollout's engine and return it with its outcomes."""
        if rollout.kind == "reconcile":
            await self._skip_changed(rollout)
        rows = await self.read(self.state.rows, rollout.id)
        device_task, prepare = await self._device_tasks(rollout, rows)
        deps = EngineDeps(
            state=self.state,
            lock=self.lock,
            devices={d.name: d for d in self.project.inventory.devices},
            device_task=device_task,
            recheck=lambda device, rows: recheck(self.session_factory, device, rows),
            progress=self.progress,
            concurrency=self.at_once,
            clock=self.clock,
            write=self.writer,
            identity=await self.read(self.state.identity, self.config.fleet),
            let_go=self.let_go,
            trace=self.trace,
            prepare=prepare,
        )
        engine = RolloutEngine(deps, rollout, rows)
        with self.trace.rollout(rollout, rows):
            try:
                await engine.run(wait_policy)
            finally:
                self.trace.ended(engine.rollout)
        return engine

    @asynccontextmanager
    async def keeping_sessions(self) -> AsyncIterator[None]:
        """Keep sessions open from the probe of a device to its delivery, as many as limits of speed let follow at once.

        Sessions that other machines hold are not kept: they would take up workers.
        """
        if self.session_factory.elsewhere is not None:
            yield
            return
        at_once = self.config.rollout.parallel or self.config.ssh.concurrency
        kept = KeptSessions(most_kept(at_once), self.config.rollout.per_jump_host)
        self.session_factory = replace(self.session_factory, kept=kept)
        try:
            yield
        finally:
            self.session_factory = replace(self.session_factory, kept=None)
            await kept.close()

    async def let_go(self, but: Collection[str] = ()) -> None:
        """Close the sessions that are kept open, but for those with the devices of these names."""
        if self.session_factory.kept is not None:
            await self.session_factory.kept.only(but)

    async def _skip_changed(self, repair: Rollout) -> None:
        """Skip what a repair has left to do where another release was confirmed since."""
        rows, confirmed = await self.read(self.state.rows, repair.id), await self.read(self.state.confirmed)
        now = {key: entry.release for key, entry in confirmed.items()}
        changed = [r for r in rows if not r.state.settled and now.get((r.device, r.model), r.release) != r.release]
        for changes in endings(changed):
            if changes:
                await self.write(self.state.move, self.lock, repair.id, changes)

    async def _release_cache(self, rollout: Rollout, rows: Sequence[DeviceRow]) -> ReleaseCache:
        releases = [await self._with_valid_signature(r) for r in await self.read(self.state.releases_of, rollout.id)]

        async def keep(made: Release) -> Release:
            stored = (await self.signed([made], {made.model: rollout.number}))[0]
            await self.write(self.state.store_releases, self.lock, [stored])
            return stored

        planned = {(r.device, r.model): r.release for r in rows}
        recipes = {model: str(recipe) for model, recipe in mapping_or_empty(rollout.origin.get("recipes")).items()}
        return ReleaseCache(
            planned, releases, self.release_builder, keep, self.signers, self.runtime_findings, self.built, recipes
        )

    async def _with_valid_signature(self, release: Release) -> Release:
        """Return a release with a valid seal: one that has expired is renewed under the same number."""
        seal = mapping_or_empty((release.signed or {}).get("seal"))
        number, expires = seal.get("number"), seal.get("expires")
        if self.signer is None or not isinstance(number, int) or not isinstance(expires, int):
            return release
        if expires > self.clock.now():
            return release
        fresh = (await self.signed([release], {release.model: number}))[0]
        await self.write(self.state.store_releases, self.lock, [fresh])
        return fresh

    async def _device_tasks(self, rollout: Rollout, rows: Sequence[DeviceRow]) -> tuple[DeviceTask, Prepare | None]:
        """Return the task that the engine runs on each device, and the one before its turn, None where nothing is done then."""
        if rollout.kind == "rollback":
            parent_rows = await self.read(self.state.rows, rollout.parent)
            mark_reverted = RevertMarker(self.writer, self.state, self.lock, rollout.parent, parent_rows)
            to = str(rollout.origin.get("to", "previous"))
            versions = await self.read(self.state.versions)
            ids = frozenset(release for release, version in versions.items() if version == to)
            return rollback_task(self.session_factory, to, mark_reverted, ids), None
        release_cache, policy = await self._release_cache(rollout, rows), rollout.policy
        mode = Mode(
            verify_limit_s=self.project.verify_limit_s,
            lease_s=int(policy.lease),
            keep=policy.keep,
            regression=policy.gates.regression,
            again=rollout.kind == "reconcile",
            evaluator=await self.evaluator(rollout.models),
        )
        last_seen = self.last_seen or {n: k.seen_at for n, k in (await self.read(self.state.known)).items()}

        def check_of(device: Device, identity: Identity) -> HelloCheck:
            since = last_seen.get(device.name, 0.0)

            def check_hello(hello: Mapping[str, object]) -> tuple[Finding, ...]:
                conflict = () if rollout.origin.get("take_over") else identity.conflict(hello)
                return (*conflict, *revert_findings(hello, since=since))

            return check_hello

        async def device_task(
            device: Device, rows: Sequence[DeviceRow], recorder: DeviceRecorder
        ) -> list[DeviceOutcome]:
            models, factory = [r.model for r in rows], self.session_factory
            check, needed = check_of(device, recorder.identity), release_cache.files_of(rows)
            return await run_device(device, models, mode, factory, release_cache, recorder, check, needed)

        async def prepare(device: Device, rows: Sequence[DeviceRow], identity: Identity) -> list[DeviceOutcome]:
            models, factory, limit_s = [r.model for r in rows], self.session_factory, mode.verify_limit_s
            check = check_of(device, identity)
            return await prepare_device(device, models, policy.keep, limit_s, factory, release_cache, check)

        return device_task, prepare if policy.prepare_next and rollout.kind == "rollout" else None


@asynccontextmanager
async def open_context(
    options: Options, progress: Progress, whole_fleet: bool = False, adopting: bool = False
) -> AsyncIterator[RolloutContext]:
    """Open the project and its state, and hold the fleet's lock while the context is open.

    Devices that were renamed in the inventory and show the same host key keep all that is stored of them.
    Raises: ConfigError, UsageError; StateError; FleetLocked while another live controller is at work; StateOlder for a
    database that is older than the file beside it, unless `adopting`.
    """
    project = open_project(replace(options, limit="") if whole_fleet else options)
    state = open_state(project.config)
    write = ThreadWriter()
    config = project.config
    try:
        async with AsyncExitStack() as receivers:  # closed when the fleet is free again: nobody else waits for them
            lock = await _locked(state, write, config, adopting)
            try:
                await write(finish_ended, state, lock)
                await write(follow_renames, state, lock, project, progress, actor(config.operator))
                release_builder = project.release_builder(progress)
                try:
                    await receivers.enter_async_context(telling(project, progress))
                    trace, progress = await receivers.enter_async_context(tracing(progress))
                    async with session_factory_for(project, progress) as factory:
                        yield RolloutContext(
                            project, state, lock, factory, release_builder, progress, write, SystemClock(), trace=trace
                        )
                finally:
                    await release_builder.close()
            finally:
                await write(state.release, lock)
    finally:
        await write(state.close)
        write.close()


@asynccontextmanager
async def telling(project: Project, progress: Progress) -> AsyncIterator[None]:
    """Deliver notices to the receivers of `notify:`, beside what runs meanwhile; at the end for some seconds more."""
    if not project.config.notify:
        yield
        return
    from ..notify import Dispatcher

    dispatcher = await asyncio.to_thread(Dispatcher, project.config, project.inventory)
    dispatcher.start()
    try:
        yield
    finally:
        for receiver, reason in (await asyncio.to_thread(dispatcher.close)).items():
            progress.message(
                f"{receiver} was not told everything: {reason}. `litefleet notify list` shows what is left"
            )


@asynccontextmanager
async def tracing(progress: Progress) -> AsyncIterator[tuple[Trace, Progress]]:
    """Give what records traces, where the environment turns them on, and the progress that it watches."""
    trace, problem = await asyncio.to_thread(trace_from)  # the library takes half a second to import
    if problem:
        progress.message(problem)
    try:
        yield trace, trace.watch(progress)
    finally:
        if trace is not NO_TRACE and (problem := await asyncio.to_thread(trace.close)):
            progress.message(f"Traces were not sent: {problem}")


async def _locked(state: State, write: Writer, config: Config, adopting: bool) -> FleetLock:
    """Lock the fleet.  Cancelled meanwhile, the lock is released again: this process may go on, as a server does."""
    taken = asyncio.ensure_future(write(state.acquire, config.fleet, this_process(config.operator), 60.0, adopting))
    try:
        return await asyncio.shield(taken)
    except asyncio.CancelledError:
        with suppress(LitefleetError):
            await write(state.release, await taken)
        raise


async def open_ones(context: RolloutContext) -> list[Rollout]:
    """Return the fleet's rollouts that are not over, the newest first."""
    latest = await context.read(context.state.rollouts, context.config.fleet, SEARCHED)
    return [rollout for rollout in latest if not rollout.state.over]


def finish_ended(state: State, lock: FleetLock) -> None:
    """Settle rows that a controller left in flight when it died after its rollout was aborted: that rollout is not resumed."""
    ended = (RolloutState.ABORTED, RolloutState.SUPERSEDED)
    for rollout in (r for r in state.rollouts(lock.fleet, 3) if r.state in ended):
        released, left = endings(state.rows(rollout.id))
        state.move(lock, rollout.id, released)
        state.move(lock, rollout.id, left)


def _digest(path: Path) -> str:
    """Return the SHA-256 of a file, or over a folder's files."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()
