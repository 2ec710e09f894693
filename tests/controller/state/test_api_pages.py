"""Pages of the API's lists, over both kinds of databases: together they are what the command shows."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import litefleet
import pytest
from litefleet.connection import Answer, Connection
from litefleet.remote import RemoteProject
from litefleet_agent.findings import Verdict, finding
from litefleet_controller.common.errors import UsageError
from litefleet_controller.devices.outcome import DeviceOutcome
from litefleet_controller.operations.find import read_status
from litefleet_controller.reports.status_text import status_document
from litefleet_controller.rollout import DeviceEvent
from litefleet_controller.serve.api.paging import _encoded
from litefleet_controller.serve.auth import Role
from litefleet_controller.state import Confirmed, KnownDevice, RowChange, State
from starlette.testclient import TestClient

from tests.controller.serve.serving import app_of, service_in
from tests.controller.support.state_values import ELSEWHERE, change, release, rollout, rows, staged

_DEVICES = 23


@dataclasses.dataclass
class Served:
    client: TestClient
    config: Path
    rollout: str
    where: str

    def ask(self, path: str, status: int = 200) -> Any:
        answer = self.client.get(f"/api/v1{path}")
        assert answer.status_code == status, answer.text
        return answer.json()

    def pages(self, path: str, member: str = "devices") -> tuple[list[dict[str, Any]], int]:
        """Return all entries of a list, and how many pages they took."""
        found, count, following = [], 0, f"/api/v1{path}"
        while following:
            answer = self.client.get(following)
            assert answer.status_code == 200, answer.text
            found += answer.json()[member]
            link = answer.headers.get("link", "")
            following, count = (link[1 : link.index(">")] if link else ""), count + 1
        return found, count


@pytest.fixture
def served(where: str, tmp_path: Path) -> Iterator[Served]:
    """A server over a rollout in which every third device failed, one runs an older environment, and others wait."""
    service = service_in(tmp_path)
    names = [f"d{number}" for number in range(_DEVICES)]
    (tmp_path / "hosts.yaml").write_text(
        "devices:\n" + "".join(f"  {name}: {{host: 10.0.0.{n}}}\n" for n, name in enumerate(reversed(names)))
    )
    config = tmp_path / "litefleet.yaml"
    config.write_text(config.read_text() + f"state: {where!r}\n")
    with closing(State.open(where, beside=tmp_path / "beside.id")) as state:
        lock = state.acquire("shop", ELSEWHERE)
        ours = rows(_DEVICES, "abcdef99")
        made = state.create(lock, rollout("shop"), ours, [release("abcdef99", version="2.0")], {})
        state.move(lock, made.id, [change(row, DeviceEvent.BEGIN) for row in ours[:12]])
        moved = []
        for number, row in enumerate(ours[:12]):
            fields = {"verdict": Verdict.WRONG, "codes": ("LF403",), "sentence": "wrong"} if number % 3 == 0 else {}
            event = DeviceEvent.FAIL if number % 3 == 0 else DeviceEvent.PROVE
            one = change(staged(row), event, **fields)
            verdict = Verdict.WRONG if number % 3 == 0 else Verdict.VERIFIED
            found = (finding("LF403", "wrong"),) if number % 3 == 0 else ()
            outcome = DeviceOutcome(row.device, row.model, verdict, found, sent_bytes=7, release="abcdef99")
            runs = Confirmed(row.device, "cls", "abcdef99", "ff", "1.0", f"f{number}", made.id, 1.0)
            moved.append(RowChange(one.before, one.event, one.after, outcome, runs))
        state.move(lock, made.id, moved)
        seen = [KnownDevice(name, {"arch": "x86_64"}, f"f{n % 5}", 1e9 + n, "") for n, name in enumerate(names[:9])]
        state.record_facts(seen)
        state.release(lock)
    client = TestClient(app_of(service), base_url="http://127.0.0.1:8470")
    client.headers["authorization"] = f"Bearer {service.auth.users.add('bob', Role.VIEW)}"
    client.headers["accept"] = "application/json"
    yield Served(client, config, made.id, where)
    service.entries.close()
    service.opened.close()


@pytest.mark.parametrize(
    ("asked", "chosen"),
    [
        ("", {}),
        ("state=failed", {"state": "failed"}),
        ("state=wrong", {"state": "wrong"}),
        ("version=2.0", {"version": "2.0"}),
        ("version=abcdef", {"version": "abcdef"}),
        ("version=abc", {"version": "abc"}),
        ("version=ABCDEF", {"version": "ABCDEF"}),
        ("drift=true", {"drift": True}),
        ("state=proven&drift=true", {"state": "proven", "drift": True}),
        ("silent=10", {"silent_s": 10.0}),
    ],
)
def test_pages_of_devices_are_what_the_command_lists(served: Served, asked: str, chosen: dict[str, Any]) -> None:
    expected = [record.to_dict() for record in litefleet.devices(litefleet.open_project(served.config), **chosen)]
    found, count = served.pages(f"/devices?limit=4{'&' * bool(asked)}{asked}")
    assert found == expected
    assert count == max(1, -(-len(expected) // 4))
    assert bool(expected) == (asked not in ("version=abc", "version=ABCDEF"))


def test_a_selection_is_paged_too_and_an_unknown_cursor_is_refused(served: Served) -> None:
    for path in ("/devices", "/models", "/models/cls/releases", "/models/cls/evaluations", "/rollouts", "/reports"):
        assert "begin again" in served.ask(f"{path}?cursor=____", 404)["detail"]
    found, _ = served.pages("/devices?limit=2&select=d1*,!d10")
    project = litefleet.open_project(served.config, limit="d1*,!d10")
    assert found == [record.to_dict() for record in litefleet.devices(project)]
    assert len(found) == 10
    for cursor in (_encoded("gone\0cls"), _encoded("\0"), "____"):
        assert "begin again" in served.ask(f"/devices?cursor={cursor}", 404)["detail"]
    assert "leaves no device" in served.ask("/devices?select=!d*", 404)["detail"]


def test_a_rollouts_summary_and_pages_are_the_whole_document(served: Served) -> None:
    whole = served.ask(f"/rollouts/{served.rollout}")
    summary = served.ask("/rollouts/latest/summary")
    apart = {"now", "counts", "sent_bytes"}
    assert {k: v for k, v in summary.items() if k not in apart} == {
        k: v for k, v in whole.items() if k not in {"now", "devices", "outcomes"}
    }
    assert summary["counts"] == {"failed": 4, "working": 8, "pending": 11}
    assert summary["sent_bytes"] == 12 * 7
    devices, count = served.pages(f"/rollouts/{served.rollout}/devices?limit=5")
    assert devices == whole["devices"]
    assert count == 5
    assert served.pages(f"/rollouts/{served.rollout}/devices?limit=5", "outcomes")[0] == whole["outcomes"]


class OfAnOlderServer(Connection):
    """Stands for the network to a server that has no summaries: the requests go to the application in this process."""

    def __init__(self, client: TestClient) -> None:
        super().__init__("http://127.0.0.1:8470", "unused")
        self.client = client
        self.asked: list[str] = []

    def _once(self, method: str, path: str, data: bytes | None, headers: Mapping[str, str]) -> Answer:
        self.asked.append(path)
        missing = path.endswith("/summary")
        answer = self.client.request(method, "/api/v1/unknown" if missing else f"/api/v1{path}", content=data)
        if answer.status_code >= 300:
            raise self._refused(answer.status_code, answer.json())
        return Answer(answer.json())


def test_a_server_without_summaries_is_asked_for_the_whole_document(served: Served) -> None:
    connection = OfAnOlderServer(served.client)
    project = RemoteProject(connection)
    found = project.status(served.rollout)
    assert connection.asked == [f"/rollouts/{served.rollout}/summary", f"/rollouts/{served.rollout}"]
    here = litefleet.status(served.config, served.rollout)
    assert (found.rollout, found.rows) == (here.rollout, here.rows)
    with pytest.raises(UsageError, match="r-none"):
        project.status("r-none")


def test_rollouts_are_paged_the_newest_first(served: Served) -> None:
    with closing(State.open(served.where)) as state:
        lock = state.acquire("shop", ELSEWHERE)
        for _ in range(4):
            state.create(lock, rollout("shop"), rows(1, "abcdef99"), [release("abcdef99")], {})
        state.release(lock)
    listed, _ = served.pages("/rollouts", "rollouts")
    assert listed[-1]["id"] == served.rollout
    assert served.pages("/rollouts?limit=2", "rollouts") == (listed, 3)
    for cursor in ("____", _encoded("r-none"), _encoded("\0")):
        assert "begin again" in served.ask(f"/rollouts?cursor={cursor}", 404)["detail"]


def test_the_devices_of_a_rollout_are_chosen_by_state_verdict_wave_and_name(served: Served) -> None:
    whole = served.ask(f"/rollouts/{served.rollout}")["devices"]
    path = f"/rollouts/{served.rollout}/devices?limit=3&"
    for asked, takes in (
        ("state=failed", lambda row: row["state"] == "failed"),
        ("state=wrong", lambda row: row["verdict"] == "wrong"),
        ("wave=1", lambda row: row["wave"] == 1),
        ("wave=2&q=2", lambda row: row["wave"] == 2 and "2" in row["device"]),
        ("q=%25", lambda row: False),
    ):
        assert served.pages(path + asked)[0] == [row for row in whole if takes(row)], asked
    for cursor in ("____", _encoded("[0, 0, 1, 2]"), _encoded("[true]"), _encoded('[-1, 0, "a", "b"]')):
        served.ask(f"/rollouts/{served.rollout}/devices?cursor={cursor}", 404)
    served.ask("/rollouts/r-none/devices", 404)
    served.ask("/rollouts/r-none/summary", 404)


def test_a_volatile_member_does_not_change_an_etag(served: Served) -> None:
    for path in (f"/api/v1/rollouts/{served.rollout}", f"/api/v1/rollouts/{served.rollout}/summary"):
        first, second = served.client.get(path), served.client.get(path)
        assert first.json()["now"] < second.json()["now"]
        assert first.headers["etag"] == second.headers["etag"]
        again = served.client.get(path, headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


def test_the_whole_document_is_the_commands(served: Served, where: str, tmp_path: Path) -> None:
    found = served.ask(f"/rollouts/{served.rollout}")
    with closing(State.open(where, beside=tmp_path / "beside.id")) as state:
        expected = status_document(read_status(state, "shop"), found["now"])
    assert list(itertools.islice(found, 3)) == ["now", "schema", "command"]
    assert found == expected
