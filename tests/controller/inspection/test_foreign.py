"""Files that are not what one meant are named in words, with the remedy, by `doctor`, `inspect` and the source's checks."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from litefleet_controller.build.conversion.layouts import find_source
from litefleet_controller.common.errors import FindingError
from litefleet_controller.doctor.diagnosis import Kind
from litefleet_controller.doctor.files import examine, expand, kind_of
from litefleet_controller.inspection.foreign import other_file
from litefleet_controller.inspection.model import inspect_file

from tests.controller.doctor.test_models import SMALL, SMALL_PARAMS

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 2345678\n" % (b"ab" * 32)
PICKLE = b"\x80\x02}q\x00(X\x05\x00\x00\x00convq\x01" + bytes(200)

FILES = {  # name: (content, code where a .nb was meant, words of the sentence)
    "lfs.nb": (POINTER, "LF106", "git lfs pull"),
    "annex.nb": (b"/annex/objects/SHA256E-s5--ab.nb\n", "LF106", "git annex get"),
    "error.nb": (b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>NoSuchKey</Code></Error>', "LF106", "download failed"),
    "login.nb": (b"\n<!DOCTYPE html><html><head><title>Sign in</title>", "LF106", "HTML or XML page"),
    "api.nb": (b'{"message": "Not Found", "status": "404"}', "LF106", "JSON message"),
    "a.tar.gz": (b"\x1f\x8b\x08" + bytes(40), "LF106", "gzip archive"),
    "a.7z": (b"7z\xbc\xaf\x27\x1c" + bytes(40), "LF106", "7-Zip archive"),
    "a.tar.xz": (b"\xfd7zXZ\0" + bytes(40), "LF106", "xz archive"),
    "cat.nb": (b"\x89PNG\r\n\x1a\n" + bytes(40), "LF106", "a picture"),
    "hole.nb": (bytes(4000), "LF106", "nothing but zeros"),
    "source.nb": (b"\x0a\xf7\x86\x63\x08\x00\x10\xff\xff\xff\xff", "LF106", "the source model"),
    "weights.nb": (bytes(16) + b"\x04\0\0\0\x08\x05\x10\x08" + bytes(40), "LF106", "half of the source model"),
    "best.pdparams": (PICKLE, "LF207", "tools/export_model.py"),
    "best.pdopt": (PICKLE, "LF207", "export the model for inference"),
    "best.states": (PICKLE, "LF207", "checkpoints"),
    "m.rknn": (b"RKNN" + bytes(60), "LF210", "RKNN"),
    "rknn.nb": (b"RKNN" + bytes(60), "LF210", "RKNN"),
    "lite.nb": (b"\x1c\0\0\0TFL3" + bytes(60), "LF210", "TensorFlow Lite"),
    "onnx.nb": (b"\x08\x07\x12\x07pytorch\x1a\x051.9.0", "LF210", "ONNX"),
    "raw.nb": (b"404: Not Found", "LF106", "download failed"),  # GitHub's raw files
    "hub.nb": (b"Entry not found\n", "LF106", "download failed"),
    "disk.nb": (b'{"errno":-9,"request_id":7}', "LF106", "JSON message"),
    "spring.nb": (b'{"timestamp":1,"status":404,"error":"Not Found"}', "LF106", "JSON message"),
    "saved.nb": (b"\xef\xbb\xbf<!-- saved from\nurl -->\n<html>", "LF106", "HTML or XML page"),
    "link.nb": (b"../../models/det.nb", "LF106", "symbolic link"),
    "merged.nb": (b"<<<<<<< HEAD\n" + POINTER + b"=======\n" + POINTER + b">>>>>>> b\n", "LF106", "git checkout"),
    "._det.nb": (b"\0\x05\x16\x07\0\x02\0\0Mac OS X        " + bytes(40), "LF106", "AppleDouble"),
    "notebook.nb": (b"(* Content-type: application/vnd.wolfram.mathematica *)\n", "LF106", "Mathematica"),
    "golden.nb": (b"\x93NUMPY\x01\0v\0{'descr': '<f4'", "LF106", "NumPy"),
    "bare.nb": (b"\x08\x08\x3a\xb0\x02\x0a\x10" + bytes(9), "LF210", "ONNX"),  # no producer, as onnx.helper makes it
    "m.kmodel": (b"LDMK\x05\0\0\0" + bytes(40), "LF210", "Kendryte"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_each_is_named_by_doctor_and_inspect(name: str, tmp_path: Path) -> None:
    content, code, words = FILES[name]
    path = tmp_path / name
    path.write_bytes(content)
    for found in (examine(path).diagnosis.findings, inspect_file(path).findings):
        if found[0].code == "LF322":  # doctor tried to unpack it
            assert name in ("a.tar.gz", "a.tar.xz")
            assert "cannot be unpacked" in found[0].observed
            continue
        assert [f.code for f in found] == [code]
        assert found[0].observed.startswith(name)
        assert words in found[0].observed


def test_archives_made_by_their_tools_are_named(tmp_path: Path) -> None:
    (tmp_path / "inference.pdmodel").write_bytes(SMALL)
    with tarfile.open(tmp_path / "m.tar", "w") as tar:
        tar.add(tmp_path / "inference.pdmodel", "m/inference.pdmodel")
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
        archive.write(tmp_path / "inference.pdmodel", "inference.pdmodel")
    for name, kind in (("m.tar", "tar"), ("m.zip", "zip")):
        (found,) = examine(tmp_path / name).diagnosis.findings
        assert found.observed == f"{name} is a {kind} archive: unpack it, and give the file or folder inside."


def test_as_a_source_each_is_refused_by_name(tmp_path: Path, nb_files: Callable[..., Path]) -> None:
    converted = tmp_path / "already.pdmodel"
    converted.write_bytes(nb_files("cls", "x86").read_bytes())
    pointer = tmp_path / "inference.pdmodel"
    pointer.write_bytes(POINTER)
    for path, words in ((converted, "under `nb:`"), (pointer, "git lfs pull")):
        with pytest.raises(FindingError, match=words) as caught:
            find_source(path)
        assert [f.code for f in caught.value.findings] == ["LF207"]


def test_a_folder_of_training_files_says_what_is_missing(tmp_path: Path) -> None:
    for name in ("best_accuracy.pdparams", "best_accuracy.pdopt"):
        (tmp_path / name).write_bytes(PICKLE)
    found = [f for path in expand([tmp_path]) for f in examine(path).diagnosis.findings]
    assert [f.code for f in found] == ["LF207", "LF207"]


@pytest.mark.parametrize(
    ("program", "params"), [("model", "params"), ("net.bin", "net.weights"), ("__model__", "__params__")]
)
def test_doctor_takes_the_names_that_convert_takes(program: str, params: str, tmp_path: Path) -> None:
    (tmp_path / program).write_bytes(SMALL)
    (tmp_path / params).write_bytes(SMALL_PARAMS)
    assert kind_of(tmp_path) is Kind.SOURCE
    for path in (tmp_path, tmp_path / program):
        assert kind_of(path) is Kind.SOURCE
        assert examine(path).diagnosis.findings == ()


def test_what_may_be_right_is_not_named() -> None:
    assert other_file(b"\x02\0v2.13-rc", "m.nb") is None
    assert other_file(SMALL, "inference.pdmodel", is_source=True) is None
    assert other_file(b"just words", "notes") is None
    assert other_file(b"400 pages of words, with caf\xc3\xa9", "notes") is None
    assert other_file(b'{"base_code":{"magic":"pir"', "inference.json", is_source=True) is None


def test_programs_where_a_model_was_meant_are_named() -> None:
    for head, words in (
        (b"\x7fELF\x02\x01\x01", "ELF"),
        (b"!<arch>\ndebian", "static library"),
        (b"MZ\x90\0", "Windows"),
    ):
        found = other_file(head + bytes(60), "opt", is_source=True)
        assert found is not None
        assert words in found.observed
