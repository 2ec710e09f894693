"""Root file systems of machines that boot with an init of their own: systemd, OpenRC under SysV's init, or BusyBox.

Each is built once and kept beside the devices' (rootfs.CACHE), named by its recipe.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.lab.rootfs import CACHE, SOURCES, LabError

__all__ = ["ADMIN", "BUSYBOX", "OPENRC", "PASSWORD", "SYSTEMD", "System", "build", "run"]

ADMIN, PASSWORD = "admin", "correct horse"  # may do everything by sudo, with this password; not on BusyBox
RECIPE = "1"  # raise it when something changes that the strings below do not hold


@dataclass(frozen=True)
class System:
    """What a machine is made of."""

    name: str
    packages: str
    finish: str  # sh, run within it once it is unpacked
    variant: str = "minbase"  # "extract": no maintainer script is run


_USERS = f"""set -e
useradd --create-home --shell /bin/bash {ADMIN}
echo '{ADMIN}:{PASSWORD}' | chpasswd
echo '{ADMIN} ALL=(ALL) ALL' > /etc/sudoers.d/lab
chmod 440 /etc/sudoers.d/lab
rm -f /etc/ssh/ssh_host_* /etc/machine-id
touch /etc/machine-id
echo '127.0.0.1 localhost lab' > /etc/hosts
"""

_UNUSED = (
    "systemd-networkd.service systemd-resolved.service console-getty.service apt-daily.timer apt-daily-upgrade.timer"
)
SYSTEMD = System(
    "systemd",
    "systemd,systemd-sysv,dbus,openssh-server,sudo,python3,python3-venv,procps,busybox-static,libpam-systemd",
    f"{_USERS}systemctl mask {_UNUSED}\n",
)

# PID 1 is SysV's init, as Debian has it; Alpine has BusyBox's there.  Both leave the services to OpenRC.
OPENRC = System(
    "openrc",
    "sysvinit-core,openrc,openssh-server,sudo,python3,procps,libstdc++6",
    f"""{_USERS}sed -i '/getty/d' /etc/inittab
""",
)

# Its programs are BusyBox's own, but for those that Debian's build of it lacks: useradd and its like.
BUSYBOX = System(
    "busybox",
    "base-files,base-passwd,libc-bin,passwd,busybox-static,dropbear-bin,python3,libstdc++6",
    """set -e
/bin/busybox --install -s
PATH=/usr/sbin:/usr/bin:/sbin:/bin
sed 's/^root:\\*:/root:x:/; s|/bin/bash|/bin/sh|' /usr/share/base-passwd/passwd.master > /etc/passwd
cp /usr/share/base-passwd/group.master /etc/group
echo 'root:*:19000:0:99999:7:::' > /etc/shadow
chmod 640 /etc/shadow
echo '127.0.0.1 localhost lab' > /etc/hosts
echo /bin/sh > /etc/shells
ldconfig
mkdir -p /root /etc/dropbear /etc/init.d
cat > /etc/inittab <<'END'
::sysinit:/etc/init.d/rcS
::shutdown:/etc/init.d/rcK
::ctrlaltdel:/sbin/reboot
END
cat > /etc/init.d/rcS <<'END'
#!/bin/sh
for script in /etc/init.d/S??*; do [ ! -x "$script" ] || "$script" start; done
END
cat > /etc/init.d/rcK <<'END'
#!/bin/sh
for script in $(ls -r /etc/init.d/S??*); do [ ! -x "$script" ] || "$script" stop; done
END
cat > /etc/init.d/S01syslogd <<'END'
#!/bin/sh
[ "$1" != start ] || syslogd
END
cat > /etc/init.d/S50dropbear <<'END'
#!/bin/sh
[ "$1" = start ] || exit 0
key=/etc/dropbear/key
[ -f $key ] || dropbearconvert openssh dropbear /etc/ssh/ssh_host_ed25519_key $key
exec dropbear -p 127.0.0.1:$(cat /etc/ssh/port) -r $key
END
chmod 755 /etc/init.d/*
""",
    "extract",
)


def build(system: System) -> Path:
    """Return the folder of its root file system, building it on first use (a minute or two, 300 MB)."""
    CACHE.mkdir(parents=True, exist_ok=True)
    recipe = hashlib.sha256(repr((RECIPE, system.packages, system.finish)).encode()).hexdigest()[:12]
    target = CACHE / f"{system.name}-{recipe}"
    with (CACHE / f"{system.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            half = target.with_suffix(".half")
            shutil.rmtree(half, ignore_errors=True)
            source = next((s for s in SOURCES if Path(s).exists()), None)
            if source is None:
                raise LabError(f"none of {', '.join(SOURCES)} exists: the lab needs a Debian machine's package sources")
            # A file of sources makes mmdebstrap ignore the suite's name.
            options = ("--mode=root", f"--variant={system.variant}", f"--include={system.packages}")
            # In mounts of its own: an interrupted run leaves none, which the next one would otherwise delete files from.
            run("unshare", "-m", "--propagation", "private", "mmdebstrap", *options, "bookworm", half, source)
            shell = ("/bin/busybox", "sh") if system.variant == "extract" else ("sh",)
            run("chroot", half, *shell, "-c", system.finish)
            half.rename(target)
    return target


def run(*argv: object) -> None:
    """Run a program; LabError with the end of what it said when it fails."""
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"{argv[0]} ended with {done.returncode}: {done.stderr[-2000:]}")
