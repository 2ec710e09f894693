"""A machine of this one's architecture with an init of its own as PID 1, in a container, with an SSH server on loopback.

It has no network of its own: its sshd listens on 127.0.0.1 and on a port that was free.  An overlay in memory keeps its root
file system as it was built.  Its mounts lie in a namespace of their own, and go with its PID 1.  So do its control groups: two
machines in the same ones would end each other's services.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.lab.arm_devices import free_port, wait_for_greeting
from tests.lab.init_systems import ADMIN, SYSTEMD, System, build, run
from tests.lab.rootfs import LabError

__all__ = ["Machine", "booted", "wait_until_up", "why_not_booted"]

TOOLS = ("mmdebstrap", "unshare", "mount", "chroot", "ssh", "ssh-keygen", "systemd-nspawn")

_BOOT = """set -e
mount -t tmpfs tmpfs {work}
mkdir {work}/upper {work}/work {work}/root
mount -t overlay overlay -o lowerdir={lower},upperdir={work}/upper,workdir={work}/work {work}/root
root={work}/root
mkdir -p $root/etc/ssh/sshd_config.d
echo {port} > $root/etc/ssh/port
cp {folder}/host_key $root/etc/ssh/ssh_host_ed25519_key
chmod 600 $root/etc/ssh/ssh_host_ed25519_key
cp {folder}/sshd_config $root/etc/ssh/sshd_config.d/lab.conf
for home in /root /home/{admin}; do
  [ -d $root$home ] || continue
  mkdir -p $root$home/.ssh
  cp {folder}/id.pub $root$home/.ssh/authorized_keys
done
[ ! -d $root/home/{admin} ] || chroot $root chown -R {admin}: /home/{admin}/.ssh
mkdir -p /run/systemd
mount -t tmpfs tmpfs /run/systemd
mkdir /run/systemd/nspawn
for cgroups in /sys/fs/cgroup /sys/fs/cgroup/unified /sys/fs/cgroup/systemd; do
  [ -f $cgroups/cgroup.procs ] || continue
  mkdir $cgroups/lab-{port}
  echo $$ > $cgroups/lab-{port}/cgroup.procs
done
code=133 # how nspawn ends when the machine restarts
while [ $code = 133 ]; do
  code=0
  systemd-nspawn --quiet --boot --register=no --keep-unit --link-journal=no --console=read-only \\
    --machine=lab-{port} --hostname=lab --directory=$root {binds} || code=$?
done
for cgroups in /sys/fs/cgroup/*/lab-{port} /sys/fs/cgroup/lab-{port}; do
  [ -d $cgroups ] || continue
  echo $$ > $cgroups/../cgroup.procs
  find $cgroups -depth -type d -exec rmdir {{}} +
done
exit $code
"""


@dataclass(frozen=True)
class Machine:
    """A running machine; `user` for its logins is root or ADMIN, both with `key_path`."""

    port: int
    key_path: Path
    host_public_key: str
    host: str = "127.0.0.1"

    def ssh(
        self, command: str, stdin: bytes = b"", user: str = "root", time_limit_s: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run `command` there with OpenSSH's own client, the host key checked."""
        argv = self.login(command, user)
        done = subprocess.run(argv, input=stdin, capture_output=True, timeout=time_limit_s, check=False)
        return subprocess.CompletedProcess(argv, done.returncode, done.stdout.decode(), done.stderr.decode())

    def login(self, command: str, user: str = "root") -> list[str]:
        """Return the words that run `command` there."""
        known = self.key_path.with_name("known_hosts")
        known.write_text(f"[{self.host}]:{self.port} {self.host_public_key}\n")
        options = {"UserKnownHostsFile": known, "StrictHostKeyChecking": "yes", "IdentitiesOnly": "yes"}
        options |= {"BatchMode": "yes", "LogLevel": "ERROR"}
        argv = ["ssh", "-F", "none", "-p", str(self.port), "-i", str(self.key_path)]
        argv += [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        return [*argv, f"{user}@{self.host}", command]

    def restart(self, limit_s: float = 60) -> None:
        """Have the machine restart itself, and return once it is up again; LabError when it does not come."""
        ask = "cat /proc/sys/kernel/random/boot_id"
        before = self.ssh(ask).stdout
        self.ssh("reboot")
        until = time.monotonic() + limit_s
        while (now := self.ssh(ask)).returncode or now.stdout == before:
            if time.monotonic() > until:
                raise LabError(f"the machine did not restart within {limit_s:.0f} s")
            time.sleep(0.1)


def why_not_booted() -> str:
    """Return why such a machine can't run here, "" when it can."""
    if os.geteuid() != 0:
        return "a machine with its own init needs root (mounts and a container)"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    return f"it needs {', '.join(missing)}: apt-get install $(cat tests/lab/packages.txt)" if missing else ""


@contextlib.contextmanager
def booted(system: System = SYSTEMD, binds: Mapping[Path, str] | None = None) -> Iterator[Machine]:
    """Run one machine for the time of the `with` block; `binds` are folders of this one that it sees and can't change.

    Raises LabError when it does not come up.
    """
    lower = build(system)
    with tempfile.TemporaryDirectory(prefix="litefleet-lab-") as name:
        folder, port = Path(name), free_port()
        for key in ("id", "host_key"):
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", folder / key)
        (folder / "sshd_config").write_text(
            f"ListenAddress 127.0.0.1\nPort {port}\nHostKey /etc/ssh/ssh_host_ed25519_key\nUseDNS no\n"
        )
        (folder / "work").mkdir()
        process = _boot(folder, lower, port, binds or {})
        try:
            wait_for_greeting(process, port, folder / "log")
            yield Machine(port, folder / "id", (folder / "host_key.pub").read_text().strip())
        finally:
            _stop(process)


def _boot(folder: Path, lower: Path, port: int, binds: Mapping[Path, str]) -> subprocess.Popen[bytes]:
    words = {"folder": folder, "work": folder / "work", "lower": lower}
    seen = shlex.join(f"--bind-ro={here}:{there}" for here, there in binds.items())
    script = _BOOT.format(admin=ADMIN, port=port, binds=seen, **{k: shlex.quote(str(v)) for k, v in words.items()})
    with (folder / "log").open("wb") as log:
        argv = ["unshare", "-m", "--propagation", "private", "sh", "-c", script]
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)


def _stop(process: subprocess.Popen[bytes], limit_s: float = 20) -> None:
    """Kill the container's PID 1: nspawn ends with it, whereas its own end would orphan what it runs."""
    inner = _inner_init(process.pid)
    if inner:
        with contextlib.suppress(ProcessLookupError):
            os.kill(inner, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(limit_s)
    if process.poll() is None:
        process.kill()
        process.wait()


def _inner_init(pid: int) -> int:
    """Return the process below `pid` that is PID 1 of a namespace of its own, 0 where there is none."""
    for child in _children(pid):
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{child}/status").read_text()
            line = next(line for line in status.splitlines() if line.startswith("NSpid:"))
            if line.split()[-1] == "1":
                return child
        if found := _inner_init(child):
            return found
    return 0


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [
            int(word)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for word in (task / "children").read_text().split()
        ]
    return []


def wait_until_up(machine: Machine, limit_s: float = 60) -> str:
    """Return what `systemctl is-system-running` says once it is done starting."""
    until = time.monotonic() + limit_s
    while (said := machine.ssh("systemctl is-system-running").stdout.strip()) in ("starting", "initializing", ""):
        if time.monotonic() > until:
            break
        time.sleep(0.2)
    return said
