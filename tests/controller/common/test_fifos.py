"""A FIFO where a file is expected is named at once: nobody waits for its writer."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from litefleet_agent.releases.journal import Journal
from litefleet_controller.devices.transport.hostkeys import HostKeys
from litefleet_controller.devices.transport.identities import read_key
from litefleet_controller.project.run_fleet import read_report
from litefleet_controller.state.identity import Beside

READERS: dict[str, Callable[[Path], object]] = {
    "report": read_report,
    "known_hosts": lambda path: HostKeys([path], path.with_name("pins"), accept_new=False),
    "pins": lambda path: HostKeys([], path, accept_new=False),
    "journal": lambda path: Journal(str(path.parent)).read(),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("reader", READERS)
def test_it_is_named(reader: str, tmp_path: Path) -> None:
    path = tmp_path / "journal"
    os.mkfifo(path)
    with pytest.raises(Exception, match=r"FIFO|Illegal seek"):
        READERS[reader](path)


@pytest.mark.timeout(20)
def test_the_file_beside_a_database_counts_as_damaged(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "state.db.id")
    assert Beside(tmp_path / "state.db.id").read() == {}


@pytest.mark.timeout(20)
def test_a_private_key_is_a_problem(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "key")
    assert "FIFO" in read_key(str(tmp_path / "key")).problem
