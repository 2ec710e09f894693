"""The whole service for tests and bench: a root with real releases, `litefleet-agent serve` on it, and a load of callers."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from litefleet_agent.client import Client, Result, ServiceError
from litefleet_agent.facts import Facts, fingerprint
from litefleet_agent.releases.activation import activate, lock_and_recover, rollback
from litefleet_agent.releases.store import Store

AGENT = Path(__file__).parents[3] / "agent"
FAULTY = """
import os, signal, time
import numpy
from . import lite

HERE = os.path.dirname(__file__)
real = lite.create_paddle_predictor
kept = []

def fault():
    try:
        with open(os.path.join(HERE, "fault")) as file:
            return (file.read().split() + ["", "0"])[:2]
    except OSError:
        return "", "0"

class NoNumbers:
    def __init__(self, tensor): self.tensor = tensor
    def __getattr__(self, name): return getattr(self.tensor, name)
    def numpy(self): return self.tensor.numpy() * numpy.float32("nan")

class Predictor:
    def __init__(self, predictor): self.predictor = predictor
    def __getattr__(self, name): return getattr(self.predictor, name)
    def run(self):
        kind, much = fault()
        given = self.predictor.get_input(0).numpy()
        if kind == "die" or (given.reshape(len(given), -1)[:, 0] == -7).any(): os.kill(os.getpid(), signal.SIGSEGV)
        if kind == "grow": kept.append(b"x" * (int(much) << 20))
        if kind == "hog": kept.append(b"x" * (int(much) << 20)); time.sleep(600)
        while fault()[0] == "gate": time.sleep(0.005)
        if kind == "slow": time.sleep(float(much))
        self.predictor.run()
    def get_output(self, index):
        tensor = self.predictor.get_output(index)
        return NoNumbers(tensor) if fault()[0] == "nan" else tensor

lite.create_paddle_predictor = lambda config: Predictor(real(config))
"""
PROGRAM = "import sys; sys.path.insert(0, %r); from litefleet_agent.cli import main; sys.exit(main(sys.argv[1:]))"
LONG_S = 60.0  # only ends a hang
OLDEST = sys.version_info[:2] == (3, 7)  # then the daemon, too, runs on it


class Device:
    """A root as sessions leave it: releases that count as proven, and links that the agent's own `switch` sets."""

    def __init__(self, root: Path, python: Path, **settings: object) -> None:
        self.root, self.python = root, Path(python)
        root.mkdir(parents=True, exist_ok=True)
        self.store = Store(str(root))
        self.socket = str(root / "s")
        self.settings(**settings)

    def settings(self, **settings: object) -> None:
        (self.root / "service.json").write_text(json.dumps(dict({"socket": self.socket}, **settings)))

    def put(self, data: bytes) -> str:
        sha = hashlib.sha256(data).hexdigest()
        if sha not in self.store.blobs():
            self.store.put(sha, len(data), [data])
        return sha

    def release(
        self, nb: Path, goldens: list[Path], model: str = "cls", runtime: str = "system", **verify: object
    ) -> str:
        """Keep a release that counts as proven here, and return its id; any difference in `verify` makes it another one."""
        with Held(self.store):
            manifest = {
                "model": {"name": model, "nb": self.put(nb.read_bytes())},
                "golden": [self.put(path.read_bytes()) for path in goldens],
                "runtime": runtime,
                "verify": verify,
            }
            identity = self.store.write_release(manifest)
            self.store.record_verification(identity, fingerprint_of(self.python), at=time.time())
        return identity

    def runtime(self, key: str = "faulty") -> str:
        """Keep the interpreter's own Paddle-Lite as a runtime that does as `fault` tells it, and return its key.

        An input that begins with -7 ends the process at any time.
        """
        ours = self.root / "runtimes" / key / "paddlelite"
        if not ours.exists():
            ours.mkdir(parents=True)
            for name in ("lite.so", "libs"):
                (ours / name).symlink_to(package_of(self.python, "paddlelite") / name)
            (ours / "__init__.py").write_text(FAULTY)
        return key

    def fault(self, kind: str = "", key: str = "faulty") -> None:
        """Have each run of a runtime die, hang at a "gate", be "slow S", answer "nan", "grow MiB" or "hog MiB"; "" = go well."""
        told = self.root / "runtimes" / key / "paddlelite" / "fault"
        told.with_suffix(".new").write_text(kind)
        told.with_suffix(".new").replace(told)

    def activate(self, identity: str, lease_s: float = 0.0) -> None:
        with Held(self.store):
            activate(self.store, identity, lease_s)

    def rollback(self, model: str, to: str) -> None:
        with Held(self.store):
            rollback(self.store, model, to)

    def current(self, model: str = "cls") -> str:
        return self.store.link(model, "current")

    def serve(self, **more: object) -> Service:
        return Service(self, **more)


class Held:
    """The store's lock, waited for: a service that goes back holds it for a moment."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __enter__(self) -> None:
        lock_and_recover(self._store, timeout_s=10)

    def __exit__(self, *_: object) -> None:
        self._store.unlock()


def package_of(python: Path, name: str) -> Path:
    """Return the folder of a package that an interpreter has."""
    code = "import importlib.util, sys; print(importlib.util.find_spec(sys.argv[1]).origin)"
    told = subprocess.run([str(python), "-c", code, name], stdout=subprocess.PIPE, check=True)
    return Path(told.stdout.decode().strip()).parent


_fingerprints: dict[Path, str] = {}


def fingerprint_of(python: Path) -> str:
    """Return the fingerprint of this machine's facts as that interpreter sees them."""
    if python not in _fingerprints:
        told = subprocess.run([str(python), "-c", PROGRAM % str(AGENT), "facts"], stdout=subprocess.PIPE, check=True)
        _fingerprints[python] = fingerprint(Facts.from_dict(json.loads(told.stdout.decode())))
    return _fingerprints[python]


class Service:
    """`litefleet-agent serve` in a process of its own; a context manager that ends it by its process."""

    def __init__(
        self,
        device: Device,
        argv: list[str] | None = None,
        agent: Path = AGENT,
        pass_fds: tuple[int, ...] = (),
        **environ: str,
    ) -> None:
        self.device = device
        program = argv or ["-c", PROGRAM % str(agent)]
        env = {name: value for name, value in os.environ.items() if name not in ("RUNTIME_DIRECTORY", "NOTIFY_SOCKET")}
        self.begun = time.monotonic()
        self.process = subprocess.Popen(
            [str(device.python), *program, "serve", "--root", str(device.root)],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=pass_fds,
            env=dict(env, **environ),
        )
        self.lines: list[str] = []
        self._ended = False
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stderr:
            with self._news:
                self.lines.append(re.sub(r"^<\d>", "", line.decode("utf-8", "replace").rstrip("\n")))
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(LONG_S)
        self._reader.join(LONG_S)
        self.process.stderr.close()

    def told(self, pattern: str, count: int = 1, most_s: float = LONG_S) -> list[str]:
        """Wait until `count` lines of the log match, and return them."""
        found: list[str] = []

        def enough() -> bool:
            found[:] = [line for line in self.lines if re.search(pattern, line)]
            return len(found) >= count or self._ended

        with self._news:
            self._news.wait_for(enough, most_s)
        assert len(found) >= count, (pattern, self.lines)
        return found

    def client(self, timeout_s: float = LONG_S) -> Client:
        return Client(self.device.socket, timeout_s)

    def status(self) -> dict:
        with self.client() as client:
            return client.status()

    def model(self, name: str = "cls") -> dict:
        return self.status()["models"][name]

    def until(self, done: Callable[[dict], object], most_s: float = LONG_S) -> dict:
        """Ask for the status until it is as wanted; for what no line of the log tells."""
        end = time.monotonic() + most_s
        while True:
            status = self.status()
            if done(status):
                return status
            assert time.monotonic() < end, status
            time.sleep(0.02)

    def ready(self, workers: int = 1, name: str = "cls") -> dict:
        """Wait until so many workers wait for work."""
        return self.until(
            lambda status: [w["state"] for w in status["models"][name]["workers"]].count("ready") == workers
        )

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return self.process.wait(LONG_S)


class Manager:
    """What systemd is to the service: a datagram socket that it tells its states to."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self.heard: list[str] = []

    def __enter__(self) -> Manager:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def hear(self, most_s: float = LONG_S) -> str | None:
        """Return the next state, None when none comes in time."""
        self._socket.settimeout(most_s)
        try:
            said = self._socket.recv(65536).decode()
        except socket.timeout:  # noqa: UP041 - 3.7
            return None
        self.heard.append(said)
        return said

    def until(self, pattern: str, most_s: float = LONG_S) -> str:
        end = time.monotonic() + most_s
        while True:
            said = self.hear(max(0.01, end - time.monotonic()))
            assert said is not None, (pattern, self.heard[-9:])
            if re.search(pattern, said):
                return said


class Load:
    """Callers that ask as fast as they are answered, each over a connection of its own, and count what came of it.

    Every answer is compared with the golden of its question.
    """

    def __init__(
        self, service: Service, goldens: list[Path], callers: int = 4, model: str = "cls", atol: float = 1e-4
    ) -> None:
        self._service, self._model, self._atol = service, model, atol
        self._cases = cases(goldens)
        self.asked = self.answered = 0
        self.refused: Counter = Counter()
        self.releases: Counter = Counter()
        self.batches: Counter = Counter()
        self.wrong: list[str] = []
        self._lock = threading.Condition()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(number,), daemon=True) for number in range(callers)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> Load:
        self._stop.set()
        for thread in self._threads:
            thread.join(LONG_S)
            assert not thread.is_alive()
        return self

    def _ask(self, number: int) -> None:
        with self._service.client() as client:
            while not self._stop.is_set():
                inputs, wanted = self._cases[number % len(self._cases)]
                number += 1
                with self._lock:
                    self.asked += 1
                try:
                    result = client.infer(self._model, inputs)
                except ServiceError as error:
                    with self._lock:
                        self.refused[error.code] += 1
                        self._lock.notify_all()
                    continue
                self._count(result, wanted)

    def _count(self, result: Result, wanted: dict) -> None:
        off = [n for n, v in wanted.items() if not np.allclose(result.outputs[n], v, atol=self._atol, rtol=1e-3)]
        with self._lock:
            self.answered += 1
            self.releases[result.release] += 1
            self.batches[result.batch] += 1
            self.wrong += off
            self._lock.notify_all()

    def until(self, done: Callable[[Load], object], most_s: float = LONG_S) -> None:
        """Wait for an answer or a refusal after which `done` holds."""
        with self._lock:
            assert self._lock.wait_for(lambda: done(self), most_s), self.seen()

    def more(self, count: int) -> None:
        """Wait for so many more answers."""
        now = self.answered
        self.until(lambda load: load.answered >= now + count)

    def seen(self) -> dict:
        return {"asked": self.asked, "answered": self.answered, "refused": self.refused, "releases": self.releases}

    @property
    def lost(self) -> int:
        """Requests that came to nothing, not even an error."""
        return self.asked - self.answered - sum(self.refused.values())


def cases(goldens: list[Path]) -> list[tuple[dict, dict]]:
    """Return (inputs, outputs) of each golden."""
    held = [dict(np.load(path)) for path in goldens]
    return [({"x": one.pop("x")}, one) for one in held]
