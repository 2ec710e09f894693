"""The whole service from its start to its end: what systemd hears, what it leaves in files, and how it goes on as another."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from litefleet_agent.client import Client, Result, ServiceError
from litefleet_agent.formats.npz import read_npz
from litefleet_agent.service.history import read_history

from tests.agent.support.service_process import AGENT, PROGRAM, Device, Load, Manager, Service

pytestmark = pytest.mark.toolchain


@pytest.fixture
def release(device: Device, nb_files: Callable, goldens: dict) -> str:
    """A release whose runtime does as it is told."""
    identity = device.release(nb_files("cls", "x86"), goldens["cls"], runtime=device.runtime())
    device.activate(identity)
    return identity


@pytest.fixture
def manager(tmp_path) -> Iterator[Manager]:
    with Manager(tmp_path) as manager:
        yield manager


def ask(device: Device, goldens: dict, **more: object) -> Result:
    with Client(device.socket, 60) as client:
        return client.infer("cls", {"x": read_npz(goldens["cls"][0])["x"]}, **more)


def serving(device: Device, **environ: str) -> Service:
    service = device.serve(**environ)
    service.told("cls switched")
    return service


def until(done: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not done():
        assert time.monotonic() < end
        time.sleep(0.01)


@contextmanager
def beside(work: Callable[[], object]) -> Iterator[list]:
    """Do something in a thread; what came of it is in the list, which the end waits for."""
    came: list = []

    def run() -> None:
        try:
            came.append(work())
        except ServiceError as error:
            came.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield came
    thread.join(60)
    assert came


# --- what systemd hears


def test_ready_is_said_once_the_goldens_passed_and_the_watchdog_is_fed_meanwhile(device, release, manager, goldens):
    device.fault("gate")
    with device.serve(NOTIFY_SOCKET=manager.path, WATCHDOG_USEC="300000") as service:
        for _ in range(3):
            manager.until("WATCHDOG=1")
        assert not [said for said in manager.heard if "READY" in said]
        assert service.status()["health"] == "starting"
        device.fault("")
        manager.until("READY=1")
        service.told("cls switched")
        manager.until("STATUS=serving cls")
        assert ask(device, goldens).release == release
        service.signal(signal.SIGTERM)
        manager.until("STOPPING=1")
        assert service.process.wait(60) == 0


def test_a_release_that_never_passes_is_never_ready_and_not_fed_beyond_its_time(device, nb_files, goldens, manager):
    device.settings(start_limit_s=1, probe_every_s=1, time_limit_s=0.1)
    device.activate(device.release(nb_files("cls", "arm"), goldens["cls"]))
    with device.serve(NOTIFY_SOCKET=manager.path, WATCHDOG_USEC="300000") as service:
        service.told("cls refused-release")
        manager.until("STATUS=nothing to serve; not served: cls")
        end = time.monotonic() + 60
        while manager.hear(1.0) is not None:  # ten times the pause between two that are fed
            assert time.monotonic() < end
        assert not [said for said in manager.heard if "READY" in said]
        assert service.status()["health"] == "failed"


def test_the_watchdog_is_fed_only_while_inference_works(device, release, manager):
    device.settings(probe_every_s=1, time_limit_s=0.2)
    with device.serve(NOTIFY_SOCKET=manager.path, WATCHDOG_USEC="300000") as service:
        manager.until("READY=1")
        manager.until("WATCHDOG=1")
        device.fault("nan")
        assert "LF404" in service.told("cls health .*the outputs of a golden are no longer correct")[0]
        service.until(lambda status: "has run no correct inference" in str(status["reasons"]))
        end = time.monotonic() + 60
        while "WATCHDOG=1" in (manager.hear(1.0) or ""):
            assert time.monotonic() < end
        assert manager.hear(1.0) is None
        device.fault("")
        manager.until("WATCHDOG=1")
        assert service.status()["health"] in ("ok", "degraded")  # until the next golden


def fed(manager: Manager, seconds: float) -> int:
    """Return how often the watchdog was fed within so many seconds from now."""
    while manager.hear(0.001) is not None:  # what was said before
        pass
    end, before = time.monotonic() + seconds, manager.heard.count("WATCHDOG=1")
    while time.monotonic() < end:
        manager.hear(max(0.01, end - time.monotonic()))
    return manager.heard.count("WATCHDOG=1") - before


def test_the_watchdog_is_fed_while_the_first_release_of_a_ready_service_is_loaded(device, nb_files, goldens, manager):
    device.settings(probe_every_s=1, time_limit_s=0.1)
    identity = device.release(nb_files("cls", "x86"), goldens["cls"], runtime=device.runtime())
    with device.serve(NOTIFY_SOCKET=manager.path, WATCHDOG_USEC="300000") as service:
        manager.until("READY=1")
        device.fault("gate")  # its goldens take their time
        device.activate(identity)
        service.until(lambda status: status["models"].get("cls", {}).get("state") == "warming")
        assert fed(manager, 2.0) >= 5
        device.fault("")
        service.told("cls switched")


def test_the_watchdog_is_fed_while_the_only_worker_is_replaced(device, release, goldens, manager):
    device.settings(probe_every_s=1, time_limit_s=0.1)
    with device.serve(NOTIFY_SOCKET=manager.path, WATCHDOG_USEC="300000") as service:
        manager.until("READY=1")
        ask(device, goldens)
        device.fault("gate")
        os.kill(service.model()["workers"][0]["pid"], signal.SIGKILL)
        service.told("cls worker-died")
        time.sleep(3.2)  # as long as a silence that counts as not working
        assert fed(manager, 1.5) >= 3
        device.fault("")
        service.ready()


def test_numbers_that_are_none_do_not_starve_the_goldens(device, release, goldens, manager):
    device.settings(probe_every_s=1, time_limit_s=0.5)
    bad = {"x": read_npz(goldens["cls"][0])["x"]}
    bad["x"] = replace(bad["x"], data=b"\xff" * len(bad["x"].data))  # NaN
    over = threading.Event()

    def flood() -> None:
        with Client(device.socket, 60) as client:
            while not over.is_set():
                with pytest.raises(ServiceError):
                    client.infer("cls", bad)

    with device.serve(NOTIFY_SOCKET=manager.path, WATCHDOG_USEC="300000") as service:
        manager.until("READY=1")
        threads = [threading.Thread(target=flood, daemon=True) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            service.until(lambda status: status["models"]["cls"]["probe"]["runs"] >= 2, 15)
            assert fed(manager, 2.0) >= 5
        finally:
            over.set()
            for thread in threads:
                thread.join(60)
        assert set(service.model()["requests"]["errors"]) == {"bad-input"}


def test_nothing_to_serve_is_ready_too(device, manager):
    with device.serve(NOTIFY_SOCKET=manager.path) as service:
        manager.until("READY=1")
        manager.until("STATUS=nothing to serve")
        assert (service.status()["health"], service.status()["models"]) == ("ok", {})
        with pytest.raises(ServiceError, match="unknown model 'cls'; known are: none"):
            service.client().infer("cls", {})


# --- the end


def test_a_stop_under_load_finishes_what_runs_and_refuses_the_rest(device, release, goldens):
    with device.serve() as service:
        service.told("cls switched")
        with Load(service, goldens["cls"]) as load:
            load.more(20)
            service.signal(signal.SIGTERM)
            assert service.process.wait(60) == 0
            load.end()
    assert (load.wrong, load.lost) == ([], 0)
    assert set(load.refused) <= {"not-running"}
    entries = read_history(str(device.root)).entries
    assert [entry["kind"] for entry in entries] == ["started", "switched", "stopped"]


def test_what_is_in_flight_at_the_stop_is_answered(device, release, goldens):
    with device.serve() as service:
        service.told("cls switched")
        device.fault("gate")
        with beside(lambda: ask(device, goldens)) as came:
            service.until(lambda status: status["models"]["cls"]["workers"][0]["state"] == "busy")
            with service.client() as client:
                client.status()
                service.signal(signal.SIGTERM)
                until(lambda: not os.path.exists(device.socket))  # it has heard
                with pytest.raises(ServiceError) as refused:
                    client.infer("cls", {"x": read_npz(goldens["cls"][0])["x"]})
                assert refused.value.code == "not-running"
            device.fault("")
        assert came[0].release == release
        assert service.process.wait(60) == 0


def test_told_twice_it_ends_at_once_and_leaves_no_process(device, release, goldens):
    with device.serve() as service:
        service.told("cls switched")
        pid = service.model()["workers"][0]["pid"]
        device.fault("gate")
        with beside(lambda: ask(device, goldens)) as came:
            service.until(lambda status: status["models"]["cls"]["workers"][0]["state"] == "busy")
            service.signal(signal.SIGTERM)
            until(lambda: not os.path.exists(device.socket))  # it has heard
            service.signal(signal.SIGTERM)
            assert service.process.wait(60) == 0
        assert came[0].code == "timed-out"
        assert "the service stopped" in str(came[0])
        assert not os.path.exists(f"/proc/{pid}")


def test_after_the_end_its_files_say_so(device, release, tmp_path):
    runtime = tmp_path / "run"
    runtime.mkdir()
    device.settings(status_every_s=0.1, textfile=str(tmp_path / "litefleet.prom"))
    with device.serve(RUNTIME_DIRECTORY=str(runtime)) as service:
        service.told("cls switched")
        live = runtime / "status.json"
        until(lambda: live.exists() and json.loads(live.read_text())["health"] == "ok")
        until(lambda: 'litefleet_health{health="ok"} 1' in (tmp_path / "litefleet.prom").read_text())
        status = json.loads(live.read_text())
        assert status["models"]["cls"]["release"] == release
        assert status["pid"] == service.process.pid
        text = (tmp_path / "litefleet.prom").read_text()
        assert f'litefleet_model_release{{model="cls",release="{release}"}} 1' in text
        with service.client() as client:
            names = {line.split("{")[0].split(" ")[0] for line in client.metrics().splitlines() if line[0] != "#"}
        assert {"litefleet_requests_total", "litefleet_latency_seconds_bucket", "litefleet_workers_worn_total"} <= names
        assert service.stop() == 0
    for path in (live, device.root / "status.json"):
        told = json.loads(path.read_text())
        assert (told["health"], told["reasons"][0]["text"]) == ("failed", "the service was stopped")
    assert 'litefleet_health{health="failed"} 1' in (tmp_path / "litefleet.prom").read_text()


# --- another one in the same process


def test_a_restart_in_place_costs_a_wait_and_no_request(device, release, goldens, manager):
    with serving(device, NOTIFY_SOCKET=manager.path) as service, Load(service, goldens["cls"]) as load:
        manager.until("READY=1")
        load.more(20)
        service.signal(signal.SIGHUP)  # nothing is different: nothing happens
        load.more(20)
        device.settings(max_batch=3, queue=7)
        service.signal(signal.SIGHUP)
        manager.until("RELOADING=1")
        manager.until("READY=1")
        service.told("stopped: restarting in the same process")
        service.told("cls switched", 2)
        load.more(20)
        load.end()
        assert (load.wrong, load.lost, load.refused) == ([], 0, {})
        status = service.status()
        assert status["pid"] == service.process.pid
        assert status["models"]["cls"]["queue"]["limit"] == 7
        assert len(service.told("started")) == 2
        device.settings(workers=0)
        service.signal(signal.SIGHUP)
        assert "`workers` is 0" in service.told("settings: .*the service keeps its present settings")[0]
        assert ask(device, goldens).release == release
        device.settings(socket=device.socket + "2")
        service.signal(signal.SIGHUP)
        manager.until("READY=1")
        with Client(device.socket + "2") as client:
            assert client.health()["health"] == "ok"
        assert not os.path.exists(device.socket)


def test_settings_that_could_not_be_served_are_not_taken(device, release, goldens):
    with serving(device) as service:
        for wrong, said in (
            ({"groups": ["no-such-group"]}, "which is not a group of this device"),
            ({"users": ["4294967296"]}, "the largest number is 4294967294"),
            ({"socket": "/" + 120 * "x"}, "the socket's path has 121 bytes"),
        ):
            device.settings(**wrong)
            service.signal(signal.SIGHUP)
            service.told(f"settings: .*{said}.*the service keeps its present settings")
            assert ask(device, goldens).release == release
        assert len(service.told("started")) == 1


def test_settings_wait_while_a_restart_would_run_a_damaged_agent(device, release, goldens):
    (device.root / "agent").mkdir()
    with serving(device) as service:
        (device.root / "agent" / ("0" * 64 + ".pyz")).write_bytes(b"damaged")
        (device.root / "agent" / "litefleet-agent.pyz").symlink_to("0" * 64 + ".pyz")
        device.settings(queue=7)
        service.signal(signal.SIGHUP)
        service.told("settings: the agent 0+.pyz does not match the SHA-256 in its name")
        assert ask(device, goldens).release == release


def test_who_is_told_to_end_while_it_starts_again_ends(device, release, goldens, manager):
    with device.serve(NOTIFY_SOCKET=manager.path) as service:
        manager.until("READY=1")
        device.fault("gate")
        with beside(lambda: ask(device, goldens)) as came:
            service.until(lambda status: status["models"]["cls"]["workers"][0]["state"] == "busy")
            device.settings(socket=device.socket, queue=7)
            service.signal(signal.SIGHUP)
            manager.until("RELOADING=1")  # it waits for what runs
            service.signal(signal.SIGTERM)
            manager.until("STOPPING=1")
            device.fault("")
            until(lambda: came)
        assert came[0].release == release
        assert service.process.wait(60) == 0
        assert len(service.told("started")) == 1
        assert not os.path.exists(device.socket)


def test_a_hanging_worker_does_not_outlive_a_restart_in_place(device, release, goldens, manager):
    with device.serve(NOTIFY_SOCKET=manager.path) as service:
        manager.until("READY=1")
        pid = service.model()["workers"][0]["pid"]
        os.kill(pid, signal.SIGSTOP)
        device.settings(queue=7)
        service.signal(signal.SIGHUP)
        manager.until("RELOADING=1")
        manager.until("READY=1")
        assert not os.path.exists(f"/proc/{pid}")
        assert ask(device, goldens).release == release


def test_callers_wait_for_a_service_that_starts(device, release, goldens):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:  # as systemd holds it
        listening.bind(device.socket)
        listening.listen(5)
        with beside(lambda: ask(device, goldens)) as came:
            code = (
                f"import os, sys; os.dup2({listening.fileno()}, 3)\n"
                "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1')\n"
            )
            argv = ["-c", code + PROGRAM % str(AGENT)]
            with Service(device, argv, pass_fds=[listening.fileno()]) as service:
                service.told("cls switched")
                until(lambda: came)
                assert came[0].release == release
                assert service.model()["requests"]["errors"] == {}


def test_a_deadline_ends_the_wait_for_a_model_that_is_being_loaded(device, release, goldens):
    device.fault("gate")  # its goldens wait
    with device.serve() as service:
        service.told("started")
        with pytest.raises(ServiceError, match="waited until its deadline; cls is not ready: its release") as told:
            ask(device, goldens, deadline_ms=200)
        assert told.value.code == "timed-out"
        device.fault("")
        assert ask(device, goldens, deadline_ms=60000).release == release


# --- what an operator can do wrong


def refused(device: Device, root: object = None) -> tuple[int, str]:
    done = subprocess.run(
        [str(device.python), "-c", PROGRAM % str(AGENT), "serve", "--root", str(root or device.root)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"workers": 0}', "service.json: `workers` is 0; it must be a number from 1 to 64"),
        ('{"workers": true}', "`workers` is True; it must be a number"),
        ('{"worker": 1}', "service.json has no setting `worker`; did you mean `workers`?"),
        ('{"x y": 1}', "service.json has no setting `x y`; known are socket, models"),
        ('{"power_mode": "LITE_POWER_TURBO"}', "it must be LITE_POWER_ and one of HIGH, LOW, FULL"),
        ('{"socket": "agent.sock"}', "`socket` is 'agent.sock'; it must be a path that begins with /"),
        ('{"textfile": "x.prom"}', "`textfile` is 'x.prom'"),
        ('{"models": ["../x"]}', "`models` names '../x', which is not a valid model name"),
        ('{"models": "cls"}', "`models` must be a list of names"),
        ('{"users": ["nobody-of-that-name"]}', "which is not a user of this device"),
        ("[]", "service.json must hold a JSON object"),
        ("{", "is not JSON"),
        ('{"io_limit_s": NaN}', "`io_limit_s` is nan"),
    ],
)
def test_wrong_settings_are_a_sentence(device, text, sentence):
    (device.root / "service.json").write_text(text)
    code, said = refused(device)
    assert (code, sentence in said) == (2, True), said


def test_settings_in_a_fifo_are_a_sentence_and_not_a_wait(device):
    (device.root / "service.json").unlink()
    os.mkfifo(device.root / "service.json")
    code, said = refused(device)
    assert (code, "service.json: is a FIFO, not a regular file" in said) == (2, True), said


def test_a_root_that_is_not_there_is_a_sentence(device, tmp_path):
    code, said = refused(device, tmp_path / "none")
    assert code == 1
    assert said.startswith(
        f"litefleet-agent: the folder {tmp_path / 'none'} is missing: `litefleet provision` creates it"
    )
    assert not (tmp_path / "none").exists()


def test_one_root_has_one_service(device, release, goldens):
    with device.serve() as service:
        service.told("cls switched")
        device.settings(socket=device.socket + "2")
        code, said = refused(device)
        assert (code, "another service already serves" in said) == (1, True)
        assert ask(device, goldens).release == release
    assert [entry["kind"] for entry in read_history(str(device.root)).entries] == ["started", "switched"]
