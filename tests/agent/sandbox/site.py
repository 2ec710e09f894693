"""A device's account as an exploited model finds it: keys, agent, releases, a daemon's sockets and two neighbours."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.agent.sandbox.bpf_machine import kernel_calls

HERE = Path(__file__).parent
AGENT = HERE.parents[2] / "agent"
NOBODY = 65534
SYSTEM_PYTHON = "/usr/bin/python3"
KEPT = (".ssh/authorized_keys", ".ssh/id_ed25519", "root/agent/agent.pyz", "root/releases/model.nb", "root/trust/keys")
KEPT += ("root/other", "root/deleted", "root/spare/file")
FILE_BYTES = 8 << 20
X32 = {"x32_getpid": 0x40000027} if os.uname().machine == "x86_64" else {}
MACHINE = {"armv7l": "armv7"}.get(os.uname().machine, os.uname().machine)
STATIC = "/bin/busybox" if os.path.exists("/bin/busybox") else "/bin/true"  # better one without a loader

_NEIGHBOUR = """
import ctypes, time
held = ctypes.create_string_buffer(b"secret")
print(ctypes.addressof(held), flush=True)
time.sleep(120)
"""


@dataclass
class Outcome:
    """What a stand-in told, and what was found afterwards."""

    code: int
    sandbox: dict[str, Any]
    got: dict[str, str]
    last: str  # "a program ran", or why not
    stderr: str
    changed: list[str] = field(default_factory=list)  # of what should never change
    neighbours_alive: int = 0
    work: list[str] = field(default_factory=list)
    answer: bytes = b""

    def got_it(self, attempt: str) -> bool:
        """Whether an attempt got anything."""
        return not self.got[attempt].startswith(("refused", "failed"))


class Site:
    """One account's folder, and its neighbours for one run."""

    def __init__(self, home: Path, uid: int, python: str) -> None:
        self.home, self.uid, self.python = home, uid, python
        self.work, self.model = home / "work", home / "root" / "model.nb"

    def fill(self) -> None:
        """Make the folder as it should stay."""
        shutil.rmtree(self.home / "root", ignore_errors=True)
        shutil.rmtree(self.work, ignore_errors=True)
        for name in KEPT:
            path = self.home / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"original " + name.encode())
            path.chmod(0o600)
        self.work.mkdir()
        self.model.write_bytes(b"model")
        (self.home / "before").write_bytes(b"")
        (self.home / "daemon.sock").unlink() if (self.home / "daemon.sock").exists() else None
        if os.getuid() != self.uid:
            for path in [self.home, *self.home.rglob("*")]:
                os.chown(path, self.uid, self.uid)

    def changed(self) -> list[str]:
        """Return what is not as it was made: content, mode or time."""
        found = [name for name in KEPT if self._is_changed(self.home / name, name)]
        extra = {path.relative_to(self.home / "root").as_posix() for path in (self.home / "root").rglob("*")}
        known = {name[len("root/") :] for name in KEPT if name.startswith("root/")} | {"model.nb"}
        known |= {"agent", "releases", "trust", "spare"}
        return found + sorted(extra - known)

    @staticmethod
    def _is_changed(path: Path, name: str) -> bool:
        try:
            told = path.stat()
            return (
                path.read_bytes() != b"original " + name.encode() or told.st_mode & 0o777 != 0o600 or told.st_mtime < 9
            )
        except OSError:
            return True

    def _become(self) -> None:
        if os.getuid() != self.uid:
            os.setgroups([])
            os.setgid(self.uid)
            os.setuid(self.uid)

    @contextlib.contextmanager
    def neighbour(self) -> Iterator[subprocess.Popen[str]]:
        """Run a process of the same account that has a secret."""
        env = {"SECRET": "neighbour"}
        argv = [self.python, "-I", "-c", _NEIGHBOUR]
        with subprocess.Popen(
            argv, stdout=subprocess.PIPE, universal_newlines=True, env=env, preexec_fn=self._become
        ) as made:
            try:
                yield made
            finally:
                made.kill()

    def run(self, lacking: str, policy: dict[str, Any], **more: Any) -> Outcome:
        """Run the stand-in as on a kernel that lacks what is named."""
        self.fill()
        with contextlib.ExitStack() as stack:
            victim, second = stack.enter_context(self.neighbour()), stack.enter_context(self.neighbour())
            assert victim.stdout is not None
            address = int(victim.stdout.readline())
            tcp = stack.enter_context(contextlib.closing(socket.socket()))
            tcp.bind(("127.0.0.1", 0))
            tcp.listen(8)
            abstract = f"litefleet-exploit-{os.getpid()}-{tcp.getsockname()[1]}"
            for address_of_socket in ("\0" + abstract, str(self.home / "daemon.sock")):
                listening = stack.enter_context(contextlib.closing(socket.socket(socket.AF_UNIX)))
                listening.bind(address_of_socket)
                listening.listen(8)
            os.chmod(self.home / "daemon.sock", 0o666)
            ours, theirs = socket.socketpair()
            stack.enter_context(contextlib.closing(ours))
            stack.enter_context(contextlib.closing(theirs))
            opened = os.open(self.home / "before", os.O_WRONLY)
            stack.callback(os.close, opened)
            config = dict(
                home=str(self.home), work=policy.get("work", ""), model=str(self.model), policy=policy, agent=str(AGENT),
                calls=dict(kernel_calls(MACHINE), tomorrow=600, **X32), victim=victim.pid, second=second.pid,
                address=address, port=tcp.getsockname()[1], abstract=abstract, socket=theirs.fileno(), opened=opened,
                file_bytes=policy.get("file_bytes", 1 << 30), static=STATIC, **more,
            )  # fmt: skip
            ended = self._stand_in(lacking, config, theirs.fileno(), opened)
            outcome = self._outcome(ended)
            outcome.neighbours_alive = sum(process.poll() is None for process in (victim, second))
            ours.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                outcome.answer = ours.recv(100)
        outcome.changed = self.changed()
        outcome.work = sorted(os.listdir(self.work))
        return outcome

    def _stand_in(self, lacking: str, config: dict[str, Any], *kept: int) -> subprocess.CompletedProcess[str]:
        argv = [self.python, "-I", str(HERE / "older_kernel.py"), lacking, self.python, "-I", str(HERE / "exploit.py")]
        return subprocess.run(
            [*argv, json.dumps(config)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            pass_fds=kept,
            start_new_session=True,
            preexec_fn=self._become,
            timeout=100,
            check=False,
        )

    @staticmethod
    def _outcome(ended: subprocess.CompletedProcess[str]) -> Outcome:
        lines = ended.stdout.splitlines()
        told = json.loads(lines[0]) if lines and lines[0].startswith("{") else {"sandbox": {}, "got": {}}
        return Outcome(ended.returncode, told["sandbox"], told["got"], lines[-1] if lines else "", ended.stderr)


def policy(site: Site, work: bool = True, **more: Any) -> dict[str, Any]:
    """Return what a model's process is allowed in these tests."""
    reads = [str(site.model), str(AGENT), str(HERE)]
    return dict(work=str(site.work) if work else "", reads=reads, data_bytes=600 << 20, file_bytes=FILE_BYTES, **more)


@contextlib.contextmanager
def account(uid: int | None = None) -> Iterator[Site]:
    """Give an account's folder outside of any that only root may enter."""
    uid = os.getuid() if uid is None else uid
    python = sys.executable if uid == os.getuid() else SYSTEM_PYTHON
    home = Path(tempfile.mkdtemp(prefix="litefleet-account-"))
    home.chmod(0o755)
    try:
        yield Site(home, uid, python)
    finally:
        shutil.rmtree(home, ignore_errors=True)
        for folder in ("/tmp", "/dev/shm"):
            for left in Path(folder).glob("litefleet-exploit-*"):
                with contextlib.suppress(OSError):
                    left.unlink()
