"""The push by the tools that a user would pick instead of litefleet, each in an environment of its own.

    ENVIRONMENT/bin/python -m bench.peers "parallel-ssh" PLAN.json     # one measured process; fleet.py starts these

Each tool is used as its documentation shows, with the settings that make it fast: keys given, no agent, no look-up of default
keys, host keys verified. parallel-ssh (libssh2) verifies no host keys: it has no setting for that.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from bench.push_job import AT_ONCE, CHUNK, PushPlan, Target, measured

Counted = dict[str, object]


class Peer(NamedTuple):
    """A tool: the package that its environment gets ("" for a program of the system), the job, and what it imports before."""

    package: str
    push: Callable[[PushPlan], Counted]
    modules: tuple[str, ...] = ()  # loaded before the measurement begins, as litefleet's own are


def _tool(name: str) -> str:
    """Return a program of this environment."""
    return str(Path(sys.executable).with_name(name))


def _threads(work: Callable[[Target], bool], plan: PushPlan) -> Counted:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return {"ok": sum(pool.map(work, plan.targets))}


def _ended(argv: list[str], plan: PushPlan, marker: str, env: dict[str, str] | None = None) -> Counted:
    """Run a tool's program; count the devices whose python3 answered."""
    ended = subprocess.run(
        argv, capture_output=True, text=True, check=False, cwd=plan.folder, env={**os.environ, **(env or {})}
    )
    return {"ok": ended.stdout.count(marker), "bad": (ended.stdout + ended.stderr)[-1500:]}


def asyncssh_tuned(plan: PushPlan) -> Counted:
    """asyncssh with one prepared set of options, a cheap key exchange and cipher, the compound command and chunks."""
    import asyncssh

    asyncssh.set_log_level("ERROR")
    options = asyncssh.SSHClientConnectionOptions(
        known_hosts=str(plan.known_hosts),
        client_keys=[plan.targets[0].key],
        username=plan.targets[0].user,
        config=None,
        agent_path=None,
        kex_algs=["curve25519-sha256"],
        encryption_algs=["aes128-gcm@openssh.com"],
        compression_algs=["none"],
    )
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(target: Target) -> bool:
        async with slots, asyncssh.connect(target.host, target.port, options=options) as connection:
            process = await connection.create_process(plan.command(target.root), encoding=None)
            await process.stdout.readline()
            if (await process.stdout.readline()).strip() == b"need":
                with plan.payload.open("rb") as file:
                    while chunk := file.read(CHUNK):
                        process.stdin.write(chunk)
                        await process.stdin.drain()
            return b'"ok"' in await process.stdout.read()

    async def every() -> int:
        return sum(await asyncio.gather(*(one(target) for target in plan.targets)))

    return {"ok": asyncio.run(every())}


def paramiko_threads(plan: PushPlan) -> Counted:
    """paramiko, the compound command, 32 threads."""
    import paramiko

    def work(target: Target) -> bool:
        client = paramiko.SSHClient()
        client.load_host_keys(str(plan.known_hosts))
        client.connect(
            target.host, target.port, target.user, key_filename=target.key, allow_agent=False, look_for_keys=False
        )
        try:
            stdin, stdout, _ = client.exec_command(plan.command(target.root))
            stdout.readline()
            if stdout.readline().strip() == "need":
                with plan.payload.open("rb") as file:
                    while chunk := file.read(CHUNK):
                        stdin.channel.sendall(chunk)
            return '"ok"' in stdout.read().decode()
        finally:
            client.close()

    return _threads(work, plan)


def fabric_threads(plan: PushPlan) -> Counted:
    """fabric, 32 threads, used as its documentation shows: run, put (SFTP), run, run."""
    import fabric
    import paramiko

    def work(target: Target) -> bool:
        login = {"key_filename": target.key, "allow_agent": False, "look_for_keys": False}
        probe, accept, run = plan.steps(target.root)
        with fabric.Connection(target.host, target.user, target.port, connect_kwargs=login) as connection:
            connection.client.set_missing_host_key_policy(paramiko.RejectPolicy())
            connection.client.load_host_keys(str(plan.known_hosts))
            if plan.sha256 not in connection.run(probe, hide=True).stdout:
                connection.put(str(plan.payload), f"{target.root}/pushed.tmp")
                connection.run(accept, hide=True)
            return '"ok"' in connection.run(run, hide=True).stdout

    return _threads(work, plan)


def openssh_xargs(plan: PushPlan) -> Counted:
    """The OpenSSH client, one process a device, eight at once; curve25519, as its default exchange costs far more CPU."""
    first = plan.targets[0]
    options = (
        "-F none -o BatchMode=yes -o StrictHostKeyChecking=yes -o KexAlgorithms=curve25519-sha256 -o IdentitiesOnly=yes"
    )
    ssh = f"ssh {options} -o UserKnownHostsFile={plan.known_hosts} -i {first.key} -l {first.user}"
    lines = [
        f"exec {ssh} -p {target.port} {target.host} {shlex.quote(plan.command(target.root))} <{plan.payload}"
        for target in plan.targets
    ]
    ended = subprocess.run(
        ["xargs", "-0", "-P8", "-n1", "sh", "-c"],
        input="\0".join(lines),
        capture_output=True,
        text=True,
        check=False,
    )
    return {"ok": ended.stdout.count('"ok"'), "bad": ended.stderr[-500:]}


def parallel_ssh(plan: PushPlan) -> Counted:
    """parallel-ssh's native client (libssh2, gevent), 32 at once: command, SFTP, command, command; its standard input hung."""
    from gevent.pool import Pool
    from pssh.clients import SSHClient

    def work(target: Target) -> bool:
        client = SSHClient(
            target.host, user=target.user, port=target.port, pkey=target.key, allow_agent=False, identity_auth=False
        )
        probe, accept, run = plan.steps(target.root)
        if plan.sha256 not in "".join(client.run_command(probe).stdout):
            client.copy_file(str(plan.payload), f"{target.root}/pushed.tmp")
            list(client.run_command(accept).stdout)
        found = any('"ok"' in line for line in client.run_command(run).stdout)
        client.disconnect()
        return found

    return {"ok": sum(Pool(AT_ONCE).map(work, plan.targets))}


_PYINFRA_DEPLOY = """\
from pyinfra import host
from pyinfra.operations import files, python, server

root = host.data.root
put = files.put(src={payload!r}, dest=f"{{root}}/pushed.bin")
answer = server.shell(commands=[f"echo '{sha256}  {{root}}/pushed.bin' | sha256sum -c --status", {run!r}])
python.call(function=lambda: print("answered:", answer.stdout))
"""


def pyinfra_cli(plan: PushPlan) -> Counted:
    """pyinfra's command: `files.put`, which compares a checksum and copies by SFTP, and `server.shell`."""
    hosts = [
        (
            f"@ssh/{target.name}",
            {
                "ssh_hostname": target.host,
                "ssh_port": target.port,
                "ssh_user": target.user,
                "ssh_key": target.key,
                "ssh_known_hosts_file": str(plan.known_hosts),
                "ssh_strict_host_key_checking": "yes",
                "root": target.root,
            },
        )
        for target in plan.targets
    ]
    (plan.folder / "pyinfra_hosts.py").write_text(f"hosts = {hosts!r}\n")
    run = plan.steps("")[2]
    deploy = _PYINFRA_DEPLOY.format(payload=str(plan.payload), sha256=plan.sha256, run=run)
    (plan.folder / "pyinfra_deploy.py").write_text(deploy)
    argv = [_tool("pyinfra"), "-y", "-vv", "--parallel", str(AT_ONCE), "pyinfra_hosts.py", "pyinfra_deploy.py"]
    return _ended(argv, plan, 'answered: {"ok": ')


def ansible_playbook(plan: PushPlan) -> Counted:
    """ansible-core with pipelining and 50 forks: `copy`, which compares a checksum, and `command`; OpenSSH below it."""
    options = (
        f"-F none -o ControlMaster=auto -o ControlPersist=60s -o UserKnownHostsFile={plan.known_hosts}"
        " -o StrictHostKeyChecking=yes -o KexAlgorithms=curve25519-sha256 -o IdentitiesOnly=yes"
    )
    hosts = {
        target.name: {
            "ansible_host": target.host,
            "ansible_port": target.port,
            "ansible_user": target.user,
            "ansible_ssh_private_key_file": target.key,
            "ansible_ssh_common_args": options,
            "ansible_python_interpreter": "/usr/bin/python3",
            "root": target.root,
        }
        for target in plan.targets
    }
    tasks = [
        {"ansible.builtin.copy": {"src": str(plan.payload), "dest": "{{ root }}/pushed.bin", "mode": "0644"}},
        {"ansible.builtin.shell": {"cmd": plan.steps("")[2]}, "register": "answer"},
        {"ansible.builtin.debug": {"var": "answer.stdout"}},
    ]
    (plan.folder / "hosts.json").write_text(json.dumps({"all": {"hosts": hosts}}))
    book = [{"hosts": "all", "gather_facts": False, "tasks": tasks}]
    (plan.folder / "book.json").write_text(json.dumps(book))
    env = {
        "ANSIBLE_PIPELINING": "1",
        "ANSIBLE_FORKS": "50",
        "ANSIBLE_HOST_KEY_CHECKING": "1",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_LOCAL_TEMP": str(plan.folder / "ansible-tmp"),
        "ANSIBLE_HOME": str(plan.folder / "ansible"),
        "ANSIBLE_SSH_CONTROL_PATH_DIR": "/tmp/litefleet-cp",  # a socket's path must be short
        "LC_ALL": "C.UTF-8",
    }
    counted = _ended([_tool("ansible-playbook"), "-i", "hosts.json", "book.json"], plan, '"answer.stdout":', env)
    for socket in Path(env["ANSIBLE_SSH_CONTROL_PATH_DIR"]).iterdir():  # the next job connects anew, as all others do
        subprocess.run(["ssh", "-O", "exit", "-o", f"ControlPath={socket}", "any"], capture_output=True, check=False)
    return counted


PEERS: dict[str, Peer] = {
    "asyncssh, tuned": Peer("asyncssh==2.24.1", asyncssh_tuned, ("asyncssh",)),
    "OpenSSH, xargs -P8": Peer("", openssh_xargs),
    "paramiko, 32 threads": Peer("paramiko==5.1.0", paramiko_threads, ("paramiko",)),
    "fabric, 32 threads": Peer("fabric==3.2.3", fabric_threads, ("fabric",)),
    "parallel-ssh": Peer("parallel-ssh==2.16.0.post1", parallel_ssh, ("pssh.clients",)),
    "pyinfra": Peer("pyinfra==3.10.0", pyinfra_cli),
    "ansible-core": Peer("ansible-core==2.19.14", ansible_playbook),
}


def main() -> None:
    """Run one peer's job and print its figures."""
    name, plan = sys.argv[1], PushPlan(Path(sys.argv[2]))
    peer = PEERS[name]
    for module in peer.modules:
        import_module(module)
    measured(lambda: peer.push(plan))


if __name__ == "__main__":
    main()
