"""The code of the first answer that a session keeps: the next one starts with it, unless anything about it does not fit."""

from __future__ import annotations

import hashlib
import importlib.util
import marshal
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from litefleet_controller.devices import bootstrap
from litefleet_controller.devices.agent_archive import agent_archive

from .test_bootstrap import Machine, hello

SH = ["/bin/sh"]
HAVE = b"LFBOOT n0nce have\n"
NEED = f"LFBOOT n0nce need {sys.implementation.cache_tag} {importlib.util.MAGIC_NUMBER.hex()}\n".encode()


class Started:
    """A device with this interpreter, on which one session has run."""

    def __init__(self, folder: Path) -> None:
        self.machine = Machine(folder)
        self.machine.program("python3", f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        assert self.machine.run(SH, agent_archive().data).returncode == 0
        self.folder = self.machine.root / "agent"
        self.archive = self.folder / f"{agent_archive().sha256}.pyz"
        (self.file,) = self.folder.glob("*.start.bytecode")

    def session(self) -> dict:
        """Run a session and return its answer to hello."""
        done = self.machine.run(SH)
        assert done.stdout.startswith(HAVE), done
        assert done.returncode == 0, done
        return hello(done.stdout[len(HAVE) :])

    def content(self) -> list:
        return list(marshal.loads(self.file.read_bytes()[32:]))

    def write(self, stamp: object, code: dict, sha256: str = agent_archive().sha256) -> None:
        body = marshal.dumps((stamp, code, None, None))
        head = b"start" + sha256.encode() + importlib.util.MAGIC_NUMBER
        self.file.write_bytes(hashlib.sha256(head + body).digest() + body)

    def poison(self, **changed: object) -> None:
        """Write a file whose code ends the process with 9 as soon as it runs."""
        stamp, code, *_ = self.content()
        code["litefleet_agent.bytecode"] = (False, compile("raise SystemExit(9)", "x", "exec"))
        self.write(changed.pop("stamp", stamp), code, **changed)


@pytest.fixture
def device(tmp_path: Path) -> Started:
    return Started(tmp_path)


def test_what_a_session_kept_is_what_the_next_one_runs(device: Started) -> None:
    assert device.file.stat().st_mode & 0o777 == 0o600
    device.poison()
    assert device.machine.run(SH).returncode == 9


def _touched(device: Started) -> None:
    device.poison()
    os.utime(device.archive, (1, 1))


def _written(device: Started) -> None:
    device.poison()
    device.archive.write_bytes(device.archive.read_bytes())


def _of_another_boot(device: Started) -> None:
    stamp = device.content()[0]
    device.poison(stamp=("00000000-0000-0000-0000-000000000000", *stamp[1:]))


def _flipped(device: Started) -> None:
    device.poison()
    data = bytearray(device.file.read_bytes())
    data[-100] ^= 1
    device.file.write_bytes(data)


def _shared(device: Started) -> None:
    device.poison()
    device.file.chmod(0o620)


def _linked(device: Started) -> None:
    device.poison()
    device.file.rename(device.folder / "elsewhere")
    device.file.symlink_to("elsewhere")


def _of_another_agent(device: Started) -> None:
    device.poison(sha256="0" * 64)


def _folder(device: Started) -> None:
    device.file.unlink()
    device.file.mkdir()


UNFIT = [_touched, _written, _of_another_boot, _flipped, _shared, _linked, _of_another_agent, _folder]


@pytest.mark.parametrize("unfit", UNFIT)
def test_what_does_not_fit_is_not_run(unfit: Callable[[Started], None], device: Started) -> None:
    unfit(device)
    assert device.session()["agent"] == agent_archive().sha256
    if unfit is not _folder:
        assert "litefleet_agent.session.server" in device.content()[1]  # and replaced


def test_a_damaged_agent_is_asked_for_although_its_code_is_kept(device: Started) -> None:
    data = bytearray(device.archive.read_bytes())
    data[1000] ^= 1
    device.archive.write_bytes(data)
    done = device.machine.run(SH, agent_archive().data)
    assert done.stdout.startswith(NEED + b"LFBOOT n0nce ready\n"), done


def test_a_session_that_is_to_change_nothing_runs_the_code_and_writes_none(device: Started) -> None:
    before = device.file.stat().st_ino
    assert device.machine.run(SH, keep=False).returncode == 0
    assert device.file.stat().st_ino == before
    device.poison()
    assert device.machine.run(SH, keep=False).returncode == 9
    device.file.unlink()
    assert device.machine.run(SH, keep=False).returncode == 0
    assert not device.file.exists()


def test_packages_that_a_pth_file_names_are_found_without_running_it(tmp_path: Path) -> None:
    site = tmp_path / "venv" / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    (tmp_path / "elsewhere" / "numpy").mkdir(parents=True)
    (tmp_path / "elsewhere" / "numpy" / "__init__.py").touch()
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    site.mkdir(parents=True)
    real = Path(sys.executable).resolve()
    (tmp_path / "venv" / "bin" / "python3").symlink_to(real)
    (tmp_path / "venv" / "pyvenv.cfg").write_text(f"home = {real.parent}\n")
    ran = tmp_path / "ran"
    (site / "x.pth").write_text(f"{tmp_path}/elsewhere\nimport sys; open({str(ran)!r}, 'a').write('x')\n")
    machine = Machine(tmp_path)
    (machine.bin / "python3").symlink_to(tmp_path / "venv" / "bin" / "python3")

    def session(after: bytes = b"") -> tuple[dict, int]:
        """Return the facts that a session reports, and how often the .pth file ran."""
        ran.write_text("")
        done = machine.run(SH, after, python=str(tmp_path / "venv" / "bin" / "python3"))
        assert done.returncode == 0, done
        return hello(done.stdout[done.stdout.index(b"LFF1") :])["facts"], len(ran.read_text())

    facts, count = session(agent_archive().data)
    assert facts["numpy"]["path"] == f"{tmp_path}/elsewhere/numpy"
    assert count > 0
    time.sleep(3.2)  # until the files have not just changed
    session()
    again, count = session()
    assert (again["numpy"], again["python"], count) == (facts["numpy"], facts["python"], 0)
    (site / "x.pth").write_text("")
    again, count = session()
    assert again["numpy"]["path"] != facts["numpy"]["path"]


def test_the_loader_that_each_session_compiles_is_short() -> None:
    assert len(bootstrap.LOADER) < 2600
