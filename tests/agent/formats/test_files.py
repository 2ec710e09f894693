"""Files that others made are opened without waiting, and only if they are regular ones."""

import hashlib
import os
import socket

import pytest
from litefleet_agent.formats.files import NotRegularError, open_regular, read_regular, sha256_of


def test_what_is_no_regular_file_is_rejected_at_once(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "socket"))
    (tmp_path / "link").symlink_to("fifo")
    for name, words in (("fifo", "a FIFO"), ("link", "a FIFO"), (".", "a folder")):
        with pytest.raises(NotRegularError) as caught:
            open_regular(tmp_path / name)
        assert caught.value.strerror == f"is {words}, not a regular file"
        with pytest.raises(OSError):
            sha256_of(tmp_path / name)
    with pytest.raises(NotRegularError):
        open_regular("/dev/zero")
    with pytest.raises(OSError):
        open_regular(tmp_path / "socket")
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "absent")
    listener.close()


def test_rejecting_leaks_no_descriptor(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        with pytest.raises(NotRegularError):
            open_regular(tmp_path / "fifo")
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_file_is_read_up_to_its_limit_and_hashed_whole(tmp_path):
    data = os.urandom((3 << 20) + 17)
    (tmp_path / "f").write_bytes(data)
    (tmp_path / "link").symlink_to("f")
    assert read_regular(tmp_path / "link", 100) == data[:100]
    assert sha256_of(tmp_path / "link") == sha256_of(str(tmp_path / "f")) == hashlib.sha256(data).hexdigest()
    with open(tmp_path / "f", "rb", buffering=0) as stream:
        assert sha256_of(stream.fileno()) == hashlib.sha256(data).hexdigest()
        assert stream.tell() == len(data)  # the descriptor stays open, and stands at the end
