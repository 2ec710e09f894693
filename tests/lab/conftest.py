"""Fixtures: one running device per architecture and SSH server, started once per test session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from litefleet_controller.devices.code_packs import CodePacks

from tests.conftest import CACHE, lacking
from tests.lab.arm_devices import LabDevice, lab_device, why_not
from tests.lab.bare_root import why_no_bare_device
from tests.lab.containers import Machine, booted, why_not_booted
from tests.lab.rootfs import AARCH64, ARMV7, Userland


def _device(userland: Userland, server: str) -> Iterator[LabDevice]:
    reason = why_not()
    if reason:
        lacking(reason)
    with lab_device(userland, server) as device:
        yield device


def _name(kind: tuple[Userland, str]) -> str:
    return f"{kind[0].machine}-{kind[1]}"


@pytest.fixture(scope="session", params=["sshd", "dropbear"])
def aarch64_device(request: pytest.FixtureRequest) -> Iterator[LabDevice]:
    """A running aarch64 device."""
    yield from _device(AARCH64, request.param)


@pytest.fixture(scope="session", params=["sshd", "dropbear"])
def armv7_device(request: pytest.FixtureRequest) -> Iterator[LabDevice]:
    """A running armv7l device."""
    yield from _device(ARMV7, request.param)


BOTH = [(AARCH64, "sshd"), (ARMV7, "dropbear")]
CROSSED = [pytest.param(kind, marks=pytest.mark.long) for kind in ((AARCH64, "dropbear"), (ARMV7, "sshd"))]


@pytest.fixture(scope="session", params=[*BOTH, *CROSSED], ids=_name)
def arm_device(request: pytest.FixtureRequest) -> Iterator[LabDevice]:
    """A running device of each architecture and of each server, for what must hold on all of them; crossed, they are long."""
    yield from _device(*request.param)


@pytest.fixture(scope="module")
def systemd_machine() -> Iterator[Machine]:
    """A running machine with systemd, for the tests of one file."""
    if reason := why_not_booted():
        lacking(reason)
    with booted() as machine:
        yield machine


@pytest.fixture
def bare_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """What tests with bare devices need: the programs that make them, and Pythons that are made once for all tests."""
    if reason := why_no_bare_device():
        lacking(reason)
    monkeypatch.setenv("LITEFLEET_CACHE", str(CACHE / "litefleet"))


@pytest.fixture(autouse=True)
def _no_bytecode(monkeypatch: pytest.MonkeyPatch) -> None:
    """Devices compile the agent, so that what is sent does not depend on how fast the emulator is just now."""
    monkeypatch.setattr(CodePacks, "of", lambda self, interpreter: b"")
