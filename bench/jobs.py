"""litefleet's own measured jobs, each a process of its own that fleet.py starts.

python -m bench.jobs NAME PLAN.json      # prints its figures as JSON
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import asyncssh
from litefleet_controller.cli.main import collect_rarely
from litefleet_controller.devices.agent_archive import agent_archive
from litefleet_controller.devices.agent_client import AgentClient, Request
from litefleet_controller.devices.transport.hostkeys import HostKeys
from litefleet_controller.devices.transport.ssh import SshTransport
from litefleet_controller.operations import start_rollout
from litefleet_controller.project import Options
from litefleet_controller.reports.progress import make_progress
from litefleet_inventory.model import Device

from bench.push_job import AT_ONCE, CHUNK, PushPlan, measured


class Plan(PushPlan):
    """The push's plan, and the project."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        raw = json.loads(path.read_text())
        self.devices: list[Device] = [Device(**entry) for entry in raw["devices"]]
        self.config = Path(raw["config"])
        self.limit = str(raw["limit"])
        self.python = str(raw.get("python", ""))


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
        async with transport.open(device, plan.command(device.root)) as channel:
            received = b""
            while received.count(b"\n") < 2 and (more := await channel.read(65536)):
                received += more
            if received.split()[-1] == b"need":
                with plan.payload.open("rb") as file:
                    while chunk := file.read(CHUNK):
                        await channel.write(chunk)
            while more := await channel.read(65536):
                received += more
            return b'"ok"' in received

    return asyncio.run(_each(plan, work))


_PROOF = """
import sys
from litefleet_agent.facts import gather
from litefleet_agent.releases.store import Store
from litefleet_agent.verification.release import verify_release
store = Store(sys.argv[1])
print(sum(verify_release(store, release, gather(sys.argv[1]), int).verified for release in store.current().values()))
"""


def proofs_alone(plan: Plan) -> dict[str, Any]:
    """The proof of each device's current release by its agent's code, one at a time on each core: no session, no rollout."""

    def proved(device: Device) -> bool:
        ended = subprocess.run([plan.python, "-c", _PROOF, device.root], capture_output=True, text=True, check=False)
        return ended.stdout.strip() == "1"

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return {"ok": sum(pool.map(proved, plan.devices))}


JOBS: dict[str, Callable[[Plan], dict[str, Any]]] = {
    "rollout": litefleet_rollout,
    "proofs": proofs_alone,
    "litefleet agent": litefleet_agent_push,
    "litefleet transport": litefleet_transport,
}


def main() -> None:
    """Run one job and print its figures."""
    name, plan = sys.argv[1], Plan(Path(sys.argv[2]))
    asyncssh.set_log_level("ERROR")
    collect_rarely()  # as the command line does
    measured(lambda: JOBS[name](plan))


if __name__ == "__main__":
    main()
