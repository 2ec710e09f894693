"""doctor of the operator's machine and project: silent where all is well, and a code for each thing that is not."""

from __future__ import annotations

import datetime
import os
import shutil
import socket
import sqlite3
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncssh
import pytest
from litefleet_agent.findings import Severity
from litefleet_controller.build.toolchain import OWN
from litefleet_controller.doctor.controller_machine import (
    BOUNDS,
    check_clock,
    check_packages,
    check_system,
    diagnose_host,
)
from litefleet_controller.doctor.diagnosis import CheckResult, Diagnosis
from litefleet_controller.doctor.host_programs import check_folder, check_toolchains
from litefleet_controller.doctor.host_ssh import Agent, ask_agent, check_key, check_known_hosts
from litefleet_controller.doctor.project import diagnose_project, open_quietly
from litefleet_controller.state.state import State

CONFIG = """\
inventory: fleet.yaml
models:
  cls:
    source: {source}
    inputs: {{x: [1, 3, 48, 192]}}
ssh: {{known_hosts: known_hosts}}
"""
FLEET = """\
devices:
  one: {{host: 192.0.2.1, user: edge, key: {key}, arch: x86_64}}
  two: {{host: 192.0.2.2, user: edge, key: {key}, arch: x86_64}}
"""


@dataclass
class Place:
    """A home, a cache and a project of their own."""

    home: Path
    folder: Path
    key: Path

    def config(self, old: str = "", new: str = "") -> None:
        path = self.folder / "litefleet.yaml"
        assert not old or old in path.read_text()
        path.write_text(path.read_text().replace(old, new, 1) if old else new)

    def fleet(self, text: str) -> None:
        (self.folder / "fleet.yaml").write_text(text)

    async def look(self) -> tuple[Diagnosis, Diagnosis]:
        before = self.files()  # whatever it finds, it changes nothing
        machine, project = await diagnose_host(self.folder / "litefleet.yaml", None)
        assert self.files() == before
        return machine, project

    async def project(self) -> Diagnosis:
        before = self.files()
        opened = open_quietly(self.folder / "litefleet.yaml", None)
        assert opened is not None
        found = await diagnose_project(opened, Agent())
        assert self.files() == before
        return found

    def files(self) -> list[tuple[str, int]]:
        return sorted((str(p), p.lstat().st_mtime_ns) for p in self.folder.parent.rglob("*"))


def write_key(path: Path, passphrase: str = "") -> Path:
    key = asyncssh.generate_private_key("ssh-ed25519")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_bytes(key.export_private_key(passphrase=passphrase) if passphrase else key.export_private_key())
    path.with_name(path.name + ".pub").write_bytes(key.export_public_key())
    return path


@pytest.fixture
def place(tmp_path: Path, models: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Place:
    home, folder = tmp_path / "home", tmp_path / "project"
    home.mkdir()
    folder.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.setenv("LITEFLEET_CACHE", str(tmp_path / "cache"))
    key = write_key(home / ".ssh" / "fleet")
    source = tmp_path / "model"
    source.mkdir()
    for name in ("inference.pdmodel", "inference.pdiparams"):
        (source / name).symlink_to(models["cls"] / name)
    made = Place(home, folder, key)
    made.config(new=CONFIG.format(source=source))
    made.fleet(FLEET.format(key=key))
    public = asyncssh.read_public_key(f"{key}.pub").export_public_key().decode().split()
    lines = [f"192.0.2.{n} {public[0]} {public[1]}\n" for n in (1, 2)]
    (folder / "known_hosts").write_text("# ours\n" + "".join(lines))
    return made


def codes(result: CheckResult | Diagnosis) -> list[tuple[str, Severity]]:
    return [(f.code, f.severity) for f in result.findings]


def sentences(result: CheckResult | Diagnosis, code: str) -> str:
    return "\n".join(f.observed for f in result.findings if f.code == code)


async def test_a_good_machine_and_project_have_nothing_above_a_note(place: Place) -> None:
    machine, project = await place.look()
    assert {f.severity for d in (machine, project) for f in d.findings} <= {Severity.NOTE}
    assert {f.code for f in machine.findings} <= {"LF703"}  # this cache is empty
    assert any("key" in sentence for sentence in project.works)
    assert any("source model is complete" in sentence for sentence in project.works)
    assert {f.label for f in machine.facts} >= {"system", "python", "cache", "uv", "ssh agent"}


async def test_a_machine_without_a_project_is_described_alone(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    diagnoses = await diagnose_host(Path("litefleet.yaml"), None)
    assert len(diagnoses) == 1
    assert "LF706" in [f.code for f in diagnoses[0].findings]  # ~/.ssh has no default key here
    write_key(place.home / ".ssh" / "id_ed25519")
    assert "LF706" not in [f.code for f in (await diagnose_host(Path("litefleet.yaml"), None))[0].findings]


def test_the_bounds_are_those_that_the_package_declares() -> None:
    declared = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]["dependencies"]
    bounds = dict(line.split(">=") for line in declared)
    assert {name: bounds[name] for name in BOUNDS} == BOUNDS


def test_packages_that_are_missing_or_old_are_named() -> None:
    found = check_packages({"asyncssh": "999.0", "no-such-package-of-ours": "1.0", "pyyaml": "6.0"})
    assert codes(found) == [("LF710", Severity.ERROR)] * 2
    assert "asyncssh" in found.findings[0].observed
    assert "is missing" in found.findings[1].observed


@pytest.mark.parametrize(
    ("system", "machine", "bad"), [("linux", "x86_64", 0), ("darwin", "arm64", 1), ("linux", "aarch64", 1)]
)
def test_machines_that_no_converter_is_published_for(system: str, machine: str, bad: int) -> None:
    assert [f.code for f in check_system(system, machine).findings] == ["LF701"] * bad


def test_a_clock_that_was_never_set() -> None:
    assert check_clock(datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)).findings == ()
    assert "1970-01-01" in check_clock(datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)).findings[0].observed


async def test_a_file_in_place_of_the_cache(place: Place, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    machine, _ = await place.look()
    assert ("LF704", Severity.ERROR) in codes(machine)
    assert "is not a folder" in sentences(machine, "LF704")


def test_a_disk_without_room(tmp_path: Path) -> None:
    found = check_folder("cache", tmp_path / "new" / "cache", 10**18, "LITEFLEET_CACHE")
    assert codes(found) == [("LF704", Severity.ERROR)]
    assert not (tmp_path / "new").exists()


async def test_environments_that_are_not_made_yet(tmp_path: Path) -> None:
    environ = {
        "LITEFLEET_CACHE": str(tmp_path),
        "HOME": str(tmp_path),
        "PATH": "",
        "UV_OFFLINE": "1",
        "UV_NO_CACHE": "1",
    }
    environ["UV_PYTHON_INSTALL_DIR"] = str(tmp_path / "none")
    found = await check_toolchains("2.12", False, environ)
    assert [f.code for f in found.findings] == ["LF703"]  # no CPython 3.7: litefleet's own one takes the wheel
    assert f"{OWN} can make it" in found.findings[0].observed
    unknown = await check_toolchains("1.0", False, environ)
    assert "There is no Paddle-Lite 1.0" in sentences(unknown, "LF702")


async def test_an_environment_that_lost_its_packages(tmp_path: Path) -> None:
    folder = tmp_path / "lite-2.13rc0"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(shutil.which("true") or "/bin/true")
    (folder / ".done").write_text('["paddlelite==2.13rc0", "numpy<2"]')
    good = await check_toolchains("2.13rc0", False, {"LITEFLEET_CACHE": str(tmp_path)})
    assert "Paddle-Lite 2.13rc0 is ready." in good.works
    (folder / "bin" / "python").unlink()
    (folder / "bin" / "python").symlink_to(shutil.which("false") or "/bin/false")
    found = await check_toolchains("2.13rc0", False, {"LITEFLEET_CACHE": str(tmp_path)})
    assert [f.code for f in found.findings] == ["LF702"]


async def test_keys_that_the_inventory_names(place: Place) -> None:
    place.fleet(FLEET.format(key=place.home / "nowhere"))
    assert "is missing" in sentences(await place.project(), "LF705")
    place.fleet(FLEET.format(key=write_key(place.home / "locked", "secret")))
    project = await place.project()
    assert codes(project) == [("LF705", Severity.ERROR)]
    assert "passphrase" in project.findings[0].observed
    assert "one and 1 more" in project.findings[0].observed
    (place.home / "garbage").write_text("no key")
    place.fleet(FLEET.format(key=place.home / "garbage"))
    assert "is not a private key" in sentences(await place.project(), "LF705")


def test_a_key_that_is_open_to_others_is_a_warning(place: Place) -> None:
    place.key.chmod(0o644)
    found = check_key(str(place.key), ["one"], Agent())
    assert codes(found) == [("LF705", Severity.WARNING)]
    assert "mode 0644" in found.findings[0].observed


def test_a_locked_key_that_the_agent_holds(tmp_path: Path) -> None:
    path = write_key(tmp_path / "locked", "secret")
    held = Agent((asyncssh.read_public_key(f"{path}.pub").public_data,), "")
    assert "The SSH agent holds it" in check_key(str(path), ["one"], held).findings[0].observed
    assert "holds it" not in check_key(str(path), ["one"], Agent()).findings[0].observed


@pytest.fixture
def stale_socket(tmp_path: Path) -> Iterator[Path]:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "agent.sock"))
        yield tmp_path / "agent.sock"


async def test_an_agent_that_is_gone(stale_socket: Path) -> None:
    agent = await ask_agent({"SSH_AUTH_SOCK": str(stale_socket)})
    assert agent.keys == ()
    assert "does not answer" in agent.problem


def test_known_hosts_line_by_line(place: Place) -> None:
    path = place.folder / "known_hosts"
    assert check_known_hosts(path).findings == ()
    path.write_text(path.read_text() + "garbage\nhost ssh-ed25519 AAAA\n")
    found = check_known_hosts(path)
    assert codes(found) == [("LF707", Severity.WARNING)] * 2
    assert "known_hosts:4: " in found.findings[0].observed
    assert "the line is skipped" in found.findings[0].observed
    assert "known_hosts:5: " in found.findings[1].observed
    path.write_text("garbage\n" * 50)
    assert "45 more such lines" in check_known_hosts(path).findings[-1].observed
    assert check_known_hosts(place.folder / "none").findings == ()


async def test_a_known_hosts_line_that_is_skipped_is_a_warning_of_the_project(place: Place) -> None:
    path = place.folder / "known_hosts"
    path.write_text(path.read_text() + "garbage\n")
    assert codes(await place.project()) == [("LF707", Severity.WARNING)]


async def test_devices_whose_host_key_nobody_knows(place: Place) -> None:
    (place.folder / "known_hosts").unlink()
    assert "one, two" in sentences(await place.project(), "LF707")
    place.config("known_hosts: known_hosts", "known_hosts: known_hosts, accept_new_host_keys: true")
    assert codes(await place.project()) == []


async def test_mistakes_in_litefleet_yaml_come_with_their_lines(place: Place) -> None:
    place.config("inputs", "inptus")
    project = await place.project()
    assert "litefleet.yaml:5" in sentences(project, "LF708")
    place.config(new="models: [")
    assert "not valid YAML" in sentences(await place.project(), "LF708")
    (place.folder / "litefleet.yaml").unlink()
    assert "is missing" in sentences(await place.project(), "LF708")


async def test_mistakes_in_the_inventory(place: Place) -> None:
    place.fleet("devices:\n  one: {host: 192.0.2.1, pasword: x}\n")
    assert "fleet.yaml:2" in sentences(await place.project(), "LF708")
    place.fleet("devices:\n  one: {host: 192.0.2.1, model: nosuch}\n")
    assert "nosuch" in sentences(await place.project(), "LF708")
    place.fleet("devices:\n  one: {host: 192.0.2.1}\n  two: {host: 192.0.2.1}\n")
    assert "one machine, one device" in sentences(await place.project(), "LF708")


async def test_devices_that_name_no_key_where_there_is_none(place: Place) -> None:
    place.fleet("devices:\n  one: {host: 192.0.2.1}\n")
    machine, project = await place.look()
    assert ("LF706", Severity.WARNING) in codes(machine)
    assert codes(project) == []


async def test_models_that_are_missing_or_damaged(place: Place, tmp_path: Path) -> None:
    params = tmp_path / "model" / "inference.pdiparams"
    data = params.read_bytes()
    params.unlink()
    assert "cls: " in sentences(await place.project(), "LF201")
    params.write_bytes(data[:-100])
    assert [c for c, _ in codes(await place.project())] == ["LF203"]


async def test_files_that_a_model_names(place: Place, tmp_path: Path) -> None:
    (place.folder / "a.nb").write_bytes(b"not one" * 100)
    extra = "    nb: {x86_64: a.nb, aarch64: none.nb}\n    golden: {files: [a.npz, b.npz]}\nssh:"
    place.config("ssh:", extra)
    project = await place.project()
    assert sorted({c for c, _ in codes(project)}) == ["LF106", "LF201", "LF412"]


async def test_runtimes_that_are_not_what_they_should_be(place: Place) -> None:
    package = place.folder / "arm" / "paddlelite"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    shutil.copy(shutil.which("true") or "/bin/true", package / "lite.so")  # an ELF file of this machine
    runtimes = (
        "runtimes: {aarch64: {folder: arm}, i686: {wheel: none-1-cp39-cp39-linux_i686.whl}, armv7l: {folder: gone}}"
    )
    place.config("ssh:", f"{runtimes}\nssh:")
    project = await place.project()
    assert "is not for aarch64" in sentences(project, "LF308")
    assert "runtimes.i686" in sentences(project, "LF302")
    assert "runtimes.armv7l" in sentences(project, "LF302")


async def test_an_architecture_that_nothing_serves(place: Place) -> None:
    place.fleet(FLEET.format(key=place.key).replace("x86_64", "aarch64"))
    project = await place.project()
    assert codes(project) == [("LF302", Severity.WARNING)]
    assert "2 devices" in project.findings[0].observed


async def test_state_databases(place: Place) -> None:
    state = place.folder / ".litefleet" / "state.db"
    State.open(str(state)).close()
    project = await place.project()
    assert codes(project) == []
    assert any("schema" in sentence for sentence in project.works)
    with sqlite3.connect(state) as connection:
        connection.execute("UPDATE litefleet_version SET version_num = '9999'")
    connection.close()
    assert "newer litefleet" in sentences(await place.project(), "LF708")
    for extra in state.parent.glob("state.db*"):
        extra.unlink()
    state.write_bytes(b"something else" * 1000)
    assert "cannot be read" in sentences(await place.project(), "LF708")


async def test_a_state_database_of_an_unknown_kind(place: Place) -> None:
    place.config("ssh:", "state: mysql://host/db\nssh:")
    assert "mysql" in sentences(await place.project(), "LF708")


async def test_signing_with_a_key_that_is_not_there(place: Place) -> None:
    place.config("ssh:", "signing: {key: nokey, allowed_signers: signers}\nssh:")
    assert "nokey" in sentences(await place.project(), "LF708")


async def test_a_machine_without_ssh_keygen_can_do_all_but_sign(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    (place.home / "bin").mkdir()
    monkeypatch.setenv("PATH", str(place.home / "bin"))
    machine, _ = await place.look()
    assert "LF709" not in [f.code for f in machine.findings]
    place.config("ssh:", "signing: {key: nokey, allowed_signers: signers}\nssh:")
    machine, _ = await place.look()
    assert ("LF709", Severity.WARNING) in codes(machine)
    old = place.home / "bin" / "ssh-keygen"
    old.write_text("#!/bin/sh\necho 'unknown option -- Y' >&2\nexit 1\n")
    old.chmod(0o755)
    assert "too old" in sentences((await place.look())[0], "LF709")


async def test_what_files_say_is_made_harmless(place: Place) -> None:
    (place.folder / "known_hosts").write_bytes(b"\x1b[31mred\n")
    project = await place.project()
    assert "\x1b" not in "".join(f.observed for f in project.findings)
    assert os.linesep not in sentences(project, "LF708")
