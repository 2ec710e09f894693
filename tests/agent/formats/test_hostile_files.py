"""Files that are not what they seem: a FIFO where a file should be never makes the agent wait, and a zip may lack names."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from litefleet_agent.errors import AgentError
from litefleet_agent.facts.flavour import Flavour, describe_flavour
from litefleet_agent.facts.packages import find_package
from litefleet_agent.facts.runtime import describe_library, describe_runtime
from litefleet_agent.findings.model_file import read_nb_file
from litefleet_agent.formats.elf import ElfError, read_elf
from litefleet_agent.formats.files import Tree
from litefleet_agent.formats.npz import read_npz
from litefleet_agent.install.bundle import Bundle
from litefleet_agent.releases.runtimes import unpack_runtime
from litefleet_agent.releases.store import Store, StoreError

AGENT = Path(__file__).resolve().parents[3] / "agent"


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "fifo")
    return tmp_path / "fifo"


def test_readers_reject_a_fifo_at_once(fifo: Path, tmp_path: Path) -> None:
    with pytest.raises(ElfError, match="is a FIFO, not a regular file"):
        read_elf(fifo)
    with pytest.raises(AgentError, match="is a FIFO, not a regular file"):
        read_npz(fifo)
    with pytest.raises(OSError):
        read_nb_file(str(fifo))
    with pytest.raises(StoreError, match="is a FIFO, not a regular file"):
        Bundle(str(fifo))
    assert describe_flavour(str(fifo)) == Flavour()
    assert "is a FIFO" in describe_library(str(fifo)).so_problem
    assert Tree(str(tmp_path)).text("/fifo") == ""


def test_a_package_of_fifos_is_described_without_waiting(tmp_path: Path) -> None:
    package = tmp_path / "paddlelite"
    package.mkdir()
    (package / "__init__.py").touch()
    for name in ("lite.so", "version.py", "._x"):
        os.mkfifo(package / name)
    assert find_package("paddlelite", [str(tmp_path)]).version == ""
    assert "is a FIFO" in describe_runtime(str(tmp_path), []).so_problem


@pytest.mark.parametrize(
    "args",
    [
        ["inspect", "FIFO"],
        ["install", "FIFO"],
        ["install", "x.lfb", "--trust", "FIFO"],
        ["call", "m", "--input", "FIFO"],
    ],
)
def test_commands_reject_a_fifo_at_once(args: list, fifo: Path) -> None:
    command = [str(fifo) if arg == "FIFO" else arg for arg in args]
    code = "import sys; sys.path.insert(0, sys.argv[1]); from litefleet_agent.cli import main; sys.exit(main(sys.argv[2:]))"
    root = ["--root", str(fifo.parent)] if args[0] == "install" else []
    done = subprocess.run(
        [sys.executable, "-c", code, str(AGENT), *command, *root],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=20,
    )
    assert done.returncode == 1, done.stdout
    assert b"Traceback" not in done.stdout


def nameless(name: bytes) -> bytes:
    """Return a zip whose one member's name has been cut to nothing, in both of its headers."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(name.decode(), b"data")
    data = out.getvalue()
    size = struct.pack("<H", len(name))
    local, central = data.index(b"PK\x03\x04"), data.index(b"PK\x01\x02")
    end = data.index(b"PK\x05\x06")
    head = data[local : local + 26] + b"\0\0" + data[local + 28 : local + 30] + data[local + 30 + len(name) : central]
    entry = (
        data[central : central + 28]
        + b"\0\0"
        + data[central + 30 : central + 46]
        + data[central + 46 + len(name) : end]
    )
    assert data[local + 26 : local + 28] == data[central + 28 : central + 30] == size
    tail = data[end : end + 12] + struct.pack("<II", len(entry), len(head)) + data[end + 20 :]
    return head + entry + tail


def test_a_member_without_a_name_is_a_sentence(tmp_path: Path) -> None:
    data = nameless(b"x")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.namelist() == [""]
    with pytest.raises(AgentError):
        read_npz(data)
    (tmp_path / "b.lfb").write_bytes(data)
    with pytest.raises(StoreError) as caught:
        Bundle(str(tmp_path / "b.lfb"))
    assert caught.value.code == "bundle-damaged"
    store = Store(str(tmp_path / "root"))
    store.lock()

    sha = hashlib.sha256(data).hexdigest()
    store.put(sha, len(data), [data])
    with pytest.raises(StoreError) as caught:
        unpack_runtime(store, "r1", sha)
    assert caught.value.code == "bad-request"
    assert store.runtimes() == []
