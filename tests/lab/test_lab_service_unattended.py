"""A device left alone: it restarts, drifts, is damaged and cut off, and what happened is known at the next contact."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterator
from typing import Any

import pytest
from litefleet_agent.service.systemd import MESSAGE_IDS

from tests.conftest import lacking
from tests.lab.containers import why_not_booted
from tests.lab.service_load import asking
from tests.lab.service_machine import HOME, Resident, resident, within

pytestmark = pytest.mark.lab

AT_ONCE = "[Timer]\nOnCalendar=\nOnActiveSec=1s\nAccuracySec=1s\nRandomizedDelaySec=0\n"
PACKAGES = "/opt/edge/lib/python3.10/site-packages"
LIBRARY = "/usr/lib/x86_64-linux-gnu/librt.so.1"  # that nothing else on the machine needs


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Resident]:
    if reason := why_not_booted():
        lacking(reason)
    with resident(tmp_path_factory.mktemp("lab")) as lab:
        yield lab


def flip(lab: Resident, path: str) -> None:
    """Change one bit in the middle of a file; its size stays."""
    code = "import sys; f = open(sys.argv[1], 'r+b'); f.seek(90000); b = f.read(1); f.seek(90000); f.write(bytes([b[0] ^ 1]))"
    lab.ssh(shlex.join(["python3", "-c", code, path]))


def model_file(lab: Resident) -> str:
    manifest = json.loads(lab.ssh(f"cat {HOME}/models/cls/current"))
    return f"{HOME}/blobs/{manifest['model']['nb']}"


def codes(found: list[dict[str, Any]]) -> set[str]:
    return {str(item["code"]) for item in found}


def fields(entry: dict[str, Any], name: str) -> set[str]:
    """Return the values of a journal entry's field: a list where there are several."""
    value = entry.get(name, [])
    return {value} if isinstance(value, str) else set(value)


def history(lab: Resident) -> list[dict[str, Any]]:
    return list(json.loads(lab.litefleet("history", "--json"))["entries"])


def test_it_comes_back_from_a_restart_serving_and_without_what_nobody_confirmed(lab: Resident) -> None:
    old = lab.link()
    new = lab.leave_unconfirmed(3)
    within(30, lambda: lab.model()["release"] == new != old, "the leased release serves")

    lab.machine.restart()
    assert lab.status()["uptime_s"] < 60  # the socket is there from the start, and a call waits
    within(60, lambda: lab.show("ActiveState") == "active", "it starts")
    assert (lab.model()["release"], lab.link(), lab.show("NRestarts")) == (old, old, "0")
    assert lab.show("Result", "litefleet-recover") == "success"
    started = int(lab.show("ExecMainStartTimestampMonotonic"))
    assert 0 < int(lab.show("ExecMainExitTimestampMonotonic", "litefleet-recover")) < started
    with asking(lab) as app:
        app.go_on()
    assert set(app.total.releases) == {old}  # the other one was never served again
    assert (app.total.lost, app.total.errors) == (0, {})

    lab.litefleet("rollout")  # goes on with the one whose controller died
    assert lab.link() == new
    assert "LF614" in lab.litefleet("status", "--json")


def test_the_timer_finds_a_damaged_model_and_a_repair_heals_it(lab: Resident) -> None:
    file = model_file(lab)
    flip(lab, file)
    lab.drop_in(AT_ONCE, "litefleet-verify.timer")
    within(60, lambda: lab.show("Result", "litefleet-verify") == "exit-code", "the verification fails")
    said = lab.ssh("journalctl --no-pager -u litefleet-verify -o cat")
    assert "LF602" in said, said
    assert lab.show("ActiveState", "litefleet-verify") == "failed"
    nice = "systemctl show -p Nice -p CPUWeight -p IOSchedulingClass litefleet-verify"
    assert lab.ssh(nice).split() == ["CPUWeight=10", "Nice=19", "IOSchedulingClass=3"]

    assert "LF602" in lab.litefleet("reconcile", "--deep", "--json", code=1)
    lab.litefleet("reconcile", "--repair", "--deep")
    lab.ssh("systemctl start litefleet-verify")
    assert lab.show("Result", "litefleet-verify") == "success"


def test_drift_is_found_by_the_device_itself_and_told_at_the_next_contact(lab: Resident) -> None:
    within(60, lambda: lab.status()["drift"] == [], "what the test before mended is seen")
    pid = lab.show("MainPID")
    file, release = model_file(lab), lab.link()
    flip(lab, file)
    lab.ssh(f"mkdir -p {PACKAGES}/numpy {PACKAGES}/numpy-2.1.0.dist-info && touch {PACKAGES}/numpy/__init__.py")
    lab.ssh(f"mv {LIBRARY} {LIBRARY}.away")
    record = json.loads(lab.ssh(f"cat {HOME}/verified/{release}.json"))
    later = json.dumps({**record, "at": int(time.time()) + 90_000})  # as if the clock had since been set back
    lab.ssh(
        f"cp -p {HOME}/verified/{release}.json /root/record && cat > {HOME}/verified/{release}.json", later.encode()
    )

    found = within(60, lambda: len(codes(lab.status()["drift"])) >= 4 and lab.status()["drift"], "drift")
    said = " ".join(item["seen"] for item in found)
    assert codes(found) == {"LF602", "LF604", "LF306", "LF618"}, found
    assert f"numpy changed from none to 2.1.0 ({PACKAGES}/numpy)" in said
    assert "librt.so.1 is missing since the service started" in said
    assert "no longer holds the bytes that were verified" in said
    assert lab.status()["health"] == "degraded"
    assert lab.show("MainPID") == pid  # it goes on serving what it has loaded
    told = lab.journal(f"MESSAGE_ID={MESSAGE_IDS['drift']}")
    assert set().union(*(fields(entry, "LITEFLEET_CODE") for entry in told)) >= codes(found)

    lab.litefleet("reconcile")  # which reads no bytes; the device did
    entries = [entry for entry in history(lab) if entry["kind"] == "drift"]
    assert {item["code"] for e in entries for item in e["entry"].get("findings", ())} >= codes(found), entries
    assert 'litefleet_fleet_service_drift_findings{device="cam"} ' in lab.litefleet("metrics")

    lab.ssh(f"rm -r {PACKAGES}/numpy*; mv {LIBRARY}.away {LIBRARY}; cp -p /root/record {HOME}/verified/{release}.json")
    lab.litefleet("reconcile", "--repair", "--deep")
    within(60, lambda: lab.status()["drift"] == [], "all is as it was proven again")


def test_what_happened_while_it_was_cut_off_is_not_lost(lab: Resident) -> None:
    lab.litefleet("reconcile")
    known = {entry["number"] for entry in history(lab)}
    worker, begun = lab.workers()[0], time.time()
    cut = f"sleep 1; systemctl stop ssh; kill -9 {worker}; sleep 4; systemctl restart --no-block litefleet-agent"
    lab.ssh(f"systemd-run --unit=cut --collect --quiet sh -c {shlex.quote(f'{cut}; sleep 6; systemctl start ssh')}")
    time.sleep(2.5)
    assert "LF501" in lab.litefleet("reconcile", "--json", code=1)
    assert {entry["number"] for entry in history(lab)} == known
    within(60, lambda: lab.machine.ssh("true").returncode == 0, "it is back")
    back = time.time()
    lab.litefleet("reconcile")
    entries = [entry for entry in history(lab) if entry["number"] not in known]
    told = [entry for entry in entries if entry["kind"] != "drift"]  # the test before may end in several looks
    assert [entry["kind"] for entry in told[:4]] == ["worker-died", "stopped", "started", "switched"], entries
    assert all(begun < entry["at"] < back < entry["taken_at"] for entry in told[:4]), entries
    assert len({(entry["device"], entry["number"]) for entry in entries}) == len(entries)
    lab.litefleet("reconcile")
    assert len(history(lab)) == len(known) + len(entries)  # nothing is told twice
