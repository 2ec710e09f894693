"""One measured job, run as a process of its own by fleet.py: `jobs.py NAME PLAN.json` prints its figures as JSON.

Every push job does the same to each device: connect with host keys verified, probe (machine, and the file's SHA-256 where it
is), push 5 MB where it is missing, sha256sum, rename, run python3 and read what it prints, close.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import resource
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import asyncssh
import fabric
import paramiko
from litefleet_controller.devices.agent_archive import agent_archive
from litefleet_controller.devices.agent_client import AgentClient, Request
from litefleet_controller.devices.transport.hostkeys import HostKeys
from litefleet_controller.devices.transport.ssh import SshTransport
from litefleet_controller.operations import start_rollout
from litefleet_controller.project import Options
from litefleet_controller.reports.progress import make_progress
from litefleet_inventory.model import Device

AT_ONCE = 32
PYTHON_JOB = "python3 -c 'import json,platform; print(json.dumps({\"ok\": platform.machine()}))'"
# The whole job as one command; the file comes on stdin when the answer is "need".
SCRIPT = f"""set -e
uname -m
cd FOLDER
if [ -e pushed.bin ] && [ "$(sha256sum <pushed.bin)" = "SHA  -" ]; then echo have; else
echo need
head -c SIZE >pushed.tmp
[ "$(sha256sum <pushed.tmp)" = "SHA  -" ]
mv pushed.tmp pushed.bin
fi
{PYTHON_JOB}
"""


class Plan:
    """What fleet.py wrote down: the devices, the file to push, the project."""

    def __init__(self, path: Path) -> None:
        raw = json.loads(path.read_text())
        self.devices: list[Device] = [Device(**entry) for entry in raw["devices"]]
        self.payload = Path(raw["payload"])
        self.known_hosts = Path(raw["known_hosts"])
        self.config = Path(raw["config"])
        self.limit = str(raw["limit"])
        self.sha256 = hashlib.sha256(self.payload.read_bytes()).hexdigest()
        self.size = self.payload.stat().st_size

    def command(self, device: Device) -> str:
        """Return the one compound command."""
        script = SCRIPT.replace("SHA", self.sha256).replace("SIZE", str(self.size)).replace("FOLDER", device.root)
        return f"exec /bin/sh -c {shlex.quote(script)}"


def litefleet_rollout(plan: Plan) -> dict[str, Any]:
    """`litefleet rollout` of the plan's project on the devices that `limit` names."""
    report = asyncio.run(
        start_rollout(Options(plan.config, limit=plan.limit), lambda total: make_progress(total, quiet=True))
    )
    outcomes = report.outcomes
    bad = [f"{o.device}: {o.sentence}" for o in outcomes if o.verdict.value != "verified"]
    return {
        "ok": len(outcomes) - len(bad),
        "bad": bad[:3],
        "unchanged": sum(o.unchanged for o in outcomes),
        "round_trips": sorted({o.round_trips for o in outcomes}),
        "sent_bytes": sum(o.sent_bytes for o in outcomes),
    }


async def _each(plan: Plan, work: Callable[[SshTransport, Device], Any]) -> dict[str, Any]:
    transport = SshTransport(HostKeys([], plan.known_hosts, False), lambda device: [])
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(device: Device) -> bool:
        async with slots:
            return bool(await work(transport, device))

    return {"ok": sum(await asyncio.gather(*(one(device) for device in plan.devices)))}


def litefleet_agent_push(plan: Plan) -> dict[str, Any]:
    """litefleet's own conversation: the agent is the python that runs, `hello` the probe, `put` the checked push."""

    async def work(transport: SshTransport, device: Device) -> bool:
        archive = agent_archive()
        command, opening = AgentClient.opening(archive, device.root, device.python)
        async with transport.open(device, command) as channel:
            agent_client = AgentClient(channel)
            hello: dict[str, Any] = await agent_client.start(opening, archive, 60)
            if hello["blobs"].get(plan.sha256) != plan.size:
                await agent_client.ask([Request("put", {"sha256": plan.sha256}, plan.payload)], 60)
            return bool(hello["facts"]["machine"])

    return asyncio.run(_each(plan, work))


def litefleet_transport(plan: Plan) -> dict[str, Any]:
    """litefleet's transport (asyncssh) with the compound command, nothing sent before it is asked for."""

    async def work(transport: SshTransport, device: Device) -> bool:
        async with transport.open(device, plan.command(device)) as channel:
            received = b""
            while received.count(b"\n") < 2 and (more := await channel.read(65536)):
                received += more
            if received.split()[-1] == b"need":
                with plan.payload.open("rb") as file:
                    while chunk := file.read(256 * 1024):
                        await channel.write(chunk)
            while more := await channel.read(65536):
                received += more
            return b'"ok"' in received

    return asyncio.run(_each(plan, work))


def paramiko_one_exec(plan: Plan) -> dict[str, Any]:
    """Paramiko, the compound command, 32 threads."""

    def work(device: Device) -> bool:
        client = paramiko.SSHClient()
        client.load_host_keys(str(plan.known_hosts))
        client.connect(
            device.host, device.port, device.user, key_filename=device.key, allow_agent=False, look_for_keys=False
        )
        try:
            stdin, stdout, _ = client.exec_command(plan.command(device))
            stdout.readline()
            if stdout.readline().strip() == "need":
                with plan.payload.open("rb") as file:
                    while chunk := file.read(256 * 1024):
                        stdin.channel.sendall(chunk)
            return '"ok"' in stdout.read().decode()
        finally:
            client.close()

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return {"ok": sum(pool.map(work, plan.devices))}


def fabric_threads(plan: Plan) -> dict[str, Any]:
    """fabric, 32 threads, used as its documentation shows: run, put (SFTP), run, run."""

    def work(device: Device) -> bool:
        login = {"key_filename": device.key, "allow_agent": False, "look_for_keys": False}
        with fabric.Connection(device.host, device.user, device.port, connect_kwargs=login) as connection:
            connection.client.set_missing_host_key_policy(paramiko.RejectPolicy())
            connection.client.load_host_keys(str(plan.known_hosts))
            there = f"{device.root}/pushed.bin"
            probed = connection.run(f"uname -m; sha256sum {there} 2>/dev/null || echo need", hide=True)
            if plan.sha256 not in probed.stdout:
                coming = f"{device.root}/pushed.tmp"
                connection.put(str(plan.payload), coming)
                check = f"echo '{plan.sha256}  {coming}' | sha256sum -c --status"
                connection.run(f"{check} && mv {coming} {there}", hide=True)
            return '"ok"' in connection.run(PYTHON_JOB, hide=True).stdout

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return {"ok": sum(pool.map(work, plan.devices))}


def openssh_xargs(plan: Plan) -> dict[str, Any]:
    """The OpenSSH client, one process a device, eight at once; curve25519, as its default exchange costs far more CPU."""
    first = plan.devices[0]
    options = (
        "-F none -o BatchMode=yes -o StrictHostKeyChecking=yes -o KexAlgorithms=curve25519-sha256 -o IdentitiesOnly=yes"
    )
    ssh = f"ssh {options} -o UserKnownHostsFile={plan.known_hosts} -i {first.key} -l {first.user}"
    lines = [
        f"exec {ssh} -p {device.port} {device.host} {shlex.quote(plan.command(device))} <{plan.payload}"
        for device in plan.devices
    ]
    ended = subprocess.run(
        ["xargs", "-0", "-P8", "-n1", "sh", "-c"],
        input="\0".join(lines),
        capture_output=True,
        text=True,
        check=False,
    )
    return {"ok": ended.stdout.count('"ok"'), "bad": ended.stderr[-500:]}


JOBS: dict[str, Callable[[Plan], dict[str, Any]]] = {
    "rollout": litefleet_rollout,
    "litefleet agent": litefleet_agent_push,
    "litefleet transport": litefleet_transport,
    "OpenSSH, xargs -P8": openssh_xargs,
    "paramiko, 32 threads": paramiko_one_exec,
    "fabric, 32 threads": fabric_threads,
}


def _cpu(who: int) -> float:
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def _peak_mb() -> float:
    """The peak of this program alone; ru_maxrss would begin with that of the process that started it."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def main() -> None:
    """Run one job and print its figures."""
    name, plan = sys.argv[1], Plan(Path(sys.argv[2]))
    asyncssh.set_log_level("ERROR")
    before, children = _cpu(resource.RUSAGE_SELF), _cpu(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    result = JOBS[name](plan)
    result |= {
        "wall": time.monotonic() - began,
        "cpu": _cpu(resource.RUSAGE_SELF) - before,
        "children": _cpu(resource.RUSAGE_CHILDREN) - children,
        "peak_mb": _peak_mb(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
