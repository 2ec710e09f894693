"""The units of the operator's host, installed as the documentation says and run by a real systemd, against a real device."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from litefleet_controller.demo import DeviceSpec, EmbeddedFleet

from tests.agent.support.real_paddlelite import make_goldens
from tests.conftest import lacking, wheelhouse
from tests.fakes.embedded_inventory import inventory_yaml
from tests.lab.arm_devices import free_port
from tests.lab.containers import Machine, booted, wait_until_up, why_not_booted
from tests.lab.service_machine import within

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

CHECKOUT = Path(__file__).parents[2]
PIP = "[global]\nno-index = true\nfind-links = /wheels\n"  # the machine has no package index
EXIT = "systemctl show -p ExecMainStatus --value litefleet-reconcile"


@pytest.fixture
def host() -> Iterator[Machine]:
    """A machine that is to become the operator's host; it reaches the devices on this one's loopback."""
    if reason := why_not_booted():
        lacking(reason)
    with booted(binds={wheelhouse(): "/wheels", CHECKOUT: "/src"}) as machine:
        assert wait_until_up(machine) == "running"
        run(machine, "cat > /etc/pip.conf", PIP.encode())
        yield machine


def run(machine: Machine, command: str, stdin: bytes = b"", code: int = 0) -> str:
    done = machine.ssh(command, stdin, time_limit_s=300)
    assert done.returncode == code, (command, done.returncode, done.stdout, done.stderr)
    return done.stdout


def documented() -> list[str]:
    """Return the blocks of commands in the documentation."""
    section = (CHECKOUT / "docs/service.md").read_text(encoding="utf-8").partition("\n## On the operator's host")[2]
    return re.findall(r"^```sh\n(.*?)^```", section.partition("\n## ")[0], re.MULTILINE | re.DOTALL)


def project(folder: Path, fleet: EmbeddedFleet, nb: Path, goldens: list[Path]) -> None:
    """Write a project that needs no converter, as one that a build machine has prepared."""
    (folder / "models").mkdir(parents=True)
    for file, name in ((nb, "cls.nb"), (goldens[0], "a.npz"), (goldens[1], "b.npz")):
        shutil.copyfile(file, folder / "models" / name)
    config = {
        "inventory": "fleet.yaml",
        "store": "/var/lib/litefleet-fleet/store",
        "models": {"cls": {"nb": {"x86_64": "models/cls.nb"}, "golden": {"files": ["models/a.npz", "models/b.npz"]}}},
        "runtimes": {"x86_64": "system"},
        "verify": {"runs": 2, "warmup": 0},
        "rollout": {"waves": ["100%"], "gates": "off"},
    }
    (folder / "litefleet.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    inventory = yaml.safe_load(inventory_yaml(fleet))
    for device in inventory["devices"].values():
        (folder / "key").write_text(Path(device["key"]).read_text())
        device["key"] = "/etc/litefleet/fleet_ed25519"
        del device["host_key"]  # as of a device that was never seen
    (folder / "fleet.yaml").write_text(yaml.safe_dump(inventory, width=1000))


def bring(machine: Machine, folder: Path) -> None:
    packed = subprocess.run(["tar", "-C", folder, "-c", "."], capture_output=True, check=True).stdout
    run(machine, "mkdir -p /root/project && tar -C /root/project -x --no-same-owner", packed)
    run(machine, "install -m 600 /root/project/key /root/.ssh/fleet_ed25519 && rm /root/project/key")


def result(machine: Machine, unit: str) -> str:
    return run(machine, f"systemctl show -p Result --value {unit}").strip()


def log(machine: Machine, unit: str) -> str:
    return run(machine, f"journalctl --no-pager -o cat -u {unit}")


def drop_in(machine: Machine, unit: str, text: str) -> None:
    run(machine, f"mkdir -p /etc/systemd/system/{unit}.service.d")
    run(machine, f"cat > /etc/systemd/system/{unit}.service.d/override.conf && systemctl daemon-reload", text.encode())


async def test_the_documented_commands_make_a_host_whose_units_do_their_work(
    host: Machine,
    tmp_path: Path,
    nb_files: Callable[..., Path],
    models: dict[str, Path],
    lite_python: Path,
    paddle_python: Path,
) -> None:
    install, prepare, by_hand, enable = documented()
    run(host, "cd /src && sh -ex", install.encode())
    goldens = make_goldens(paddle_python, models["cls"], "cls", tmp_path)
    device = DeviceSpec("cam", kind="sshd", python=str(lite_python))
    async with EmbeddedFleet(tmp_path / "devices", [device]) as devices:
        project(tmp_path / "project", devices, nb_files("cls", "x86"), goldens)
        bring(host, tmp_path / "project")
        run(host, "cd /root/project && sh -ex", prepare.encode())
        run(host, "sh -ex", by_hand.encode())
        port = free_port()  # the machine shares its loopback with this one
        drop_in(host, "litefleet-metrics", f"[Service]\nEnvironment=LITEFLEET_METRICS=127.0.0.1:{port}\n")
        run(host, "sh -ex", enable.encode())
        all_is_well(host, port)
        drift_fails_the_unit_until_it_is_repaired(host, devices.devices["cam"].root / "models/cls/current")


def all_is_well(host: Machine, port: int) -> None:
    assert result(host, "litefleet-reconcile") == "success"
    assert "already runs this release" in log(host, "litefleet-reconcile")
    timers = run(host, "systemctl list-timers --no-pager --no-legend 'litefleet*'")
    assert {"litefleet-reconcile.timer", "litefleet-fleet-verify.timer"} <= set(timers.split())
    run(host, "systemctl start litefleet-fleet-verify")
    assert "1 verified" in log(host, "litefleet-fleet-verify")
    ask = f"import urllib.request as r; print(r.urlopen('http://127.0.0.1:{port}/metrics').read().decode())"
    metrics = within(30, lambda: host.ssh(f'python3 -c "{ask}"').stdout, "metrics")
    assert "litefleet_fleet_devices 1" in metrics
    for unit in ("litefleet-reconcile", "litefleet-fleet-verify", "litefleet-metrics"):
        level = re.search(r"Overall .*: ([\d.]+)", run(host, f"systemd-analyze security --no-pager {unit}"))
        assert level
        assert float(level[1]) <= 2.0


def drift_fails_the_unit_until_it_is_repaired(host: Machine, link: Path) -> None:
    link.unlink()
    run(host, "systemctl start litefleet-reconcile", code=1)
    assert (result(host, "litefleet-reconcile"), run(host, EXIT).strip()) == ("exit-code", "1")
    assert "LF601" in log(host, "litefleet-reconcile")
    command = "/usr/bin/env litefleet reconcile -c /etc/litefleet/litefleet.yaml --repair"
    drop_in(host, "litefleet-reconcile", f"[Service]\nExecStart=\nExecStart={command}\n")
    run(host, "systemctl start litefleet-reconcile")
    assert link.is_symlink()
