"""A running `litefleet serve` delivers notices, also to receivers that are named while it runs."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from litefleet_controller.rollout import RolloutEvent, RolloutState
from litefleet_controller.serve import notices

from tests.controller.notify.receivers import hook
from tests.controller.notify.test_dispatch import happened
from tests.controller.serve.serving import running, service_in

_PATIENT_S = 30


def within(seconds: float, holds: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.05)
    return holds()


def write(folder: Path, **receivers: object) -> Path:
    (folder / "fleet.yaml").write_text("devices:\n  d0: {host: 127.0.0.1}\n  d1: {host: 127.0.0.2}\n")
    model = {"nb": {"x86_64": "x.nb"}, "golden": {"files": ["a.npz", "b.npz"]}}
    content = {"fleet": "lab", "models": {"cls": model}, "store": str(folder / "store"), "notify": receivers}
    (folder / "litefleet.yaml").write_text(yaml.safe_dump(content))
    return folder / "litefleet.yaml"


def test_the_server_tells_receivers_and_follows_its_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "LOOK_S", 0.1)
    service = service_in(tmp_path)
    with hook() as first, hook() as second:
        config = write(tmp_path, chat={"webhook": {"url": first.url}})
        happened(config, RolloutEvent.ASK, RolloutState.WAITING)  # before the server starts
        with running(service):
            assert within(_PATIENT_S, lambda: len(first.received) == 1)
            config.write_text("fleet: [")  # an operator is writing: the receivers stay
            time.sleep(0.3)
            write(tmp_path, other={"webhook": {"url": second.url}})
            happened(config, RolloutEvent.FINISH, RolloutState.DONE)
            assert within(_PATIENT_S, lambda: len(second.received) == 1)
        assert "other" not in {thread.name for thread in threading.enumerate()}
        assert [json.loads(got.body)["event"] for got in first.received] == ["approval-wanted"]
        assert [json.loads(got.body)["event"] for got in second.received] == ["finished"]
