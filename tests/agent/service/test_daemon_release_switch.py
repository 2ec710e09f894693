"""The whole service while releases change under it: real models, real workers, callers that ask all the while."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from litefleet_agent.client import Result, ServiceError
from litefleet_agent.formats.npz import read_npz
from litefleet_agent.releases.activation import open_leases
from litefleet_agent.service.history import read_history
from litefleet_agent.verification.compare import compare, default_tolerance

from tests.agent.support.service_process import Device, Held, Load, Service

Goldens = dict
pytestmark = pytest.mark.toolchain


@pytest.fixture
def releases(device: Device, nb_files: Callable, goldens: Goldens) -> tuple[str, str]:
    """Two releases of one file: the goldens stand in another order, so each has an id of its own."""
    nb = nb_files("cls", "x86")
    first, second = (
        device.release(nb, goldens["cls"]),
        device.release(nb, goldens["cls"][::-1], runtime=device.runtime()),
    )
    assert first != second
    device.activate(first)
    return first, second


def served(device: Device, release: str) -> Service:
    service = device.serve()
    service.told(f"cls switched {release[:12]}")
    return service


def one(service: Service, goldens: Goldens, **more: object) -> Result:
    with service.client() as client:
        return client.infer("cls", {"x": read_npz(goldens["cls"][0])["x"]}, **more)


def sound(load: Load) -> None:
    """Every answer was the golden's, and nobody was left without one or an error."""
    assert load.wrong == []
    assert load.lost == 0


# --- a new release that is good


def test_a_switch_under_load_loses_nothing(device, releases, goldens):
    first, second = releases
    with served(device, first) as service, Load(service, goldens["cls"]) as load:
        load.more(60)
        device.activate(second)
        load.until(lambda load: load.releases[second] >= 60)
        load.end()
        sound(load)
        assert load.refused == {}
        assert set(load.releases) == {first, second}
        model = service.model()
        assert model["requests"] == {"total": load.asked, "ok": load.asked, "errors": {}}
        assert (model["release"], model["before"], model["state"]) == (second, first, "serving")
        assert (model["switches"], model["rollbacks"], model["worker_deaths"]) == (2, 0, 0)


def test_back_and_forth_under_load_loses_nothing(device, releases, goldens):
    with served(device, releases[0]) as service, Load(service, goldens["cls"]) as load:
        for turn in range(1, 6):
            load.more(20)
            wanted = releases[turn % 2]
            device.activate(wanted)
            load.until(lambda load, wanted=wanted, before=load.releases[wanted]: load.releases[wanted] > before + 5)
        load.end()
        sound(load)
        assert load.refused == {}
        assert [line.split()[:3] for line in service.told("cls switched", 6)] == [
            ["cls", "switched", releases[turn % 2][:12] + (":" if turn in (2, 4) else "")] for turn in range(6)
        ]  # those marked were still warm


def test_what_is_in_flight_at_the_switch_is_answered_by_whom_it_was_given_to(device, releases, goldens):
    first, second = releases
    device.activate(second)  # its runtime has a gate
    with served(device, second) as service:
        device.fault("gate")
        results: list = []
        asking = threading.Thread(target=lambda: results.append(one(service, goldens)))
        asking.start()
        service.until(lambda status: status["models"]["cls"]["workers"][0]["state"] == "busy")
        device.activate(first)
        service.told(f"cls switched {first[:12]}")
        assert one(service, goldens).release == first
        device.fault("")
        asking.join(60)
        assert [result.release for result in results] == [second]
        wanted = read_npz(goldens["cls"][0])["softmax_0.tmp_0"]
        assert compare(wanted, results[0].outputs["softmax_0.tmp_0"], default_tolerance("fp32")).ok


def test_two_models_switch_apart(device, releases, nb_files, goldens):
    detection = device.release(nb_files("det", "x86"), goldens["det"], "det")
    device.activate(detection)
    with served(device, releases[0]) as service:
        service.told(f"det switched {detection[:12]}")
        with Load(service, goldens["det"], 1, "det") as load:
            load.more(1)
            device.activate(releases[1])
            service.told(f"cls switched {releases[1][:12]}")
            load.more(2)
        sound(load)
        assert (load.refused, set(load.releases)) == ({}, {detection})
        with service.client() as client, pytest.raises(ServiceError, match="known are: cls, det") as refused:
            client.infer(None, {"x": read_npz(goldens["cls"][0])["x"]})
        assert refused.value.code == "unknown-model"
        device.rollback("det", "nothing")
        service.told("det stopped")
        status = service.until(lambda status: "det" not in status["models"])
        assert status["health"] == "ok"
        with service.client() as client:
            assert client.infer(None, {"x": read_npz(goldens["cls"][0])["x"]}).release == releases[1]


# --- one that does not pass its goldens


def wrong_golden(nb_files: Callable, goldens: Goldens, folder: Path) -> tuple:
    import numpy as np

    held = dict(np.load(goldens["cls"][0]))
    np.savez(folder / "wrong.npz", **dict(held, **{"softmax_0.tmp_0": held["softmax_0.tmp_0"][:, ::-1]}))
    return nb_files("cls", "x86"), [folder / "wrong.npz"]


def for_arm(nb_files: Callable, goldens: Goldens, folder: Path) -> tuple:
    return nb_files("cls", "arm"), goldens["cls"]


def int8(nb_files: Callable, goldens: Goldens, folder: Path) -> tuple:
    return nb_files("cls", "x86", quant_model="true", quant_type="QUANT_INT8"), goldens["cls"]


@pytest.mark.parametrize(
    ("make", "code"), [(wrong_golden, "LF403"), (for_arm, "LF101"), (int8, "LF404")], ids=["golden", "arm", "int8"]
)
def test_a_release_that_does_not_pass_never_serves(device, releases, nb_files, goldens, tmp_path, make, code):
    first, _ = releases
    nb, cases = make(nb_files, goldens, tmp_path)
    bad = device.release(nb, cases)
    with served(device, first) as service, Load(service, goldens["cls"]) as load:
        load.more(10)
        device.activate(bad)
        service.told(f"cls went-back {bad[:12]}: it did not pass its goldens in the service")
        load.more(10)
        load.end()
        sound(load)
        assert (load.refused, set(load.releases)) == ({}, {first})
        assert device.current() == first
        status = service.status()
        assert status["health"] == "degraded"
        assert status["reasons"][0]["text"].startswith(f"cls was reverted from {bad[:12]} by the service: ")
        assert status["reasons"][0]["finding"]["code"] == code
        assert (status["models"]["cls"]["wanted"], status["models"]["cls"]["rollbacks"]) == (first, 1)
    kinds = [(e["kind"], e.get("release")) for e in read_history(str(device.root)).entries]
    assert kinds == [("started", None), ("switched", first), ("refused-release", bad), ("went-back", bad)]


def test_with_nothing_to_go_back_to_it_is_said_and_the_next_one_is_served(device, nb_files, goldens):
    bad = device.release(nb_files("cls", "arm"), goldens["cls"])
    good = device.release(nb_files("cls", "x86"), goldens["cls"])
    device.activate(bad)
    with device.serve() as service:
        service.told(f"cls refused-release {bad[:12]}: LF101")
        with pytest.raises(ServiceError, match="cls is not served: ") as refused:
            one(service, goldens)
        assert (refused.value.code, refused.value.finding["code"]) == ("not-ready", "LF101")
        status = service.status()
        assert (status["health"], status["models"]["cls"]["state"]) == ("failed", "failed")
        assert device.current() == bad
        device.activate(good)
        service.told(f"cls switched {good[:12]}")
        assert one(service, goldens).release == good
        assert service.status()["health"] == "ok"


def test_without_roll_back_the_disk_stays_as_it_was_told(device, releases, nb_files, goldens):
    first, _ = releases
    device.settings(roll_back=False)
    bad = device.release(nb_files("cls", "arm"), goldens["cls"])
    with served(device, first) as service, Load(service, goldens["cls"]) as load:
        device.activate(bad)
        service.told("cls refused-release")
        load.more(20)
        load.end()
        sound(load)
        assert (load.refused, set(load.releases)) == ({}, {first})
        assert device.current() == bad
        assert "still serves" in service.status()["reasons"][0]["text"]


# --- one that passes, and then fails


def test_a_release_whose_workers_die_goes_back_by_itself_under_load(device, releases, goldens):
    first, second = releases
    with served(device, first) as service, Load(service, goldens["cls"]) as load:
        load.more(20)
        device.activate(second)
        load.until(lambda load: load.releases[second] >= 20)
        device.fault("die")
        service.told(f"cls went-back {second[:12]}: .* 3 workers died within")
        load.until(lambda load, before=load.releases[first]: load.releases[first] > before + 20)
        load.end()
        sound(load)
        assert set(load.refused) == {"crashed"}  # those that a worker died of, or beside
        assert load.refused["crashed"] <= 3
        service.until(lambda status: status["models"]["cls"]["wanted"] == first)
        assert device.current() == first
        model = service.model()
        assert (model["release"], model["rollbacks"], model["worker_deaths"]) == (first, 1, 3)
        assert model["requests"]["ok"] == load.answered
        assert model["requests"]["errors"] == load.refused


def test_a_release_that_answers_nan_goes_back_by_itself_under_load(device, releases, goldens):
    first, second = releases
    with served(device, first) as service, Load(service, goldens["cls"]) as load:
        device.activate(second)
        load.until(lambda load: load.releases[second] >= 5)
        device.fault("nan")
        service.told(f"cls went-back {second[:12]}: .* requests failed and 0 workers died")
        load.until(lambda load, before=load.releases[first]: load.releases[first] > before + 20)
        load.end()
        sound(load)
        assert set(load.refused) == {"bad-output"}
        service.until(lambda status: status["models"]["cls"]["wanted"] == first)
        assert device.current() == first
        assert service.model()["worker_deaths"] == 0


def test_after_its_window_it_stays(device, releases, goldens):
    first, second = releases
    device.settings(health_window_s=0)
    with served(device, first) as service, Load(service, goldens["cls"], 2) as load:
        device.activate(second)
        load.until(lambda load: load.releases[second] >= 5)
        assert service.model()["before"] == ""
        device.fault("die")
        service.told("cls worker-died", 4)
        device.fault("")
        load.until(lambda load, before=load.releases[second]: load.releases[second] > before + 20)
        load.end()
        sound(load)
        assert device.current() == second
        assert service.model()["rollbacks"] == 0


def test_under_a_lease_it_goes_back_too_and_the_lease_is_settled(device, releases, goldens):
    first, second = releases
    with served(device, first) as service, Load(service, goldens["cls"]) as load:
        device.activate(second, lease_s=1000)
        load.until(lambda load: load.releases[second] >= 5)
        assert open_leases(device.store)["cls"].to == second
        device.fault("die")
        service.told(f"cls went-back {second[:12]}")
        service.until(lambda status: status["models"]["cls"]["wanted"] == first)
        assert device.current() == first
        assert open_leases(device.store) == {}
    sound(load)


def test_while_a_session_holds_the_store_it_goes_back_here_and_later_on_disk(device, releases, goldens):
    first, second = releases
    with served(device, first) as service, Load(service, goldens["cls"]) as load:
        device.activate(second)
        load.until(lambda load: load.releases[second] >= 5)
        with Held(device.store):
            device.fault("nan")
            service.told(f"cls went-back {second[:12]}")
            load.until(lambda load, before=load.releases[first]: load.releases[first] > before + 20)
            status = service.until(lambda status: status["problems"])
            assert "another controller is at work" in status["problems"][0]["text"]
            assert device.current() == second
        service.until(lambda status: status["models"]["cls"]["wanted"] == first)
        assert device.current() == first
    sound(load)
    assert len(service.told("cls went-back")) == 1


# --- at a start


def test_at_a_start_the_release_before_serves_where_the_current_one_does_not_pass(device, releases, nb_files, goldens):
    first, _ = releases
    bad = device.release(nb_files("cls", "arm"), goldens["cls"])
    device.activate(bad)
    with device.serve() as service:
        service.told("started")
        assert one(service, goldens).release == first  # it waited
        service.told(f"cls went-back {bad[:12]}: it did not pass its goldens in the service; the previous release does")
        service.until(lambda status: status["models"]["cls"]["wanted"] == first)
        assert device.current() == first
        status = service.status()
        assert status["models"]["cls"]["requests"]["errors"] == {}
        assert (status["health"], status["reasons"][0]["finding"]["code"]) == ("degraded", "LF101")


def test_at_a_start_with_two_that_do_not_pass_the_current_one_stays(device, nb_files, goldens):
    bad = [device.release(nb_files("cls", "arm"), cases) for cases in (goldens["cls"], goldens["cls"][::-1])]
    for release in bad:
        device.activate(release)
    with device.serve() as service:
        assert [line.split()[2][:12] for line in service.told("cls refused-release", 2)] == [bad[1][:12], bad[0][:12]]
        with pytest.raises(ServiceError, match="cls is not served") as refused:
            one(service, goldens)
        assert refused.value.code == "not-ready"
        assert (device.current(), service.status()["health"]) == (bad[1], "failed")
