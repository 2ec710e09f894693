"""Who may run a fleet: one controller at a time, of several processes and several hosts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from litefleet_controller.state import FleetLock, FleetLocked, FleetLockLost, Owner, State, this_process

from tests.controller.support.state_values import ELSEWHERE, Clock

ROOT = Path(__file__).parents[3]
PATHS = os.pathsep.join(str(ROOT / part) for part in ("agent", "inventory", "controller", "."))
HOLDER = """
import sys
from litefleet_controller.state import FleetLocked, State, this_process
state = State.open(sys.argv[1])
try:
    print("token", state.acquire("lab", this_process()).token, flush=True)
except FleetLocked as error:
    print("held", error, flush=True)
sys.stdin.read()
"""


def spawn(where: str) -> subprocess.Popen[str]:
    """Start a process that tries to take the fleet and then lives on."""
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, where],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": PATHS},
    )


@contextmanager
def controllers(where: str, count: int) -> Iterator[list[tuple[subprocess.Popen[str], str]]]:
    """Run some at once, and give what each said."""
    running = [spawn(where) for _ in range(count)]
    try:
        yield [(process, process.stdout.readline() if process.stdout else "") for process in running]
    finally:
        for process in running:
            process.kill()
            process.communicate()


def test_one_of_several_processes_gets_it(where: str) -> None:
    with controllers(where, 3) as tried:  # the database is not there yet: they also compete in making it
        output = sorted(words for _, words in tried)
        assert [words.split()[0] for words in output] == ["held", "held", "token"]
        winner = next(process.pid for process, words in tried if words.startswith("token"))
        assert f"is run by {replace(this_process(), pid=winner)}" in output[0]
        assert "litefleet pause" in output[0]


def test_a_killed_owner_is_followed_at_once_and_a_living_one_is_respected(where: str) -> None:
    with controllers(where, 1) as [(process, output)]:
        assert output == "token 1\n"
        state = State.open(where)
        with pytest.raises(FleetLocked):
            state.acquire("lab", this_process())
        holder = state.holder("lab")
        assert holder is not None
        assert holder.pid == process.pid
        os.kill(process.pid, signal.SIGKILL)  # nobody waits for it: it stays a zombie, which is dead all the same
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert state.holder("lab") is None
        assert state.acquire("lab", this_process()).token == 2
        assert state.audit()[-1].what["from"] == str(holder)
        state.close()


def test_a_stopped_owner_of_this_host_is_not_dead_however_long(state: State, clock: Clock) -> None:
    state.acquire("lab", this_process(), ttl_s=10)
    clock.now += 1000
    with pytest.raises(FleetLocked, match=f"end process {os.getpid()}"):
        state.acquire("lab", this_process())


def test_an_owner_elsewhere_is_dead_when_it_has_not_been_heard_of(state: State, clock: Clock) -> None:
    first = state.acquire("lab", ELSEWHERE, ttl_s=10)
    clock.now += 9
    state.renew(first)
    clock.now += 10
    with pytest.raises(FleetLocked, match=r"ops@other-host, process 4711 \(last sign of life 10 s ago, at 2026-11-18"):
        state.acquire("lab", this_process())
    clock.now += 0.5
    assert state.holder("lab") is None
    second = state.acquire("lab", this_process())
    assert second == FleetLock("lab", 2)
    with pytest.raises(FleetLockLost, match="taken over by"):
        state.renew(first)
    state.release(first)  # not its own any more
    assert state.holder("lab") == this_process()


def test_what_was_given_free_is_free_and_the_token_still_grows(state: State) -> None:
    first = state.acquire("lab", ELSEWHERE)
    state.release(first)
    assert state.holder("lab") is None
    with pytest.raises(FleetLockLost, match="no longer held"):
        state.renew(first)
    assert state.acquire("lab", ELSEWHERE).token == 2
    assert state.acquire("other", ELSEWHERE).token == 1
    assert state.audit() == ()


def parts(owner: Owner) -> list[str]:
    return owner.boot_id.split("/")


def test_this_process_tells_where_it_is() -> None:
    here = this_process()
    machine, boot, namespace = parts(here)
    assert here.pid == os.getpid()
    assert boot == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert namespace.isdigit()
    assert len(machine) in (0, 16)
    assert here.started.isdigit()
    assert here == this_process()


@pytest.mark.parametrize(
    ("place", "started", "free"),
    [
        ("{machine}/an-earlier-boot/{namespace}", "", True),  # this host has been started anew since
        ("{machine}/{boot}/{namespace}", "1", True),  # the pid is another process's by now
        ("{machine}/{boot}/{namespace}", "", False),
        ("{machine}/{boot}/1234", "1", False),  # another container: its pids mean nothing here
        ("another/an-earlier-boot/{namespace}", "1", False),  # another machine of the same name
        ("", "1", False),  # it could not tell
    ],
)
def test_what_a_pid_means(state: State, place: str, started: str, free: bool) -> None:
    here = this_process()
    machine, boot, namespace = parts(here)
    placed = place.format(machine=machine, boot=boot, namespace=namespace)
    state.acquire("lab", replace(here, boot_id=placed, started=started))
    if free:
        assert state.acquire("lab", here).token == 2
    else:
        with pytest.raises(FleetLocked):
            state.acquire("lab", here)


def test_a_sign_of_life_from_the_future_is_none(state: State, clock: Clock) -> None:
    clock.now += 3 * 86400  # this controller's clock is ahead
    state.acquire("lab", ELSEWHERE)
    clock.now -= 3 * 86400 - 30
    lock = state.acquire("lab", replace(ELSEWHERE, host="a-third-host"))
    assert lock.token == 2
