"""Goldens that are there: found by their note, and made anew where anything about them is different."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from litefleet_controller.build.golden import make
from litefleet_controller.build.golden.made import note_of, read_note, write_note
from litefleet_controller.common.files import sha256_of
from litefleet_controller.config.choices import GoldenSpec, InputSpec

from tests.controller.build.golden.test_make import NOBODY


@dataclass(frozen=True)
class Spec:
    name: str = "x"
    dtype: str = "float32"
    dims: tuple[int, ...] = (1, 3)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    path.write_bytes(b"a model")
    return path


def names(folder: Path) -> tuple[Path, Path]:
    return folder / f"{'0' * 32}-0.npz", folder / f"{'0' * 32}-1.npz"


def test_a_golden_is_found_until_a_file_of_it_differs(tmp_path: Path, source: Path) -> None:
    note = note_of(tmp_path, 1, [source], [Spec()], GoldenSpec(), "2.6.2", None)
    assert note is not None
    assert read_note(note, 2) == ()
    paths = names(tmp_path)
    for path in paths:
        path.write_bytes(path.name.encode())
    write_note(note, paths)
    assert read_note(note, 2) == paths
    assert read_note(note, 3) == ()
    paths[1].write_bytes(b"damaged")
    assert read_note(note, 2) == ()
    paths[1].unlink()
    assert read_note(note, 2) == ()


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"[" * 100_000, b'{"../a.npz": "0"}', b'{"a": []}', b"\xff"])
def test_a_note_that_is_none_finds_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "note").write_bytes(content)
    assert read_note(tmp_path / "note", 1) == ()


def test_a_note_names_no_file_of_another_folder(tmp_path: Path) -> None:
    folder = tmp_path / "goldens"
    folder.mkdir()
    other = tmp_path / f"{'0' * 32}-0.npz"
    other.write_bytes(b"x")
    (folder / "note").write_text(json.dumps({f"../{other.name}": sha256_of(other)}))
    assert read_note(folder / "note", 1) == ()


def test_all_that_decides_the_inputs_is_in_the_name(tmp_path: Path, source: Path) -> None:
    spec = GoldenSpec()
    other = tmp_path / "other"
    other.write_bytes(b"another model")
    stated = replace(spec, inputs={"x": InputSpec(range=(0, 2))})
    notes = [
        note_of(tmp_path, 1, [source], [Spec()], spec, "2.6.2", None),
        note_of(tmp_path, 2, [source], [Spec()], spec, "2.6.2", None),
        note_of(tmp_path, 1, [other], [Spec()], spec, "2.6.2", None),
        note_of(tmp_path, 1, [source], [Spec(dims=(2, 3))], spec, "2.6.2", None),
        note_of(tmp_path, 1, [source], [Spec()], stated, "2.6.2", None),
        note_of(tmp_path, 1, [source], [Spec()], replace(stated, inputs={"x": InputSpec(range=(0, 3))}), "2.6.2", None),
        note_of(tmp_path, 1, [source], [Spec()], replace(spec, seed=1), "2.6.2", None),
        note_of(tmp_path, 1, [source], [Spec()], replace(spec, cases=3), "2.6.2", None),
        note_of(tmp_path, 1, [source], [Spec()], replace(spec, engine="paddlelite"), "2.6.2", None),
        note_of(tmp_path, 1, [source], [Spec()], spec, "2.6.3", None),
        note_of(tmp_path, 1, [source], [Spec()], spec, "2.6.2", {"x": 5}),
    ]
    assert None not in notes
    assert len(set(notes)) == len(notes)
    assert notes[0] == note_of(tmp_path, 1, [source], [Spec()], GoldenSpec(), "2.6.2", {})


def test_a_users_own_inputs_and_a_missing_model_have_no_note(tmp_path: Path, source: Path) -> None:
    own = replace(GoldenSpec(), own=(source,))
    assert note_of(tmp_path, 1, [source], [Spec()], own, "2.6.2", None) is None
    assert note_of(tmp_path, 1, [tmp_path / "gone"], [Spec()], GoldenSpec(), "2.6.2", None) is None


async def test_a_golden_that_is_there_is_neither_drawn_nor_run(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = note_of(tmp_path, make._RECIPE, [source, source], [Spec()], GoldenSpec(), "2.6.2", None)
    assert note is not None
    for path in names(tmp_path):
        path.write_bytes(path.name.encode())
    write_note(note, names(tmp_path))
    monkeypatch.setattr(make, "inputs_of", lambda *given: pytest.fail("inputs were drawn"))
    assert await make.make_golden(source, source, [Spec()], GoldenSpec(), NOBODY, tmp_path) == names(tmp_path)
