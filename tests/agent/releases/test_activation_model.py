"""Any order of switches, confirmations, waiting, restarts and power cuts: links and leases are what a simple model says."""

from __future__ import annotations

import shutil
import tempfile
from typing import NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from litefleet_agent.releases.activation import activate, confirm, open_leases, recover, rollback
from litefleet_agent.releases.store import StoreError

from tests.agent.support.power_cut import MEMORY, Cut, cut
from tests.agent.support.release_fixtures import SetClock, links, opened, proven

MODELS = ("cls", "det")
NOTES = ("A", "B", "C")


class Device(NamedTuple):
    """One model on the device: what runs, what ran before, and, under a lease, what it goes back to and when."""

    current: str = ""
    previous: str = ""
    back: tuple[str, ...] = ()  # (current, previous); () = no lease is on
    until: float = 0.0

    def settled(self) -> Device:
        return Device(*self.back) if self.back else self


class Refusal(Exception):
    pass


Path = list  # of Device: the states that an operation passes, the last one being its end


def activated(device: Device, note: str, lease: float, now: float) -> Path:
    if device.current == note and device.back:
        return [device, device._replace(until=now + lease) if lease else device._replace(back=(), until=0.0)]
    base = device.settled()
    if base.current == note:
        return [device, base]
    back = base[:2] if lease else ()
    return [device, base, Device(note, base.current, back, now + lease if lease else 0.0)]


def confirmed(device: Device, note: str) -> Path:
    if device.current != note:
        raise Refusal
    return [device, device._replace(back=(), until=0.0)]


def rolled_back(device: Device, to: str) -> Path:
    base = device.settled()
    if to == "previous":
        to = device.back[0] if device.back else device.previous
        if not to:
            raise Refusal
    to = "" if to == "nothing" else to
    return [device, base] if base.current == to else [device, base, Device(to, base.current)]


class Switching(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.mkdtemp(dir=MEMORY)
        self.clock = SetClock()
        self.store = opened(self.folder, self.clock)
        self.ids = {(m, n): proven(self.store, n, m) for m in MODELS for n in NOTES}
        self.notes = {identity: note for (_, note), identity in self.ids.items()}
        self.devices = {model: Device() for model in MODELS}

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.store.unlock()
            shutil.rmtree(self.folder)

    def expire(self) -> None:
        """What the device does on the next contact."""
        for model, device in self.devices.items():
            if device.back and self.clock.up >= device.until:
                self.devices[model] = device.settled()

    def found(self, model: str) -> Device:
        current, previous = (self.notes.get(identity, identity) for identity in links(self.store, model))
        lease = open_leases(self.store).get(model)
        if lease is None or lease.lease is None:
            return Device(current, previous)
        back = tuple(self.notes.get(i, i) for i in (lease.before, lease.before_previous))
        return Device(current, previous, back, lease.lease.deadline_boottime)

    def attempt(self, model: str, expected, work, at: int) -> None:
        self.expire()
        try:
            path = expected(self.devices[model])
        except Refusal:
            path = None
        try:
            if at:
                with cut(at, self.power_cut):
                    work()
            else:
                work()
        except Cut:
            self.start_again()
            self.devices[model] = self.after_cut(model, path or [self.devices[model]])
        except StoreError:
            assert path is None
        else:
            assert path is not None
            self.devices[model] = path[-1]

    @staticmethod
    def power_cut() -> None:
        raise Cut

    def start_again(self) -> None:
        """Another session in the same boot: the process was killed."""
        self.store.unlock()
        self.store = opened(self.folder, self.clock)

    def after_cut(self, model: str, path: Path) -> Device:
        found = self.found(model)
        assert found in path
        return found

    points = st.just(0) | st.integers(1, 16)
    names = st.sampled_from(MODELS)

    @rule(model=names, note=st.sampled_from(NOTES), lease=st.sampled_from([0, 60, 600]), at=points)
    def activate(self, model: str, note: str, lease: float, at: int) -> None:
        now = self.clock.up
        self.attempt(
            model,
            lambda device: activated(device, note, lease, now),
            lambda: activate(self.store, self.ids[model, note], lease),
            at,
        )

    @rule(model=names, note=st.sampled_from(NOTES), at=points)
    def confirm(self, model: str, note: str, at: int) -> None:
        work = self.ids[model, note]
        self.attempt(model, lambda device: confirmed(device, note), lambda: confirm(self.store, work), at)

    @rule(model=names, to=st.sampled_from(["previous", "nothing", *NOTES]), at=points)
    def roll_back(self, model: str, to: str, at: int) -> None:
        target = self.ids.get((model, to), to)
        self.attempt(model, lambda device: rolled_back(device, to), lambda: rollback(self.store, model, target), at)

    @rule(seconds=st.sampled_from([1, 59, 61, 700]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(at=points)
    def restart(self, at: int) -> None:
        """The device restarts, and is cut off once more while it recovers."""
        self.clock.restart()
        self.devices = {model: device.settled() for model, device in self.devices.items()}
        self.store.unlock()
        try:
            with cut(at, self.power_cut):
                opened(self.folder, self.clock).unlock()
        except Cut:
            pass
        self.store = opened(self.folder, self.clock)

    @rule()
    def contact(self) -> None:
        self.expire()
        recover(self.store)
        assert recover(self.store) == []

    @invariant()
    def agrees(self) -> None:
        if hasattr(self, "devices"):
            for model, device in self.devices.items():
                assert self.found(model) == device


Switching.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestSwitching = Switching.TestCase
