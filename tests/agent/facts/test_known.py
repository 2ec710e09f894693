"""The note by which a session's first answer knows facts: what it says is what `gather` says, until a file behind it changes."""

from __future__ import annotations

import marshal
import os
from pathlib import Path

import pytest
from litefleet_agent.facts import Facts, gather, known

CHANGING = {"memory", "disk"}  # from one moment to the next


def stable(facts: Facts) -> dict:
    return {name: value for name, value in facts.to_dict().items() if name not in CHANGING}


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of PATH that is empty, on a machine whose files have not just changed."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(known, "_SETTLED_NS", 0)
    return folder


def kept(root: Path) -> object:
    """Return the note of a session, as the next session reads it."""
    note = known.gather_known(str(root), None).note
    assert note is not None
    return marshal.loads(marshal.dumps(note))


def test_a_note_says_what_is_gathered_without_loading_what_gathers(tmp_path: Path, programs: Path) -> None:
    first = known.gather_known(str(tmp_path), None)
    note = kept(tmp_path)
    again = known.gather_known(str(tmp_path), note)
    assert again.note == note
    assert again.loaded == ()
    assert stable(again.facts) == stable(first.facts) == stable(gather(str(tmp_path)))
    assert isinstance(again.facts.cpu.parts, tuple)
    assert again.facts.memory.total == first.facts.memory.total
    assert Facts.from_dict(again.facts.to_dict()) == again.facts


def test_a_changed_folder_or_process_is_gathered_again(
    tmp_path: Path, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = kept(tmp_path)
    (programs / "python3.99").touch()
    changed = known.gather_known(str(tmp_path), note)
    assert "python3.99" in changed.facts.other_pythons
    assert changed.note != note
    libraries = tmp_path / "lib"
    libraries.mkdir()
    (libraries / "libOpenCL.so").touch()
    monkeypatch.setenv("LD_LIBRARY_PATH", str(libraries))
    assert known.gather_known(str(tmp_path), changed.note).facts.opencl == str(libraries / "libOpenCL.so")
    note = kept(tmp_path)
    (libraries / "libOpenCL.so").unlink()
    assert known.gather_known(str(tmp_path), note).facts.opencl != str(libraries / "libOpenCL.so")


@pytest.mark.parametrize("cut", [(), (1, 2), "text", None, ("", "", (), ())])
def test_another_agents_note_is_ignored(cut: object, tmp_path: Path, programs: Path) -> None:
    assert stable(known.gather_known(str(tmp_path), cut).facts) == stable(gather(str(tmp_path)))


def test_what_has_just_changed_is_not_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "python3").touch()
    assert known.gather_known(str(tmp_path), None).note is None
