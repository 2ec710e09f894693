"""`litefleet runtime`: what a runtime is, which devices it fits, and the entry in litefleet.yaml."""

from __future__ import annotations

import json
import time
from contextlib import closing
from pathlib import Path

import pytest
from litefleet_agent.facts import Libc
from litefleet_controller.cli import main
from litefleet_controller.config import load_config
from litefleet_controller.project.project import open_state
from litefleet_controller.state.model import KnownDevice

from tests.controller.build.runtimes.test_library import NAME, PI, of_version, release, standin

__all__ = ["standin"]  # a fixture
ARCHIVE = "inference_lite_lib.armlinux.armv8.gcc.tar.gz"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of four devices: two of known facts, one of a known architecture, one for x86_64."""
    monkeypatch.setenv("LITEFLEET_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")  # no line of the table is wrapped
    (tmp_path / "litefleet.yaml").write_text("models: {cls: {source: m}}  # ours\n")
    devices = (
        "a: {host: 192.0.2.1}, b: {host: 192.0.2.2}, c: {host: 192.0.2.3, arch: arm64}, d: {host: x, arch: x86_64}"
    )
    (tmp_path / "fleet.yaml").write_text(f"devices: {{{devices}}}\n")
    known = {"a": PI._replace(libc=Libc("glibc", "9.999"), libstdcxx="9.9.9"), "b": PI}
    with closing(open_state(load_config(tmp_path / "litefleet.yaml"))) as state:
        state.record_facts([KnownDevice(name, facts.to_dict(), "", time.time(), "") for name, facts in known.items()])
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    return int(str(ended.value.code)), capsys.readouterr().out


def document(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict]:
    code, text = run(capsys, *words, "--json")
    return code, json.loads(text)


def test_add_names_who_it_fits_and_writes_the_entry_once(
    folder: Path, standin: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    release(folder / ARCHIVE, of_version(standin, "v2.13-rc", "9.9"))
    before = (folder / "litefleet.yaml").read_text()
    code, tried = document(capsys, "runtime", "add", ARCHIVE, "--dry-run")
    assert (code, (folder / "litefleet.yaml").read_text()) == (0, before)
    assert "would be added" in tried["runtimes"][0]["facts"]
    code, text = run(capsys, "runtime", "add", ARCHIVE)
    assert code == 0, text
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "fits a" in lines
    assert "does not fit b: The runtime needs glibc 9.900; this device has 2.31. (LF309)" in lines
    assert "not known yet c: `litefleet plan` asks them for their facts" in lines
    assert f"added runtimes: aarch64: {{archive: {ARCHIVE}}} in litefleet.yaml" in lines
    assert (folder / "litefleet.yaml").read_text() == f"{before}\nruntimes:\n  aarch64: {{archive: {ARCHIVE}}}\n"
    code, again = document(capsys, "runtime", "add", ARCHIVE)
    assert again["runtimes"][0]["facts"]["not added"] == "it is under runtimes.aarch64 in litefleet.yaml already"
    release(folder / "old.tar.gz", of_version(standin, "v2.10"))
    assert run(capsys, "runtime", "add", "old.tar.gz")[0] == 0
    code, listed = document(capsys, "runtime", "list")
    newer, older = (next(r for r in listed["runtimes"] if name in r["subject"]) for name in (ARCHIVE, "old.tar.gz"))
    assert (newer["data"]["gets"], older["data"]["gets"]) == (["a"], ["b"])
    assert (newer["data"]["devices"]["fit"], older["data"]["devices"]["fit"]) == (["a"], ["a", "b"])
    assert newer["data"]["runtime"]["so_machine"] == "aarch64"


def test_what_cannot_be_used_is_not_added(folder: Path, standin: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    before = (folder / "litefleet.yaml").read_text()
    (folder / "cut.tar.gz").write_bytes(release(folder / "whole.tar.gz", standin).read_bytes()[:4000])
    (folder / "java.so").write_bytes(of_version(standin, "v2.13").replace(b"MobileConfig", b"XobileConfig"))
    for name, code in (("cut.tar.gz", "LF322"), ("java.so", "LF315")):
        status, found = document(capsys, "runtime", "add", name)
        assert status == 1
        assert [f["code"] for f in found["runtimes"][0]["findings"]] == [code]
        assert found["runtimes"][0]["facts"]["not added"] == "for what is said below"
    assert (folder / "litefleet.yaml").read_text() == before
    assert run(capsys, "runtime", "add")[0] == 2
    assert run(capsys, "runtime", "list", "x")[0] == 2
    assert run(capsys, "runtime", "check", "--dry-run")[0] == 2


def test_check_judges_files_and_entries(folder: Path, standin: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / NAME).write_bytes(standin)
    code, found = document(capsys, "runtime", "check", NAME)
    assert (code, found["runtimes"][0]["data"]["devices"]["fit"]) == (0, ["a", "b"])
    code, text = run(capsys, "runtime", "list")
    assert (code, "names no runtime" in text) == (0, True)
    with (folder / "litefleet.yaml").open("a") as config:
        config.write("runtimes: {aarch64: [{library: gone.so}, system]}\n")
    code, found = document(capsys, "runtime", "check")
    assert (code, [r["findings"][:1] != [] for r in found["runtimes"]]) == (1, [True, False])
    assert document(capsys, "runtime", "list")[0] == 0


def test_doctor_says_how_to_use_it(folder: Path, standin: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    release(folder / ARCHIVE, of_version(standin, "v2.13-rc"))
    (folder / "cxx" / "lib").mkdir(parents=True)
    (folder / "cxx" / "lib" / NAME).write_bytes(standin)
    for given in (ARCHIVE, "cxx", f"cxx/lib/{NAME}"):
        code, text = run(capsys, "doctor", given)
        words = " ".join(text.split())
        assert code == 0, text
        assert "litefleet drives it without Python binding and numpy: `litefleet runtime add FILE` names it." in words
        assert "interface C++ with today's string ABI" in words
