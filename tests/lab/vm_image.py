"""The disk of the lab's machine: a Debian userland with a kernel and a CPython that Paddle-Lite is published for.

Built once and kept beside the userlands, named by what it is made of.  The machine has no systemd: a shell script of
ours is its process 1, which makes it boot in seconds where the CPU is emulated.
"""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.lab.rootfs import CACHE, LabError, Userland, build

__all__ = ["PYTHON", "VmImage", "build_image"]

PYTHON = "/opt/python/bin/python3"  # on the machine
X86_64 = Userland(
    "amd64",
    "x86_64",
    "x86_64-linux-gnu",
    "",
    "max",
    "",
    "base-files base-passwd bash dash coreutils util-linux sed grep findutils tar gzip hostname procps python3 "
    "openssh-server dropbear-bin libc-bin login mawk debianutils libstdc++6 libgomp1 busybox-static linux-image-cloud-amd64",
)
SIZE = "1G"

# The kernel's modules in the order in which they are loaded; a file system and a console are built in.
_MODULES = (
    "drivers/virtio/virtio_ring",
    "drivers/virtio/virtio",
    "drivers/virtio/virtio_pci_legacy_dev",
    "drivers/virtio/virtio_pci_modern_dev",
    "drivers/virtio/virtio_pci",
    "drivers/block/virtio_blk",
    "net/core/failover",
    "drivers/net/net_failover",
    "drivers/net/virtio_net",
)

_INITRD = """#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
for module in {modules}; do /bin/busybox insmod /$module.ko; done
/bin/busybox mount -t ext4 /dev/vda /disk
exec /bin/busybox switch_root /disk /sbin/lab-init
"""

# The second disk is a tar file: the keys and the server's settings of this very machine.
_INIT = """#!/bin/busybox sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
busybox mount -t proc proc /proc
busybox mount -t sysfs sys /sys
busybox mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
busybox mount -t devpts devpts /dev/pts
busybox mount -t tmpfs tmpfs /dev/shm
busybox mount -t tmpfs tmpfs /run
busybox mount -t tmpfs -o mode=1777 tmpfs /tmp
mkdir -p /run/sshd /run/lab
busybox tar -xf /dev/vdb -C /run/lab
mkdir -p -m 700 /root/.ssh
cp /run/lab/authorized_keys /root/.ssh/authorized_keys
hostname "$(cat /run/lab/name)"
busybox ip link set lo up
busybox ip link set eth0 up
busybox ip addr add 10.0.2.15/24 dev eth0
busybox ip route add default via 10.0.2.2
root=/var/lib/litefleet
if [ -e $root/journal ] && [ -e $root/agent/litefleet-agent.pyz ]; then  # what litefleet-recover.service does
  /opt/python/bin/python3 -Es $root/agent/litefleet-agent.pyz recover --root $root
fi
/bin/sh /run/lab/server
echo "lab-init: the server ended"
busybox poweroff -f
"""


@dataclass(frozen=True)
class VmImage:
    """What a machine boots from; none of these files is ever written to again."""

    disk: Path  # ext4, raw
    kernel: Path
    initrd: Path


def build_image(interpreter: Path) -> VmImage:
    """Return the image that holds `interpreter` (a CPython of this machine, its folder copied), building it on first use.

    Raises LabError with the tool's last lines when it can't be built.
    """
    userland, prefix = build(X86_64), interpreter.resolve().parents[1]
    parts = repr((userland.name, str(prefix), SIZE, _MODULES, _INITRD, _INIT))
    target = CACHE / f"vm-{hashlib.sha256(parts.encode()).hexdigest()[:12]}"
    with (CACHE / "vm.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            half = target.with_suffix(".half")
            shutil.rmtree(half, ignore_errors=True)
            _make(half, userland, prefix)
            half.rename(target)
    return VmImage(target / "disk", target / "kernel", target / "initrd")


def _make(folder: Path, userland: Path, prefix: Path) -> None:
    folder.mkdir()
    kernels = sorted((userland / "boot").glob("vmlinuz-*"))
    if not kernels:
        raise LabError(f"{userland}/boot holds no kernel: remove {userland} and try again.")
    shutil.copyfile(kernels[-1], folder / "kernel")
    modules = userland / "lib/modules" / kernels[-1].name.removeprefix("vmlinuz-") / "kernel"
    _make_initrd(folder, userland / "bin/busybox", modules)
    _make_disk(folder, userland, prefix)


def _make_initrd(folder: Path, busybox: Path, modules: Path) -> None:
    root = folder / "initrd-root"
    for name in ("bin", "dev", "disk"):
        (root / name).mkdir(parents=True)
    shutil.copy2(busybox, root / "bin/busybox")
    for module in _MODULES:
        shutil.copyfile(modules / f"{module}.ko", root / f"{Path(module).name}.ko")
    names = [Path(m).name for m in _MODULES]
    _script(root / "init", _INITRD.format(modules=" ".join(names)))
    listed = "".join(f"{path.relative_to(root)}\n" for path in sorted(root.rglob("*")))
    archive = _run(["cpio", "-o", "-H", "newc", "--quiet", "-R", "0:0"], listed.encode(), cwd=root)
    (folder / "initrd").write_bytes(gzip.compress(archive, 1))
    shutil.rmtree(root)


def _make_disk(folder: Path, userland: Path, prefix: Path) -> None:
    root = folder / "root"
    without = ["./boot/*", "./lib/modules/*", "./usr/share/doc/*", "./usr/share/man/*", "./usr/share/locale/*"]
    root.mkdir()
    _copy(userland, root, without)
    python = root / Path(PYTHON).relative_to("/").parents[1]
    python.mkdir(parents=True)
    # Its byte code is taken along: an emulated CPU is slow to compile.
    _copy(prefix, python, ["./share", "./include", "*/test", "*/site-packages", "*/ensurepip", "*/config-3*", "*.a"])
    with (root / "etc/ld.so.conf").open("a") as libraries:
        libraries.write(f"/{python.relative_to(root)}/lib\n")
    _run(["/sbin/ldconfig", "-r", str(root)])
    _script(root / "sbin/lab-init", _INIT)
    disk = folder / "disk"
    _run(["mke2fs", "-q", "-t", "ext4", "-d", str(root), str(disk), SIZE])
    shutil.rmtree(root)


def _copy(source: Path, target: Path, without: list[str]) -> None:
    patterns = [f"--exclude={pattern}" for pattern in without]
    with subprocess.Popen(["tar", "-C", str(source), *patterns, "-cf", "-", "."], stdout=subprocess.PIPE) as packer:
        done = subprocess.run(
            ["tar", "-C", str(target), "-xf", "-"], stdin=packer.stdout, capture_output=True, check=False
        )
    if done.returncode or packer.returncode:
        raise LabError(f"{source} could not be copied to {target}: {done.stderr.decode()[-500:]}")


def _script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def _run(argv: list[str], stdin: bytes = b"", cwd: Path | None = None) -> bytes:
    done = subprocess.run(argv, input=stdin, capture_output=True, check=False, cwd=cwd)
    if done.returncode:
        raise LabError(f"{argv[0]} ended with {done.returncode}: {done.stderr.decode(errors='replace')[-1000:]}")
    return done.stdout
