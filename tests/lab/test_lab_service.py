"""The service under a real systemd: it starts with its goldens, is watched, heals, and says so; the tests build on each other.

The kernel enforces no MemoryMax= inside this container; a worker's limit is the service's own, and holds.
"""

from __future__ import annotations

import base64
import json
import re
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from litefleet_agent.formats.npz import Array, npz_bytes, read_npz
from litefleet_agent.service.systemd import MESSAGE_IDS

from tests.conftest import lacking
from tests.lab.containers import why_not_booted
from tests.lab.service_load import asking
from tests.lab.service_machine import AGENT, HOME, PYTHON, SOCKET, Resident, resident, within

pytestmark = pytest.mark.lab

DOCS = Path(__file__).parents[2] / "docs"
QUICK_WATCHDOG = "[Service]\nWatchdogSec=3\nRestartSec=1\n"
# Asks once for what the arguments say, as one line of JSON: the answer's release, or the error.
ONCE = """import json, sys
sys.path.insert(0, sys.argv[1])
from litefleet_agent.client import Client, ServiceError
from litefleet_agent.formats.npz import Array
dims = json.loads(sys.argv[3])
size = 4
for dim in dims:
    size *= dim
try:
    with Client(sys.argv[2], 60) as client:
        print(json.dumps({"release": client.infer("cls", {"x": Array("float32", tuple(dims), bytes(size))}).release}))
except ServiceError as error:
    print(json.dumps({"code": error.code, "said": str(error), "finding": (error.finding or {}).get("code")}))
"""

# Tries to stay on the device, as a model would that has taken over its worker on a kernel without Landlock and seccomp.
STAY = """import errno, json, os, sys
home, got = sys.argv[1], {}
def tried(name, attempt):
    try:
        attempt()
        got[name] = "done"
    except OSError as error:
        got[name] = errno.errorcode[error.errno]
def added(path):
    os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600))
tried("login key", lambda: added(home + "/.ssh/authorized_keys"))
tried("agent", lambda: added(home + "/agent/litefleet-agent.pyz"))
tried("mode", lambda: os.chmod(home + "/agent", 0o777))
for folder in ("agent", "trust", "seals", "releases", "blobs", "runtimes", "verified"):
    tried(folder, lambda: added(home + "/" + folder + "/added"))
tried("moved", lambda: os.rename(home + "/releases", home + "/gone"))
for path in ("/etc/passwd", "/usr/bin/python3", "/etc/systemd/system/x.service"):
    tried(path, lambda: added(path))
tried("its own folder", lambda: added(home + "/added"))
print(json.dumps(got))
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Resident]:
    if reason := why_not_booted():
        lacking(reason)
    with resident(tmp_path_factory.mktemp("lab")) as lab:
        yield lab


def ask_once(lab: Resident, dims: list[int]) -> dict[str, Any]:
    return dict(json.loads(lab.ssh(shlex.join(["python3", "-c", ONCE, AGENT, SOCKET, json.dumps(dims)]))))


def other_answers(lab: Resident, file: str) -> bytes:
    """Return a golden's file that expects other outputs."""
    arrays = read_npz(base64.b64decode(lab.ssh(f"base64 {file}")))
    wrong = {n: a if n == "x" else Array(a.dtype, a.shape, bytes(len(a.data))) for n, a in arrays.items()}
    return npz_bytes(wrong)


def exposure(lab: Resident, unit: str) -> float:
    said = lab.ssh(f"systemd-analyze security --no-pager {unit}", code=None)
    level = re.search(r"Overall exposure level for .*: ([\d.]+)", said)
    assert level, said
    return float(level[1])


def watchdog_kills(lab: Resident) -> int:
    return lab.log(1000).count("Watchdog timeout (limit 3s)!")


def moment(lab: Resident, name: str) -> int:
    return int(lab.show(name))


def test_it_runs_in_the_interpreter_of_the_inventory(lab: Resident) -> None:
    pid = lab.show("MainPID")
    assert lab.ssh(f"tr '\\0' '\\n' < /proc/{pid}/cmdline").splitlines()[:3] == [PYTHON, "-Es", AGENT]
    assert lab.ssh("python3 --version") != lab.ssh(f"{PYTHON} --version")
    assert lab.status()["drift"] == []  # what it sees is what the release was proven in


def test_systemd_counts_it_as_started_only_once_the_goldens_passed(lab: Resident) -> None:
    begun = lab.ssh("date +'%F %T.%N'").strip()
    lab.ssh("systemctl restart litefleet-agent")
    assert lab.show("ActiveState") == "active"
    status = lab.status()
    assert (status["health"], status["models"]["cls"]["state"]) == ("ok", "serving")
    (switched,) = lab.journal(f"MESSAGE_ID={MESSAGE_IDS['switched']}", since=begun)
    started = moment(lab, "ExecMainStartTimestampMonotonic")
    assert started < int(switched["__MONOTONIC_TIMESTAMP"]) <= moment(lab, "ActiveEnterTimestampMonotonic")
    assert lab.show("StatusText") == "serving cls"


def test_what_happens_is_in_the_journal_in_fields(lab: Resident) -> None:
    entry = lab.journal(f"MESSAGE_ID={MESSAGE_IDS['switched']}", f"LITEFLEET_RELEASE={lab.link()}")[-1]
    told = {name: entry[name] for name in ("LITEFLEET_KIND", "LITEFLEET_MODEL", "PRIORITY", "_SYSTEMD_UNIT")}
    assert told == {
        "LITEFLEET_KIND": "switched", "LITEFLEET_MODEL": "cls", "PRIORITY": "5", "_SYSTEMD_UNIT": "litefleet-agent.service",
    }  # fmt: skip
    assert entry["MESSAGE"] == f"cls switched {lab.link()[:12]}"


def test_a_release_that_does_not_pass_is_not_started(lab: Resident) -> None:
    """systemd waits, the socket answers why, and the service starts as soon as it can."""
    golden = json.loads(lab.ssh(f"cat {HOME}/models/cls/current"))["golden"][0]
    file = f"{HOME}/blobs/{golden}"
    lab.ssh(f"cp -p {file} {file}.away && base64 -d > {file}", base64.b64encode(other_answers(lab, file)))
    lab.ssh("systemctl restart --no-block litefleet-agent")
    within(30, lambda: "refused-release" in lab.log(5), "the release is refused")
    refused = ask_once(lab, [1, 3, 48, 192])
    assert (refused["code"], refused["finding"]) == ("not-ready", "LF403"), refused
    time.sleep(2)  # more than a tick
    assert lab.show("ActiveState") == "activating"
    assert lab.show("StatusText") == "nothing to serve; not served: cls"
    lab.ssh(f"mv {file}.away {file}")
    within(40, lambda: lab.show("ActiveState") == "active", "it tries again by itself")
    assert "release" in ask_once(lab, [1, 3, 48, 192])


def test_systemd_finds_it_as_well_confined_as_the_documentation_says(lab: Resident) -> None:
    levels = {unit: exposure(lab, unit) for unit in ("litefleet-agent", "litefleet-verify", "litefleet-recover")}
    assert max(levels.values()) <= 2.0, levels
    counted = json.loads(lab.ssh("systemd-analyze security --no-pager --json=short litefleet-agent", code=None))
    points = {item["name"]: item["exposure"] for item in counted if item["exposure"]}
    for page in ("service.md", "service.zh.md"):
        said = (
            (DOCS / page).read_text(encoding="utf-8").partition("`systemd-analyze security`")[2].partition("\n## ")[0]
        )
        assert said.split("systemd 252")[0].count(str(levels["litefleet-agent"])) == 1, levels
        table = [line for line in said.splitlines() if re.search(r"[(（]0\.\d[)）]", line)]
        assert len(table) == len(points), points
        for name, point in points.items():
            word = name.partition("=~")[2] or name.partition("=")[0]
            assert [line for line in table if word in line and point in line], (page, name, point)


def test_a_worker_that_is_taken_over_cannot_stay(lab: Resident) -> None:
    """The unit alone: in a worker's own mounts and with its rights, but without what the worker gave up itself."""
    (worker, *_) = lab.workers()
    rights = "--reuid litefleet --regid litefleet --clear-groups --bounding-set=-all --inh-caps=-all --no-new-privs"
    inside = shlex.join([*f"nsenter --target {worker} --mount setpriv {rights} python3 -c".split(), STAY, HOME])
    got = json.loads(lab.ssh(inside))
    assert got.pop("its own folder") == "done"
    assert got.pop("moved") in ("EBUSY", "EROFS")  # a mount point cannot be renamed
    systems = {got.pop(path) for path in list(got) if path.startswith("/")}
    assert (set(got.values()), systems <= {"EROFS", "EACCES"}) == ({"EROFS"}, True), (got, systems)
    lab.ssh(f"rm {HOME}/added")
    assert "none" in lab.model()["facts"]["sandbox"]["guarantees"]["programs"]


def test_a_stuck_service_is_killed_and_started_again(lab: Resident) -> None:
    lab.drop_in(QUICK_WATCHDOG)
    restarts, kills, pid = int(lab.show("NRestarts")), watchdog_kills(lab), lab.show("MainPID")
    with asking(lab) as app:
        lab.ssh(f"kill -STOP {pid}")
        within(30, lambda: int(lab.show("NRestarts")) == restarts + 1, "systemd restarts it")
        app.go_on()
    assert watchdog_kills(lab) == kills + 1
    assert lab.show("MainPID") != pid
    assert (app.total.lost, app.total.wrong) == (0, 0), app.total
    # what the killed one may have begun gets a clear error, one for each caller; all others waited
    assert set(app.total.errors) <= {"gone"}, app.total
    assert sum(app.total.errors.values()) <= 4, app.total


def test_a_stuck_worker_is_replaced_and_costs_one_request(lab: Resident) -> None:
    lab.configure(workers=2, time_limit_s=3.0)
    pid = lab.show("MainPID")
    with asking(lab) as app:
        workers = within(20, lambda: len(lab.workers()) == 2 and lab.workers(), "two workers")
        lab.ssh(f"kill -STOP {workers[0]}")
        within(20, lambda: app.now().errors, "the request of the stuck one ends")
        others = app.now().answered
        within(20, lambda: workers[0] not in lab.workers() and len(lab.workers()) == 2, "another takes its place")
        app.go_on()
    assert lab.show("MainPID") == pid
    assert app.total.errors == {"timed-out": 1}, app.total
    assert re.search(r"still running (1 requests|the request) after [23](\.\d+)? s", app.total.said["timed-out"])
    assert others > 50, app.total  # by the other worker, meanwhile
    assert (app.total.lost, app.total.wrong) == (0, 0), app.total
    assert lab.journal(f"MESSAGE_ID={MESSAGE_IDS['worker-died']}", "LITEFLEET_CODE=LF408")


def test_a_worker_that_takes_too_much_memory_ends_alone(lab: Resident) -> None:
    lab.configure(workers=1, time_limit_s=20.0, memory_limit_bytes=200 << 20)
    pid = lab.show("MainPID")
    with asking(lab) as app:
        refused = ask_once(lab, [64, 3, 96, 768])
        assert (refused["code"], refused["finding"]) == ("crashed", "LF411"), refused
        # whichever is first: the service's measurement, or an allocation that the kernel refuses
        assert re.search(r"(held \d+ MiB; |ran out of memory \()its limit is 200 MiB", refused["said"]), refused
        app.go_on()
    assert lab.show("MainPID") == pid
    assert app.total.errors == {}, app.total
    assert (app.total.lost, app.total.wrong) == (0, 0), app.total
    assert lab.model()["worker_deaths"] == 1


def test_where_inference_can_not_work_any_more_systemd_starts_it_again(lab: Resident) -> None:
    lab.configure(time_limit_s=2.0, start_limit_s=10.0, memory_limit_bytes=0)
    restarts, kills, pid = int(lab.show("NRestarts")), watchdog_kills(lab), lab.show("MainPID")
    lab.stop_workers()
    within(90, lambda: int(lab.show("NRestarts")) == restarts + 1, "the watchdog is no longer fed")
    assert watchdog_kills(lab) == kills + 1
    within(30, lambda: lab.status()["health"] == "ok", "it serves again")
    assert lab.show("MainPID") != pid
    with asking(lab) as app:
        app.go_on()
    assert (app.total.lost, app.total.errors) == (0, {}), app.total
