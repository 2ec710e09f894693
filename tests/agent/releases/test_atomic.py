"""The one writer of whole files: what readers, power cuts, full disks and strangers in the folder see."""

import os
import resource
import stat
from pathlib import Path

import pytest
from litefleet_agent.releases.atomic import atomic_file, write_atomic

from tests.agent.support.power_cut import calls, in_child


def test_a_cut_anywhere_leaves_the_old_or_the_whole_new_file(tmp_path):
    path = tmp_path / "f"

    def work():
        write_atomic(str(path), [b"new" * 50_000, b"end"])

    path.write_bytes(b"old")
    names = calls(work)
    assert names == ["fsync", "replace", "fsync"]
    for at in range(1, len(names) + 1):
        path.write_bytes(b"old")
        assert in_child(work, at) == 9
        assert path.read_bytes() == (b"old" if at <= 2 else b"new" * 50_000 + b"end")


def test_not_durable_means_renamed_but_not_synced(tmp_path):
    path = str(tmp_path / "f")
    assert calls(lambda: write_atomic(path, [b"x"], durable=False)) == ["replace"]
    assert Path(path).read_bytes() == b"x"


def test_an_error_while_writing_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"old")

    def chunks():
        yield b"half"
        raise KeyError("source")

    with pytest.raises(KeyError):
        write_atomic(str(path), chunks())
    with pytest.raises(ZeroDivisionError), atomic_file(str(path)) as out:
        out.write(b"half" * (1 // 0))
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["f"]


def test_no_room_is_an_os_error_and_leaves_the_old_file(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # Python ignores SIGXFSZ: the write fails with EFBIG
    try:
        with pytest.raises(OSError):
            write_atomic(str(path), [b"x" * 5000])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["f"]


def test_the_mode_follows_the_umask_unless_it_is_exact(tmp_path):
    before = os.umask(0o077)
    try:
        write_atomic(str(tmp_path / "a"), [b""], 0o644)
        write_atomic(str(tmp_path / "b"), [b""], 0o644, exact_mode=True)
        write_atomic(str(tmp_path / "c"), [b""])
    finally:
        os.umask(before)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "abc"] == [0o600, 0o644, 0o600]


def test_the_temporary_name_cannot_be_foreseen(tmp_path):
    names = set()
    for _ in range(3):
        with atomic_file(str(tmp_path / "f")):
            names.update(name for name in os.listdir(tmp_path) if name != "f")
    assert len(names) == 3
    assert all(name.startswith(f".tmp-f-{os.getpid()}-") for name in names)


def test_a_link_at_the_target_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "other").write_bytes(b"untouched")
    (tmp_path / "f").symlink_to("other")
    write_atomic(str(tmp_path / "f"), [b"new"])
    assert not (tmp_path / "f").is_symlink()
    assert (tmp_path / "other").read_bytes() == b"untouched"
