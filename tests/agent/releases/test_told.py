"""Which controller's state asked for the last switch: kept with the switch itself, and compared before the next one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from litefleet_agent.releases.activation import activate, confirm, follow, rollback
from litefleet_agent.releases.crc_log import CrcLog
from litefleet_agent.releases.journal import NOBODY, Journal, Order, Told
from litefleet_agent.releases.store import Store
from litefleet_agent.session.hello import switch_status

from tests.agent.session.test_server import Peer
from tests.agent.support.release_fixtures import SetClock, links, opened, proven, refused

OURS, LATER, OTHER = Told("yard", "a" * 32, 7), Told("yard", "a" * 32, 9), Told("yard", "b" * 32, 1)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return opened(tmp_path / "root", SetClock())


def told(store: Store) -> Told:
    return switch_status(store).told


def test_it_is_in_the_line_that_begins_the_switch_and_outlives_its_end(store: Store) -> None:
    one, two = proven(store, "1"), proven(store, "2")
    activate(store, one, 60, Order(OURS, NOBODY))
    lines = (Path(store.root) / "journal").read_bytes().splitlines()
    assert [json.loads(line[9:])["told"] for line in lines] == [OURS.to_dict()] * 2
    confirm(store, one)
    assert told(store) == OURS
    activate(store, two)  # from a file on a stick: nobody else leads
    rollback(store, "cls", "previous", Order(LATER, OURS))
    assert (told(store), links(store)) == (LATER, (one, two))


def test_who_has_not_read_the_last_switch_switches_nothing(store: Store) -> None:
    one, two = proven(store, "1"), proven(store, "2")
    activate(store, one, 0, Order(OURS, NOBODY))
    said = refused("another-state", activate, store, two, 0, Order(OTHER, NOBODY))
    assert "the state aaaaaaaaaaaa of fleet 'yard'" in said
    refused("another-state", rollback, store, "cls", "nothing", Order(OTHER, NOBODY))
    refused("another-state", follow, store, Order(OTHER, NOBODY))
    assert (told(store), links(store)) == (OURS, (one, ""))
    refused("another-state", activate, store, two, 0, Order(OURS._replace(number=6), NOBODY))  # an older copy
    activate(store, one, 0, Order(LATER, NOBODY))  # the same state: a second model of one session
    activate(store, two, 0, Order(OTHER, OURS))  # a controller that has read it, and goes on knowingly
    assert (told(store), links(store)) == (OTHER, (two, one))


def test_following_changes_nothing_else(store: Store) -> None:
    assert not follow(store, Order(OURS, NOBODY))  # nothing was ever switched: nothing to protect
    one = proven(store, "1")
    activate(store, one, 60)
    before = switch_status(store)
    assert follow(store, Order(OTHER, NOBODY))
    assert switch_status(store) == before._replace(told=OTHER)
    confirm(store, one)
    assert told(store) == OTHER


def test_an_older_agent_that_ends_an_operation_does_not_lose_it(store: Store) -> None:
    one = proven(store, "1")
    activate(store, one, 60, Order(OURS, NOBODY))
    journal = Journal(store.root)
    entry = journal.read().operations[-1].to_dict()
    del entry["told"]
    with (Path(store.root) / "journal").open("ab") as file:
        file.write(CrcLog.encode({**entry, "state": "confirmed"}))
    assert told(store) == OURS


def test_it_outlives_a_compacted_journal_and_many_switches_by_hand(store: Store) -> None:
    one, two = proven(store, "1"), proven(store, "2")
    activate(store, one, 0, Order(OURS, NOBODY))
    for number in range(120):
        activate(store, (two, one)[number % 2])
    Journal(store.root)._compact()
    assert told(store) == OURS


@pytest.mark.parametrize(
    "data", [{}, None, {"fleet": "f"}, {"fleet": "f", "state": 1, "number": 1}, {"fleet": 1}, [1], "x"]
)
def test_what_is_no_identity_is_refused(data: object) -> None:
    if not data:
        assert Told.from_dict(data) == NOBODY
    else:
        with pytest.raises(ValueError, match=r"must|expected|not"):
            Told.from_dict(data)
    assert Told.from_dict({**replace_number(OURS, 3), "newer": True}) == OURS._replace(number=3)


def replace_number(base: Told, number: int) -> dict:
    return {**base.to_dict(), "number": number}


def test_on_the_wire(store: Store) -> None:
    one = proven(store, "1")
    store.unlock()
    with Peer(Path(store.root)) as peer:
        assert peer.ask("hello")["result"]["told"] == {}
        assert "result" in peer.ask("activate", release=one, told=OURS.to_dict(), seen={})
        assert peer.ask("hello")["result"]["told"] == OURS.to_dict()
        answer = peer.ask("rollback", model="cls", to="nothing", told=OTHER.to_dict(), seen={})
        assert answer["error"]["code"] == "another-state"
        assert peer.ask("follow", told=OTHER.to_dict(), seen=OURS.to_dict())["result"] == {"recorded": True}
        assert peer.ask("follow")["error"]["code"] == "bad-request"
        assert peer.ask("activate", release=one, told="x")["error"]["code"] == "bad-request"
