"""Switches under load, by the commands themselves: a machine's callers ask all the time, and none of their requests is lost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from litefleet_agent.service.systemd import MESSAGE_IDS
from litefleet_controller.devices.agent_archive import agent_archive

from tests.conftest import lacking
from tests.lab.containers import why_not_booted
from tests.lab.run_provision import newer_agent
from tests.lab.service_load import Asking, asking
from tests.lab.service_machine import Resident, resident, within

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Resident]:
    if reason := why_not_booted():
        lacking(reason)
    with resident(tmp_path_factory.mktemp("lab")) as lab:
        yield lab


def none_lost(app: Asking) -> None:
    total = app.total
    assert (total.asked, total.lost, total.wrong, total.errors) == (total.answered, 0, 0, {}), total


def happened(lab: Resident, kind: str, release: str = "") -> int:
    return len(lab.journal(f"MESSAGE_ID={MESSAGE_IDS[kind]}", *([f"LITEFLEET_RELEASE={release}"] if release else [])))


def test_an_upgrade_under_load_loses_nothing(lab: Resident) -> None:
    old = lab.link()
    with asking(lab) as app:
        new = lab.rollout(3)
        app.go_on(100, new)
    none_lost(app)
    assert set(app.total.releases) == {old, new} != {old}
    assert app.total.releases[old] > 100 < app.total.releases[new], app.total


def test_a_rollback_under_load_loses_nothing(lab: Resident) -> None:
    new, old = lab.link(), lab.link("previous")
    with asking(lab) as app:
        lab.litefleet("rollback", "--yes")
        app.go_on(100, old)
    none_lost(app)
    assert lab.link() == old
    assert set(app.total.releases) == {old, new}


def test_a_release_whose_workers_die_goes_back_by_itself(lab: Resident) -> None:
    """Three deaths within the health window; each costs at most the request that was being run, which is told so."""
    old = lab.link()
    with asking(lab) as app:
        new = lab.rollout(4)
        app.go_on(20, new)
        for _ in range(3):
            pid = within(20, lambda: lab.model()["release"] == new and lab.workers(), "a worker to kill")[0]
            lab.ssh(f"kill -9 {pid}; while kill -0 {pid} 2>/dev/null; do sleep 0.05; done")
        app.go_on(100, old)
    assert lab.link() == old
    assert happened(lab, "went-back", new)
    assert set(app.total.releases) == {old, new}
    assert set(app.total.errors) <= {"crashed"}, app.total
    assert (app.total.lost, app.total.wrong) == (0, 0), app.total
    assert sum(app.total.errors.values()) <= 3, app.total
    assert lab.model()["rollbacks"] == 1


def test_a_release_that_does_not_load_in_the_service_goes_back_and_nobody_notices(lab: Resident) -> None:
    lab.configure(start_limit_s=3.0)
    old = lab.link()
    with asking(lab) as app:
        lab.stop_workers(known=lab.workers())
        new = lab.rollout(5)
        within(60, lambda: happened(lab, "refused-release", new), "it is refused")
        within(30, lambda: lab.link() == old, "it is taken back on disk")
        lab.ssh("systemctl stop stopper")
        app.go_on(100)
    none_lost(app)
    assert set(app.total.releases) == {old}
    (died,) = lab.journal(f"MESSAGE_ID={MESSAGE_IDS['refused-release']}", f"LITEFLEET_RELEASE={new}")
    assert died["LITEFLEET_CODE"] == "LF408"


def test_a_newer_agent_takes_over_under_load_and_loses_nothing(lab: Resident) -> None:
    pid = lab.show("MainPID")
    with asking(lab) as app:
        for archive in (newer_agent(), agent_archive()):
            done, said = lab.provision(archive=archive)
            assert done, said
            within(60, lambda sha=archive.sha256: lab.status()["version"] == sha, "the newer agent answers")
            app.go_on(100)
    none_lost(app)
    assert (lab.show("MainPID"), lab.show("NRestarts")) == (pid, "0")
    within(30, lambda: lab.show("ActiveState") == "active", "systemd is told that it is ready again")


def test_a_service_that_is_stopped_and_started_loses_nothing(lab: Resident) -> None:
    """systemd keeps the socket, and callers wait: at it for a service, in it for the model."""
    with asking(lab) as app:
        for command in ("restart litefleet-agent", "stop litefleet-agent", "restart litefleet-agent"):
            pid = lab.show("MainPID")
            lab.ssh(f"systemctl {command}")
            within(30, lambda before=pid: lab.show("MainPID") not in (before, "0"), "somebody's call starts it")
            app.go_on()
        lab.configure(workers=2)
        app.go_on()
    none_lost(app)
