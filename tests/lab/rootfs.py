"""Root file systems of ARM devices: Debian userlands, unpacked without running one emulated maintainer script.

Each is built once and kept in `.cache/lab` (or $LITEFLEET_LAB_CACHE), named by its recipe: a changed one builds anew.
Needs root, mmdebstrap and the machine's own Debian package sources.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from litefleet_controller.build.pythons.apt import AptSource
from litefleet_controller.build.pythons.deb import files_of

__all__ = ["AARCH64", "ARMV7", "CACHE", "LabError", "Userland", "build", "file_of", "unpack_packages"]

CACHE = Path(os.environ.get("LITEFLEET_LAB_CACHE", Path(__file__).parents[2] / ".cache" / "lab"))
RECIPE = "2"  # raise it when `_finish` changes what it writes
PACKAGES = (
    "base-files base-passwd bash dash coreutils util-linux sed grep findutils tar gzip hostname procps python3 "
    "python3-numpy openssh-server dropbear-bin libc-bin login mawk debianutils"
)
SOURCES = ("/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list")


class LabError(Exception):
    """The lab can't be built or started here; the text says what to do."""


@dataclass(frozen=True)
class Userland:
    """One kind of device: Debian's name for its architecture and the machine that it says it is."""

    debian: str  # "arm64"
    machine: str  # what `uname -m` says there
    triplet: str  # the folder of its libraries
    binfmt: str  # the rule in /usr/lib/binfmt.d that runs its programs
    cpu: str  # the CPU that the emulator plays
    cpuinfo: str  # what /proc/cpuinfo says there; the emulator would show the host's
    packages: str = PACKAGES


AARCH64 = Userland(
    "arm64",
    "aarch64",
    "aarch64-linux-gnu",
    "qemu-aarch64",
    "cortex-a72",
    "processor\t: 0\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm crc32 cpuid\nCPU implementer\t: 0x41\n"
    "CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0xd08\nCPU revision\t: 3\n\n",
)
ARMV7 = Userland(
    "armhf",
    "armv7l",
    "arm-linux-gnueabihf",
    "qemu-arm",
    "cortex-a7",
    "processor\t: 0\nmodel name\t: ARMv7 Processor rev 5 (v7l)\nBogoMIPS\t: 38.40\n"
    "Features\t: half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm\n"
    "CPU implementer\t: 0x41\nCPU architecture: 7\nCPU variant\t: 0x0\nCPU part\t: 0xc07\n"
    "CPU revision\t: 5\n\nHardware\t: BCM2835\n",
)


def build(userland: Userland) -> Path:
    """Return the folder of a userland's root file system, building it on first use (half a minute, 200 MB).

    Raises LabError with the tool's last lines when it can't be built.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    recipe = hashlib.sha256(repr((RECIPE, userland.packages, userland.debian)).encode()).hexdigest()[:12]
    target = CACHE / f"{userland.debian}-{recipe}"
    with (CACHE / f"{userland.debian}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            half = target.with_suffix(".half")
            _unpack(userland, half)
            _finish(userland, half)
            half.rename(target)
    return target


def _codename() -> str:
    for line in Path("/etc/os-release").read_text().splitlines():
        if line.startswith("VERSION_CODENAME="):
            return line.partition("=")[2].strip('"')
    raise LabError(
        "/etc/os-release names no VERSION_CODENAME: the lab builds its devices from a Debian machine's own sources."
    )


def _sources() -> list[str]:
    """Return what to try, in order: the machine's own sources, then their first mirror alone.

    The second helps where one suite (security, mostly) has no sound index for a foreign architecture just now.
    """
    own = next((s for s in SOURCES if Path(s).exists()), None)
    if own is None:
        raise LabError(f"None of {', '.join(SOURCES)} exists: the lab needs a Debian machine's package sources.")
    mirror = re.search(r"^(?:URIs:|deb)\s.*?(https?://\S+)", Path(own).read_text(), re.MULTILINE)
    return [own, mirror.group(1)] if mirror else [own]


def _unpack(userland: Userland, folder: Path) -> None:
    said = ""
    for source in _sources():
        shutil.rmtree(folder, ignore_errors=True)
        # In mounts of its own: an interrupted run leaves none, which the next one would otherwise delete files from.
        argv = ["unshare", "-m", "--propagation", "private", "mmdebstrap", "--mode=root"]
        argv += [f"--architectures={userland.debian}", "--variant=extract"]
        argv += [f"--include={userland.packages.replace(' ', ',')}", _codename(), str(folder), source]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        said = f"mmdebstrap ended with {done.returncode} on {source}:\n{done.stderr[-2000:]}"
    raise LabError(said)


def _finish(userland: Userland, folder: Path) -> None:
    """Do what the maintainer scripts would have done, as far as a login and Python with numpy need it."""
    etc, master = folder / "etc", folder / "usr/share/base-passwd"
    users = master.joinpath("passwd.master").read_text().replace("root:*:", "root:x:")
    (etc / "passwd").write_text(users + "sshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n")
    (etc / "group").write_text(master.joinpath("group.master").read_text())
    (etc / "shadow").write_text("root:*:19000:0:99999:7:::\nsshd:!:19000::::::\n")
    (etc / "shadow").chmod(0o640)
    (etc / "shells").write_text("/bin/sh\n/bin/bash\n/bin/dash\n")
    (etc / "hosts").write_text("127.0.0.1 localhost\n")
    (etc / "nsswitch.conf").write_text("passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n")
    (etc / "dropbear").mkdir(exist_ok=True)
    _link(folder / "bin/sh", "dash")
    _link(folder / "usr/bin/awk", "mawk")
    libraries = folder / "usr/lib" / userland.triplet
    for name in ("blas", "lapack"):  # update-alternatives never ran
        _link(libraries / f"lib{name}.so.3", f"{name}/lib{name}.so.3")
    roots = [f"{prefix}/{userland.triplet}" for prefix in ("/lib", "/usr/lib")]
    (etc / "ld.so.conf").write_text("\n".join([*roots, "/usr/local/lib"]) + "\n")
    subprocess.run(["/sbin/ldconfig", "-r", str(folder)], capture_output=True, check=True)


def _link(path: Path, target: str) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def file_of(package: str, architecture: str, name: str, folder: Path) -> Path:
    """Return a file of a Debian package, by its path's end."""
    (deb,) = _fetch([package], architecture, folder)
    (found,) = [file for file in files_of(deb) if file.path.endswith(name) and not file.target]
    path = folder / Path(name).name
    path.write_bytes(found.data)
    path.chmod(0o755)
    return path


def unpack_packages(packages: list[str], architecture: str, suite: str, root: Path, folder: Path) -> None:
    """Unpack packages of another suite of the machine's own mirror ("bullseye") into a root file system; `folder` is for work."""
    etc = folder / "etc"
    etc.mkdir(parents=True)
    (etc / "sources.list").write_text(f"deb {_sources()[-1]} {suite} main\n")
    for deb in _fetch(packages, architecture, folder, etc):
        for file in files_of(deb):
            path = root / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            if file.target:
                _link(path, file.target)
            else:
                path.write_bytes(file.data)
                path.chmod(0o755 if file.runs else 0o644)


def _fetch(packages: list[str], architecture: str, folder: Path, etc: Path = Path("/etc/apt")) -> list[Path]:
    async def fetch() -> list[Path]:
        source = AptSource(architecture, folder, etc)
        return await source.fetch((await source.packages(packages)).values())

    folder.mkdir(exist_ok=True)
    with ThreadPoolExecutor(1) as thread:  # an asynchronous test has a loop of its own
        return thread.submit(asyncio.run, fetch()).result()
