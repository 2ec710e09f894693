"""Start and stop lab devices: an ARM userland with its own SSH server, mounts, processes and hostname.

Each device is one `unshare` process.  Its mount, PID and UTS namespaces end with it, so that stopping it by its process
id unmounts everything and leaves no process behind.
"""

from __future__ import annotations

import contextlib
import os
import random
import shlex
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.lab.rootfs import LabError, Userland, build

__all__ = ["LabDevice", "free_port", "lab_device", "make_keys", "wait_for_greeting", "why_not"]

TOOLS = ("mmdebstrap", "unshare", "mount", "chroot", "ssh", "ssh-keygen", "dropbearconvert")

# Run as PID 1 of the device's namespaces; $root is the merged view that becomes its /.
_BOOT = """set -e
mount -t tmpfs tmpfs {work}
mkdir {work}/upper {work}/work {work}/root
mount -t overlay overlay -o lowerdir={lower},upperdir={work}/upper,workdir={work}/work {work}/root
root={work}/root
mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc 2>/dev/null || [ -e /proc/sys/fs/binfmt_misc/register ]
if [ ! -e /proc/sys/fs/binfmt_misc/{binfmt} ]; then
  cat /usr/lib/binfmt.d/{binfmt}.conf > /proc/sys/fs/binfmt_misc/register || [ -e /proc/sys/fs/binfmt_misc/{binfmt} ]
fi
mount -t proc proc $root/proc
mount --bind {folder}/cpuinfo $root/proc/cpuinfo
mount --rbind /dev $root/dev
mount -t tmpfs tmpfs $root/run
mount -t tmpfs -o mode=1777 tmpfs $root/tmp
mkdir -p $root/run/sshd $root/root/.ssh
chmod 700 $root/root $root/root/.ssh
cat {folder}/id.pub > $root/root/.ssh/authorized_keys
cp {folder}/host_key $root/etc/lab_host_key
cp {folder}/dropbear_key $root/etc/lab_dropbear_key
cp {folder}/sshd_config $root/etc/lab_sshd_config
chmod 600 $root/root/.ssh/authorized_keys $root/etc/lab_host_key
hostname {name}
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root QEMU_CPU={cpu}
cd /
exec chroot $root {server}
"""

_SSHD_CONFIG = """ListenAddress 127.0.0.1
Port {port}
HostKey /etc/lab_host_key
PidFile none
UsePAM no
UseDNS no
PasswordAuthentication no
PermitRootLogin prohibit-password
MaxStartups 100
PrintMotd no
SetEnv QEMU_CPU={cpu}
"""

_SERVERS = {
    "sshd": "/usr/sbin/sshd -D -e -f /etc/lab_sshd_config",
    "dropbear": "/usr/sbin/dropbear -F -E -e -s -m -r /etc/lab_dropbear_key -p 127.0.0.1:{port}",
}


@dataclass(frozen=True)
class LabDevice:
    """A running lab device; `userland.machine` is what its `uname -m` says."""

    name: str
    server: str  # "sshd" or "dropbear"
    userland: Userland
    port: int
    key_path: Path
    host_public_key: str  # "ssh-ed25519 AAAA..."
    pid: int
    log: Path
    host: str = "127.0.0.1"
    user: str = "root"
    root: str = "/var/lib/litefleet"  # the agent's root folder, on the device

    def inventory_entry(self) -> dict[str, object]:
        """Return its keys in an inventory file."""
        return {
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "key": str(self.key_path),
            "host_key": self.host_public_key,
            "root": self.root,
            "arch": self.userland.machine,
        }

    def ssh(self, command: str, stdin: bytes = b"", time_limit_s: float = 60) -> subprocess.CompletedProcess[bytes]:
        """Run `command` there with OpenSSH's own client, the host key checked."""
        argv = self.ssh_argv(command)
        return subprocess.run(argv, input=stdin, capture_output=True, timeout=time_limit_s, check=False)

    def ssh_argv(self, command: str) -> list[str]:
        """Return the local command that does what `ssh` does."""
        known = self.key_path.with_name("known_hosts")
        known.write_text(f"[{self.host}]:{self.port} {self.host_public_key}\n")
        argv = [
            "ssh",
            "-F",
            "none",
            "-p",
            str(self.port),
            "-i",
            str(self.key_path),
            "-o",
            f"UserKnownHostsFile={known}",
        ]
        argv += ["-o", "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"]
        return [*argv, "-o", "LogLevel=ERROR", f"{self.user}@{self.host}", command]


def why_not() -> str:
    """Return why the lab can't run here, "" when it can."""
    if os.geteuid() != 0:
        return "the lab needs root (it mounts, and chroots into, ARM root file systems)"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"the lab needs {', '.join(missing)}: apt-get install $(cat tests/lab/packages.txt)"
    rules = [rule for rule in ("qemu-aarch64", "qemu-arm") if not Path(f"/usr/lib/binfmt.d/{rule}.conf").exists()]
    return f"the lab needs /usr/lib/binfmt.d/{rules[0]}.conf, which Debian's qemu-user-static brings" if rules else ""


@contextlib.contextmanager
def lab_device(userland: Userland, server: str) -> Iterator[LabDevice]:
    """Run one device for the time of the `with` block.  Raises LabError when it does not come up."""
    lower = build(userland)
    with tempfile.TemporaryDirectory(prefix="litefleet-lab-") as name:
        folder = Path(name)
        device_name = f"{userland.machine}-{server}"
        port = free_port()
        _write_files(folder, userland, port)
        process = _boot(folder, device_name, server, userland, lower, port)
        try:
            wait_for_greeting(process, port, folder / "log")
            yield LabDevice(
                name=device_name,
                server=server,
                userland=userland,
                port=port,
                key_path=folder / "id",
                host_public_key=" ".join((folder / "host_key.pub").read_text().split()[:2]),
                pid=process.pid,
                log=folder / "log",
            )
        finally:
            process.kill()  # its PID 1 dies with it, and with that everything inside
            process.wait()
            _settle(port)


def _boot(folder: Path, name: str, server: str, userland: Userland, lower: Path, port: int) -> subprocess.Popen[bytes]:
    script = _BOOT.format(
        work=shlex.quote(str(folder / "work")),
        folder=shlex.quote(str(folder)),
        lower=shlex.quote(str(lower)),
        binfmt=userland.binfmt,
        cpu=userland.cpu,
        name=name,
        server=_SERVERS[server].format(port=port),
    )
    namespaces = ["-m", "-u", "-p", "--fork", "--kill-child=SIGKILL", "--propagation", "private"]
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            ["unshare", *namespaces, "sh", "-c", script],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _write_files(folder: Path, userland: Userland, port: int) -> None:
    (folder / "cpuinfo").write_text(userland.cpuinfo)
    (folder / "sshd_config").write_text(_SSHD_CONFIG.format(port=port, cpu=userland.cpu))
    make_keys(folder)
    (folder / "work").mkdir()


def make_keys(folder: Path) -> None:
    """Make a user's key pair `id`, a host's `host_key`, and the latter as dropbear's `dropbear_key`."""
    for key in ("id", "host_key"):
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "litefleet-lab", "-f", folder / key)
    # dropbear keeps keys in a format of its own.
    _run("dropbearconvert", "openssh", "dropbear", folder / "host_key", folder / "dropbear_key")


def _run(*argv: object) -> None:
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"{argv[0]} ended with {done.returncode}: {done.stderr[-500:]}")


def free_port() -> int:
    """Return a port nobody listens on, below the ephemeral range."""
    while True:
        port = random.randrange(20000, 32000)
        with contextlib.closing(socket.socket()) as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _greets(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as conn:
            return conn.recv(4) == b"SSH-"
    except OSError:
        return False


def wait_for_greeting(process: subprocess.Popen[bytes], port: int, log: Path, limit_s: float = 60) -> None:
    """Wait until an SSH server greets.  Raises LabError with the end of `log` when it does not, or `process` ended."""
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        if process.poll() is not None:
            raise LabError(f"the device ended with {process.returncode}: {log.read_text(errors='replace')[-2000:]}")
        if _greets(port):
            return
        time.sleep(0.1)
    raise LabError(f"the device did not greet within {limit_s:.0f} s: {log.read_text(errors='replace')[-2000:]}")


def _settle(port: int, limit_s: float = 10) -> None:
    """Wait until the device's server is really gone: its namespace is taken down after `unshare` itself."""
    until = time.monotonic() + limit_s
    while _greets(port) and time.monotonic() < until:
        time.sleep(0.05)
