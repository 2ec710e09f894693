"""The bytecode that the agent keeps beside its archive: used where it is whole and the user's own, ignored otherwise."""

from __future__ import annotations

import ast
import hashlib
import json
import marshal
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import litefleet_agent
import pytest
from litefleet_agent.bytecode import digest_of, read_bytecode

START = """import sys; sys.path.insert(0, sys.argv[1]); {before}
import json, os
from litefleet_agent.bytecode import running
from litefleet_agent.releases.archive import keep_bytecode
import litefleet_agent.formats.npz
finder = running()
print(json.dumps(finder and sorted(finder.compiled)))
keep_bytecode()
"""


class Device:
    """A folder with the agent's archive, as the bootstrap leaves it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "agent"
        self.folder.mkdir(mode=0o700)
        source = Path(litefleet_agent.__file__).parent
        archive = folder / "archive"
        with zipfile.ZipFile(str(archive), "w") as out:
            for path in sorted(source.rglob("*.py")):
                out.write(str(path), str(path.relative_to(source.parent)))
        self.sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
        self.archive = self.folder / (self.sha256 + ".pyz")
        archive.rename(self.archive)
        self.kept = self.folder / f"{self.sha256}.{sys.implementation.cache_tag}.bytecode"

    def start(self, before: str = "", *options: str) -> list[str] | None:
        """Start the agent and return the modules that it compiled, None where it uses no BytecodeFinder."""
        code = START.format(before=before)
        argv = [sys.executable, "-Es", *options, "-c", code, str(self.archive)]
        done = subprocess.run(argv, capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    def names(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())


@pytest.fixture
def device(tmp_path: Path) -> Device:
    os.umask(0o077)
    return Device(tmp_path)


def test_the_second_start_compiles_nothing(device: Device) -> None:
    first = device.start()
    assert {"litefleet_agent.formats", "litefleet_agent.formats.npz", "litefleet_agent.releases.archive"} <= set(first)
    assert device.names() == sorted([device.archive.name, device.kept.name])
    assert device.kept.stat().st_mode & 0o777 == 0o600
    before = device.kept.stat()
    assert device.start() == []
    after = device.kept.stat()  # nothing new: not written again
    assert (after.st_ino, after.st_mtime_ns, after.st_size) == (before.st_ino, before.st_mtime_ns, before.st_size)


def test_modules_of_later_starts_are_added(device: Device) -> None:
    device.start()
    assert device.start(before="import litefleet_agent.formats.elf") == ["litefleet_agent.formats.elf"]
    kept = set(read_bytecode(str(device.kept), device.sha256))
    assert {"litefleet_agent.formats.elf", "litefleet_agent.formats.npz"} <= kept


def test_a_traceback_names_the_file_in_the_archive(device: Device) -> None:
    device.start()
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import litefleet_agent.formats.npz as n; n.read_npz('/nowhere/x')"
    )
    argv = [sys.executable, "-Es", "-c", code, str(device.archive)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert f'File "{device.archive}/litefleet_agent/formats/npz.py", line ' in done.stderr


@pytest.mark.parametrize(
    "damage", ["flipped", "cut", "empty", "of another archive", "of another interpreter", "no marshal"]
)
def test_a_file_that_does_not_fit_is_ignored_and_replaced(damage: str, device: Device) -> None:
    compiled = device.start()
    data = device.kept.read_bytes()
    poison = {"litefleet_agent.formats": (True, marshal.dumps(compile("raise SystemExit(9)", "x", "exec")))}
    body = marshal.dumps(poison)
    device.kept.write_bytes(
        {
            "flipped": data[:-1000] + bytes([data[-1000] ^ 1]) + data[-999:],
            "cut": data[:-1],
            "empty": b"",
            "of another archive": digest_of("0" * 64, body) + body,
            "of another interpreter": hashlib.sha256(device.sha256.encode() + b"\x00\x00\r\n" + body).digest() + body,
            "no marshal": bytes(1000),
        }[damage]
    )
    assert device.start() == compiled
    assert device.start() == []


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_a_file_that_another_user_can_write_is_ignored(mode: int, device: Device) -> None:
    compiled = device.start()
    device.kept.chmod(mode)
    assert device.start() == compiled


def test_a_link_is_ignored(device: Device) -> None:
    compiled = device.start()
    device.kept.rename(device.folder / "elsewhere")
    device.kept.symlink_to("elsewhere")
    assert device.start() == compiled
    assert not device.kept.is_symlink()


def test_a_folder_that_another_user_can_write_holds_none(device: Device) -> None:
    device.folder.chmod(0o770)
    assert device.start() is None
    assert device.names() == [device.archive.name]


def test_an_archive_that_was_changed_is_not_kept(device: Device) -> None:
    with zipfile.ZipFile(str(device.archive), "a") as archive:
        archive.writestr("more.py", "")
    assert device.start()
    assert device.names() == [device.archive.name]


def test_a_folder_that_cannot_be_written_does_no_harm(device: Device) -> None:
    device.kept.mkdir()  # a rename onto it fails, for root too
    assert device.start()
    assert device.names() == sorted([device.archive.name, device.kept.name])


@pytest.mark.parametrize("option", ["-B", "-O"])
def test_python_without_bytecode_or_with_optimization_keeps_none(option: str, device: Device) -> None:
    device.start("", option)
    assert device.names() == [device.archive.name]


def test_each_interpreter_has_a_file_of_its_own(device: Device) -> None:
    device.start()
    other = "import sys; sys.implementation.cache_tag = 'other-99'"
    code = other + "; " + START.format(before="")
    argv = [sys.executable, "-Es", "-c", code, str(device.archive)]
    for compiled in (True, False):
        done = subprocess.run(argv, capture_output=True, text=True, check=True)
        assert bool(json.loads(done.stdout)) is compiled
    assert f"{device.sha256}.other-99.bytecode" in device.names()
    assert device.start() == []


def test_two_starts_at_once_leave_a_whole_file(device: Device) -> None:
    code = START.format(before="")
    argv = [sys.executable, "-Es", "-c", code, str(device.archive)]
    running = [subprocess.Popen(argv, stdout=subprocess.DEVNULL) for _ in range(4)]
    assert [process.wait() for process in running] == [0] * 4
    assert device.names() == sorted([device.archive.name, device.kept.name])
    assert device.start() == []


def test_an_assert_of_the_agent_only_tells_a_type() -> None:
    """Devices run the agent without asserts: none may check what comes from outside."""
    for path in sorted(Path(litefleet_agent.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Assert):
                parts = node.test.values if isinstance(node.test, ast.BoolOp) else [node.test]
                assert all(_tells_a_type(part) for part in parts), f"{path}:{node.lineno}"


def _tells_a_type(test: ast.expr) -> bool:
    if isinstance(test, ast.Call):
        return isinstance(test.func, ast.Name) and test.func.id == "isinstance"
    return isinstance(test, ast.Compare) and isinstance(test.ops[0], ast.IsNot)
