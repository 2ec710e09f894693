"""From the outbox to its receivers: past crashes, past receivers that fail or hang, and by the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from litefleet_controller.cli import main
from litefleet_controller.config import load_config
from litefleet_controller.config.notify import ReceiverConfig
from litefleet_controller.notify import Dispatcher
from litefleet_controller.notify.dispatch import again_in_s
from litefleet_controller.project.project import open_state
from litefleet_controller.rollout import RolloutEvent, RolloutState
from litefleet_controller.state import ServiceStatus, this_process
from litefleet_inventory import load

from tests.controller.notify.receivers import Hook, hook
from tests.controller.support.state_values import rollout, rows

# A process that is killed right after it has stored what happened.
_KILLED = """
import os, signal, sys
from pathlib import Path
from litefleet_controller.rollout import RolloutEvent, RolloutState
from tests.controller.notify.test_dispatch import happened

happened(Path(sys.argv[1]), RolloutEvent.FINISH, RolloutState.DONE)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def server() -> Iterator[Hook]:
    with hook() as running:
        yield running


@pytest.fixture
def project(tmp_path: Path) -> Callable[..., Path]:
    """A maker of projects with these receivers; the devices d0 and d1, of which d1 has the tag `far`."""

    def make(**receivers: Any) -> Path:
        (tmp_path / "fleet.yaml").write_text(
            "devices:\n  d0: {host: 127.0.0.1}\n  d1: {host: 127.0.0.2, tags: [far]}\n"
        )
        model = {"nb": {"x86_64": "x.nb"}, "golden": {"files": ["a.npz", "b.npz"]}}
        content = {"fleet": "lab", "models": {"cls": model}, "notify": receivers}
        (tmp_path / "litefleet.yaml").write_text(yaml.safe_dump(content))
        return tmp_path / "litefleet.yaml"

    return make


def happened(config: Path, event: RolloutEvent, after: RolloutState) -> None:
    """Store a rollout that stops, ends or waits."""
    with closing(open_state(load_config(config))) as state:
        lock = state.acquire("lab", this_process())
        planned = state.create(lock, rollout(), rows(2), [], {})
        running = replace(planned, state=RolloutState.RUNNING)
        state.advance(lock, planned, RolloutEvent.START, running)
        state.advance(lock, running, event, replace(running, state=after))
        state.release(lock)


def killed_after(config: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _KILLED, str(config)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        cwd=Path(__file__).parents[3],
        timeout=60,
    )
    assert ended.returncode == -signal.SIGKILL


def run_cli(*args: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["notify", *args])
    return int(ended.value.code or 0)


def test_what_a_killed_process_had_to_tell_is_told(
    project: Callable[..., Path], server: Hook, capsys: pytest.CaptureFixture[str]
) -> None:
    config = project(chat={"webhook": {"url": server.url}}, late={"command": {"argv": ["false"]}})
    killed_after(config)
    assert server.received == []
    assert run_cli("list", "-c", str(config), "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed["receivers"]["chat"] == {"waiting": 1, "dead": 0, "delivered": 0}
    assert run_cli("send", "-c", str(config)) == 1
    assert "late: false: exit code 1" in capsys.readouterr().err
    assert [json.loads(got.body)["event"] for got in server.received] == ["finished"]
    assert run_cli("list", "-c", str(config)) == 0
    shown = capsys.readouterr().out
    assert "chat  finished r-" in shown
    assert "chat: 0 waiting, 0 dead, 1 delivered" in shown
    assert "late: 1 waiting" in shown


def test_a_dead_notice_is_listed_and_sent_again(
    project: Callable[..., Path], server: Hook, capsys: pytest.CaptureFixture[str]
) -> None:
    config = project(chat={"webhook": {"url": server.url}, "attempts": 1})
    server.statuses = [500]
    happened(config, RolloutEvent.ASK, RolloutState.WAITING)
    assert run_cli("send", "-c", str(config)) == 1
    assert "it responded with status 500" in capsys.readouterr().err
    run_cli("list", "-c", str(config), "--json")
    (dead,) = json.loads(capsys.readouterr().out)["notices"]
    assert (dead["state"], dead["attempts"], dead["next_at"]) == ("dead", 1, None)
    assert run_cli("retry", "n-unknown", "-c", str(config)) == 2
    assert run_cli("retry", dead["id"], "-c", str(config)) == 0
    assert [got.headers["webhook-id"] for got in server.received] == [dead["id"], dead["id"]]


def test_a_limit_selects_what_a_receiver_is_told(project: Callable[..., Path], server: Hook) -> None:
    near = {"webhook": {"url": server.url + "near"}, "limit": "!tag:far"}
    far = {"webhook": {"url": server.url + "far"}, "limit": "tag:far"}
    config = load_config(project(near=near, far=far))
    with closing(open_state(config)) as state:
        state.record_history(ServiceStatus("d1", "aa", 0, {"drift": 2}, 1.0))
    dispatcher = Dispatcher(config, load(config.inventory.path))
    dispatcher.start()
    assert dispatcher.close(20) == {}
    assert [got.path for got in server.received] == ["/far"]
    with closing(open_state(config)) as state:
        assert state.outbox("lab").counts() == {("far", "delivered"): 1}


def test_a_limit_that_selects_nothing_is_an_error(
    project: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    config = project(chat={"command": {"argv": ["true"]}, "limit": "tag:nowhere"})
    assert run_cli("send", "-c", str(config)) == 2
    assert "notify.chat.limit: " in capsys.readouterr().err


def test_a_test_is_delivered_and_not_stored(
    project: Callable[..., Path], server: Hook, capsys: pytest.CaptureFixture[str]
) -> None:
    config = project(chat={"webhook": {"url": server.url}}, late={"command": {"argv": ["false"]}})
    assert run_cli("test", "chat", "-c", str(config)) == 0
    assert json.loads(server.received[0].body)["event"] == "test"
    assert run_cli("test", "-c", str(config)) == 1
    assert run_cli("test", "nobody", "-c", str(config)) == 2
    assert "Available: chat, late" in capsys.readouterr().err
    assert run_cli("list", "-c", str(config)) == 0
    assert "n-" not in capsys.readouterr().out


def test_a_receiver_that_hangs_keeps_no_command_from_its_end(project: Callable[..., Path], server: Hook) -> None:
    server.drip_s = 30.0
    slow = {"webhook": {"url": server.url, "time_limit_s": 30}}
    config = load_config(project(slow=slow, quick={"command": {"argv": ["true"]}}))
    happened(config.inventory.path.with_name("litefleet.yaml"), RolloutEvent.PAUSE, RolloutState.PAUSED)
    dispatcher = Dispatcher(config, load(config.inventory.path))
    dispatcher.start()
    began = time.monotonic()
    left = dispatcher.close(2.0)
    assert time.monotonic() - began < 15
    assert left == {"slow": "it has not responded yet"}
    with closing(open_state(config)) as state:
        assert state.outbox("lab").counts() == {("slow", "waiting"): 1, ("quick", "delivered"): 1}
        assert state.outbox("lab").claim("slow") is None  # the attempt that is under way has it for three minutes


def test_attempts_grow_further_apart() -> None:
    receiver = ReceiverConfig.model_validate({"command": {"argv": ["true"]}})
    waits = [again_in_s(attempt, receiver) for attempt in range(1, 11)]
    assert waits == [10, 40, 160, 640, 2560, 10240, 21600, 21600, 21600, None]
