"""A device with busybox and nothing else: a root file system of its own, reached over the machine's sshd or its own dropbear.

sshd runs outside the root and starts each command in it by chroot, so that the root needs neither a libc nor an SSH server.
dropbear runs inside; its loader and its libraries lie in a folder of its own (/opt/dropbear), where nothing else looks for a
libc.  Needs root and a static busybox; the mounts live in a namespace that ends with the device.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from litefleet_agent.formats.elf import read_elf

from tests.lab.arm_devices import free_port, make_keys, wait_for_greeting

__all__ = ["BareDevice", "bare_device", "busybox_without_tar", "why_no_bare_device"]

# ls, mv, df and the like: what a busybox of any kind of device has.
APPLETS = (
    "sh cat ls mkdir rmdir rm mv chmod uname df tail head cut find id kill ln sleep tar gzip xz sha256sum mount grep sed printf "
    "readlink touch env true false chown stat echo ps su adduser addgroup deluser delgroup passwd wc cp cmp sort tr sync "
    "start-stop-daemon setsid nohup tee dd mktemp awk test expr basename dirname install pidof seq date"
)
_CONFIG = """Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/id.pub
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
PermitRootLogin prohibit-password
UseDNS no
MaxStartups 100
ForceCommand exec {folder}/login
"""
# env -i: nothing of the host's environment is on a device
_LOGIN = """#!/bin/sh
exec env -i HOME=/root PATH=/bin {variables} {chroot} {root} /bin/sh -c "$SSH_ORIGINAL_COMMAND"
"""

_DROPBEAR = (
    "/opt/dropbear/ld.so --library-path /opt/dropbear --argv0 dropbear /opt/dropbear/dropbear -F -E -s -m -r /opt/dropbear/key "
    "-p 127.0.0.1:{port}"
)


@dataclass(frozen=True)
class BareDevice:
    """A running device; `root` is its root file system as the host sees it, except for what it mounts itself."""

    root: Path
    port: int
    key: Path
    host_key: str
    pid: int

    def inventory_entry(self, **more: object) -> dict[str, object]:
        """Return its keys in an inventory file."""
        key = {"host": "127.0.0.1", "port": self.port, "user": "root", "key": str(self.key), "host_key": self.host_key}
        return {**key, **more}

    def sh(self, command: str, time_limit_s: float = 60) -> str:
        """Run a command in the device's namespace, chrooted, and return what it printed."""
        argv = ["nsenter", "-t", str(self.pid), "-m", "-p", "chroot", str(self.root), "/bin/sh", "-c", command]
        env = {"PATH": f"/bin:{os.environ['PATH']}", "HOME": "/root"}
        done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=time_limit_s, check=False)
        return done.stdout + done.stderr


def why_no_bare_device() -> str:
    """Return why no bare device can run here, "" when one can."""
    if os.geteuid() != 0:
        return "a bare device needs root (it mounts and chroots)"
    tools = [
        tool for tool in ("unshare", "nsenter", "chroot", "sshd", "busybox", "dropbearconvert") if not _which(tool)
    ]
    if tools:
        return f"a bare device needs {', '.join(tools)}: apt-get install $(cat tests/lab/packages.txt)"
    static = subprocess.run([str(_which("busybox")), "true"], env={}, check=False).returncode == 0
    return "" if static else "a bare device needs a static busybox: apt-get install busybox-static"


def _which(tool: str) -> str | None:
    return shutil.which(tool, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _install_dropbear(source: Path, root: Path, folder: Path) -> None:
    """Copy dropbear, its loader and the libraries that it needs from another root file system, and who may log in."""
    target = root / "opt/dropbear"
    target.mkdir(parents=True, exist_ok=True)
    program = source / "usr/sbin/dropbear"
    waiting, done = [program], set[str]()
    while waiting:
        path = waiting.pop()
        shutil.copy(path, target)
        for name in read_elf(path).needed:
            if name not in done:
                done.add(name)
                waiting += [
                    found for f in ("lib", "usr/lib") for found in [*(source / f).glob(f"*-linux-*/{name}")][:1]
                ][:1]
    (loader,) = [path for path in target.iterdir() if path.name.startswith("ld-linux")]
    loader.rename(target / "ld.so")
    shutil.copy(folder / "dropbear_key", target / "key")
    (root / "root/.ssh").mkdir(mode=0o700, exist_ok=True)
    shutil.copy(folder / "id.pub", root / "root/.ssh/authorized_keys")
    for path in (root / "root", root / "root/.ssh"):
        path.chmod(0o700)


def busybox_without_tar(folder: Path) -> Path:
    """Return a busybox whose applet tar has another name in its sorted list, so that neither PATH nor its own shell finds it."""
    program = Path(str(_which("busybox"))).read_bytes()
    names = b"\0tail\0tar\0taskset\0"
    assert program.count(names) == 1, "busybox keeps its applets' names in another way"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "busybox"
    path.write_bytes(program.replace(names, names.replace(b"tar", b"taq")))
    path.chmod(0o755)
    return path


@contextlib.contextmanager
def bare_device(
    folder: Path,
    mounts: Sequence[str] = (),
    busybox: Path | None = None,
    variables: str = "",
    boot: str = "",
    personality: str = "",
    dropbear: Path | None = None,
    applets: str = APPLETS,
) -> Iterator[BareDevice]:
    """Run one device for the time of the `with` block.

    `mounts` are further mount commands ("-t tmpfs -o size=20m tmpfs var/lib"), relative to its root; `boot` runs before; its
    `uname -m` is `personality`, if given.  Its SSH server is the dropbear of the root file system `dropbear` ("/" for this
    machine's), or this machine's sshd.  Raises LabError when it stays down.
    """
    root = folder / "root"
    for name in ("bin", "proc", "dev", "tmp", "root", "var/lib", "etc", "sys"):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)
    texts = {"os-release": "ID=bare\n", "passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n"}
    texts.update(
        {"group": "root:x:0:\nnogroup:x:65534:\n", "shadow": "root:*:19000:0:99999:7:::\n", "shells": "/bin/sh\n"}
    )
    for name, text in texts.items():
        (root / "etc" / name).write_text(text)
    shutil.copy(busybox or str(_which("busybox")), root / "bin/busybox")
    for applet in applets.split():
        (root / "bin" / applet).unlink(missing_ok=True)
        (root / "bin" / applet).symlink_to("busybox")
    make_keys(folder)
    port = free_port()
    (folder / "config").write_text(_CONFIG.format(port=port, folder=folder))
    chroot = f"{_which('setarch')} {personality} {_which('chroot')}" if personality else str(_which("chroot"))
    (folder / "login").write_text(_LOGIN.format(root=shlex.quote(str(root)), variables=variables, chroot=chroot))
    (folder / "login").chmod(0o755)
    Path("/run/sshd").mkdir(parents=True, exist_ok=True)
    server = f"cd / && exec {_which('sshd')} -D -e -f {shlex.quote(str(folder / 'config'))}"
    if dropbear is not None:
        _install_dropbear(dropbear, root, folder)
        server = f"cd / && exec {chroot} {shlex.quote(str(root))} {_DROPBEAR.format(port=port)}"
    lines = [
        "set -e",
        boot,
        f"cd {shlex.quote(str(root))}",
        "mount -t proc proc proc",
        "mount --rbind /dev dev",
        *(f"mount {mount}" for mount in mounts),
        server,
    ]
    namespaces = ["-m", "-u", "-p", "--fork", "--kill-child=SIGKILL", "--propagation", "private"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["unshare", *namespaces, "sh", "-c", "\n".join(lines)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_for_greeting(process, port, folder / "log")
        public = " ".join((folder / "host_key.pub").read_text().split()[:2])
        first = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0]
        yield BareDevice(root, port, folder / "id", public, int(first))
    finally:
        process.kill()  # its PID 1 dies with it, and with that everything inside
        process.wait()
