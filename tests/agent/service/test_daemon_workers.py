"""The whole service when its workers fail it: what was in flight gets a clear error, the rest is answered, another one comes."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

import numpy as np
import pytest
from litefleet_agent.client import Result, ServiceError

from tests.agent.support.service_process import Device, Load, Service, cases

pytestmark = pytest.mark.toolchain
MIB = 1 << 20


@pytest.fixture
def release(device: Device, nb_files: Callable, goldens: dict) -> str:
    """A release whose runtime does as it is told."""
    identity = device.release(nb_files("cls", "x86"), goldens["cls"], runtime=device.runtime())
    device.activate(identity)
    return identity


@pytest.fixture
def x(goldens: dict) -> np.ndarray:
    return cases(goldens["cls"])[0][0]["x"]


def serving(device: Device, workers: int = 1, name: str = "cls", **settings: object) -> Service:
    device.settings(workers=workers, **settings)
    service = device.serve()
    service.told(f"{name} switched")
    service.ready(workers, name)
    return service


class Asked(threading.Thread):
    """One request, asked beside the test; `end` returns its answer, or the error that it got."""

    def __init__(self, service: Service, x: np.ndarray, **more: object) -> None:
        super().__init__(daemon=True)
        self._service, self._x, self._more = service, x, more
        self._came: Result | None = None
        self.start()

    def run(self) -> None:
        with self._service.client() as client:
            try:
                self._came = client.infer("cls", {"x": self._x}, **self._more)
            except ServiceError as error:
                self._came = error

    def end(self) -> Result:
        self.join(60)
        assert self._came is not None
        return self._came

    def error(self) -> ServiceError:
        came = self.end()
        assert isinstance(came, ServiceError), came
        return came


def busy(service: Service) -> dict:
    """Wait until a worker runs something, and return what is told of it."""

    def one(status: dict) -> list:
        return [w for w in status["models"]["cls"]["workers"] if w["state"] == "busy"]

    return one(service.until(one))[0]


# --- killed, stopped, grown


def test_a_killed_worker_costs_what_it_ran_and_nothing_else(device, release, goldens, x):
    with serving(device) as service, Load(service, goldens["cls"]) as load:
        load.more(20)
        pid = service.model()["workers"][0]["pid"]
        os.kill(pid, signal.SIGKILL)
        assert "died with SIGKILL" in service.told("cls worker-died")[0]
        load.more(20)
        load.end()
        assert (load.wrong, load.lost, set(load.refused) - {"crashed"}) == ([], 0, set())
        assert load.refused["crashed"] <= 1
        model = service.model()
        assert model["worker_deaths"] == 1
        assert model["workers"][0]["pid"] != pid
        device.fault("gate")
        asked = Asked(service, x)
        os.kill(busy(service)["pid"], signal.SIGKILL)
        error = asked.error()
        assert (error.code, error.finding["code"]) == ("crashed", "LF411")
        assert "the worker ended while it ran this request" in str(error)


def test_a_stopped_worker_is_ended_in_time_and_the_others_go_on(device, release, goldens, x):
    with serving(device, 2, time_limit_s=1) as service:
        device.fault("gate")
        asked = Asked(service, x)
        pid = busy(service)["pid"]
        os.kill(pid, signal.SIGSTOP)
        device.fault("")
        with Load(service, goldens["cls"], 2) as load:
            error = asked.error()
            load.more(5)
        assert (load.wrong, load.lost, load.refused) == ([], 0, {})
        assert (error.code, error.finding["code"]) == ("timed-out", "LF408")
        service.told("cls worker-died .*LF408 time-limit: The worker of cls was still running 1 requests after 1 s")
        service.ready(2)
        assert pid not in [worker["pid"] for worker in service.model()["workers"]]


def test_what_was_not_begun_when_its_time_was_over_is_not_said_to_hang(device, release, x):
    with serving(device) as service, service.client() as client:
        client.infer("cls", {"x": x})  # runs are short: the next is given ahead
        device.fault("gate")
        first = Asked(service, x)
        busy(service)
        late = Asked(service, x, deadline_ms=300).error()
        assert (late.code, late.finding) == ("timed-out", None)
        assert "waited until its deadline" in str(late)
        device.fault("")
        first.end()


def test_a_worker_that_grows_is_replaced_between_two_requests(device, release, goldens):
    with serving(device, memory_limit_bytes=256 * MIB) as service, Load(service, goldens["cls"]) as load:
        pid = service.model()["workers"][0]["pid"]
        device.fault("grow 40")
        assert "its limit is 256 MiB" in service.told("cls worker-worn .*LF411")[0]
        device.fault("")
        load.more(20)
        load.end()
        assert (load.wrong, load.lost, load.refused) == ([], 0, {})
        model = service.model()
        assert (model["workers_worn"] >= 1, model["worker_deaths"]) == (True, 0)
        assert model["workers"][0]["pid"] != pid


def test_a_worker_that_takes_far_too_much_at_once_is_ended_while_it_runs(device, release, x):
    with serving(device, memory_limit_bytes=256 * MIB) as service:
        device.fault("hog 400")
        error = Asked(service, x).error()
        assert (error.code, error.finding["code"]) == ("crashed", "LF411")
        device.fault("")
        service.ready()
        with service.client() as client:
            assert client.infer("cls", {"x": x}).release == release


def test_a_request_that_ends_every_worker_is_told_so_and_honest_ones_are_answered(device, release, goldens, x):
    x = x.copy()
    x.flat[0] = -7
    with serving(device) as service, Load(service, goldens["cls"], 2) as load:
        for _ in range(3):
            error = Asked(service, x).error()
            assert (error.code, error.finding["code"]) == ("crashed", "LF401")
            load.more(5)
    assert (load.wrong, load.lost, load.refused) == ([], 0, {})


# --- several of them, and several requests at once


def test_several_workers_share_the_work(device, release, goldens):
    with serving(device, 2) as service, Load(service, goldens["cls"]) as load:
        load.more(60)
        load.end()
        assert (load.wrong, load.lost, load.refused) == ([], 0, {})
        workers = service.model()["workers"]
        assert len({worker["pid"] for worker in workers}) == 2
        assert min(worker["runs"] for worker in workers) >= 10


@pytest.mark.parametrize("name", ["cls", "rec"])
def test_what_is_run_together_comes_out_as_alone(device, nb_files, goldens, name):
    device.activate(device.release(nb_files(name, "x86"), goldens[name], name))
    service = serving(device, name=name, max_batch=4, batch_wait_s=0.05)
    with service, Load(service, goldens[name], 8, name) as load:
        load.until(lambda load: load.batches[4] >= 8)
        load.end()
        assert (load.wrong, load.lost, load.refused) == ([], 0, {})
        assert service.model(name)["facts"]["batches"] is True


def test_of_those_run_together_only_the_one_to_blame_is_refused(device, release, x):
    poison = x.copy()
    poison.flat[0] = -7
    with serving(device, max_batch=4, batch_wait_s=1) as service:
        asked = [Asked(service, one) for one in (x, poison, x, x)]
        came = [one.end() for one in asked]
        assert [getattr(one, "code", "ok") for one in came] == ["ok", "crashed", "ok", "ok"]
        assert service.model()["worker_deaths"] == 2  # once together, once alone


# --- time and room


def test_a_deadline_ends_the_wait_and_not_the_worker(device, release, x):
    with serving(device) as service:
        device.fault("gate")
        runs, waits = Asked(service, x, deadline_ms=200), Asked(service, x, deadline_ms=300)
        errors = {str(error).split(" ")[1]: error for error in (runs.error(), waits.error())}
        assert {error.code for error in errors.values()} == {"timed-out"}
        assert "cls was still running the request after 0." in str(errors["was"])
        assert "waited until its deadline" in str(errors["request"])
        device.fault("")
        with service.client() as client:
            assert client.infer("cls", {"x": x}).release == release
        assert service.model()["worker_deaths"] == 0
        assert service.model()["requests"]["errors"] == {"timed-out": 2}


def test_a_full_queue_is_busy_and_what_waits_is_answered(device, release, x):
    with serving(device, queue=2) as service:
        device.fault("gate")
        asked = [Asked(service, x)]
        busy(service)
        for count in (1, 2):
            asked.append(Asked(service, x))
            service.until(lambda status, count=count: status["models"]["cls"]["queue"]["length"] == count)
        error = Asked(service, x).error()
        assert (error.code, "2 requests of cls already wait" in str(error)) == ("busy", True)
        device.fault("")
        assert [one.end().release for one in asked] == [release] * 3
        assert service.model()["queue"] == {"length": 0, "limit": 2, "rejected": 1}


def test_who_is_gone_is_not_run_for(device, release, x):
    with serving(device) as service:
        device.fault("gate")
        first = Asked(service, x)
        busy(service)
        with service.client(0.2) as client, pytest.raises(ServiceError, match="did not answer in time"):
            client.infer("cls", {"x": x})
        service.until(lambda status: status["models"]["cls"]["queue"]["length"] == 0)
        device.fault("")
        assert first.end().release == release
        assert service.model()["requests"]["ok"] == 1


def test_threads_and_a_power_mode_that_the_runtime_does_not_have(device, release, x):
    with serving(device, threads=2, power_mode="LITE_POWER_HIGH") as service:
        facts = service.model()["facts"]
        assert (facts["threads_set_by"], facts["power_mode"]) == ("environment", "")
        told = [(one["name"], one["asked"], one["state"]) for one in facts["settings"]]
        assert told == [("threads", "2", "not-taken"), ("power mode", "LITE_POWER_HIGH", "not-taken")]
        with service.client() as client:
            assert client.infer("cls", {"x": x}).release == release
