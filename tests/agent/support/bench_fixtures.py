"""A store with releases to be measured, and a stand-in for Paddle-Lite that leaks, slows down or lies as a test wants it.

The stand-in is a fixture: a Python module in the place of the real binding.  What it is asked, and all that measures it, is
the production code.
"""

from __future__ import annotations

import io
import json
import struct
import sys
import zipfile
from pathlib import Path

from litefleet_agent.bench.run import BenchEnvironment, bench
from litefleet_agent.facts import gather
from litefleet_agent.formats.files import Tree
from litefleet_agent.formats.npz import Array, npz_bytes
from litefleet_agent.releases.activation import activate, lock_and_recover
from litefleet_agent.releases.runtimes import unpack_runtime
from litefleet_agent.releases.store import Store

from tests.agent.support import nb_builder
from tests.agent.support.release_fixtures import put

# paddlelite/__init__.py: lite.so beside it is only there for the checks before anything is loaded.
STAND_IN = """
import os, sys, time, types
import numpy

BEGUN = time.monotonic()

class Tensor:
    value = numpy.zeros((1, 1), "float32")
    def from_numpy(self, value):
        self.value = value
    def numpy(self):
        return self.value
    def shape(self):
        return list(self.value.shape)

class Predictor:
    def __init__(self):
        self.x, self.y, self.runs, self.kept = Tensor(), Tensor(), 0, []
    def get_input(self, index):
        return self.x
    def get_output(self, index):
        return self.y
    def get_input_names(self):
        return ["x"]
    def get_output_names(self):
        return ["y"]
    def get_version(self):
        return "v2.13-rc"
    def run(self):
        self.runs += 1
        x = self.x.value
        y = numpy.stack([x[:, 0] + x[:, 1], x[:, 0] - x[:, 1], 2 * x[:, 0]], axis=1)
        %(behaviour)s
        self.y.value = y.astype("float32")

class MobileConfig:
    def set_model_from_file(self, path):
        pass
    %(config)s

lite = types.ModuleType("paddlelite.lite")
lite.MobileConfig = MobileConfig
lite.create_paddle_predictor = lambda config: Predictor()
sys.modules["paddlelite.lite"] = lite
"""
SET_THREADS = "def set_threads(self, count): pass"


def golden(*x: float) -> bytes:
    y = (x[0] + x[1], x[0] - x[1], 2 * x[0])
    arrays = {
        "x": Array("float32", (1, 2), struct.pack("<2f", *x)),
        "y": Array("float32", (1, 3), struct.pack("<3f", *y)),
    }
    return npz_bytes(arrays)


def wide_golden() -> bytes:
    x, y = struct.pack("<4f", 1, 2, 3, 4), struct.pack("<6f", 3, -1, 2, 7, -1, 6)
    return npz_bytes({"x": Array("float32", (2, 2), x), "y": Array("float32", (2, 3), y)})


def opened(root: Path) -> Store:
    store = Store(str(root))
    lock_and_recover(store)
    return store


def stand_in(store: Store, key: str, behaviour: str = "pass", config: str = "") -> str:
    """Unpack a runtime whose predictor does `behaviour` in each run, with `x`, `y` and `self.runs` at hand."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        bundle.writestr("paddlelite/__init__.py", STAND_IN % {"behaviour": behaviour, "config": config})
        bundle.writestr("paddlelite/lite.so", Path(sys.executable).read_bytes() + b"\0numpy._core\0v2.13-rc\0")
    unpack_runtime(store, key, put(store, buffer.getvalue()))
    return key


def toy_release(store: Store, runtime: str, goldens: tuple = (), current: bool = True, model: str = "toy") -> str:
    """Keep a release of the small model, count it as proven, and switch it on."""
    files = goldens or (golden(1.0, -0.5), golden(0.25, 3.0))
    return release(store, nb_builder.small(), files, runtime, model, current)


def release(store: Store, nb: bytes, goldens: tuple, runtime: str, model: str, current: bool = True) -> str:
    about = {"name": model, "nb": put(store, nb)}
    manifest = {"model": about, "golden": [put(store, g) for g in goldens], "runtime": runtime, "verify": {}}
    identity = store.write_release(manifest)
    store.record_verification(identity, "f", at=1)
    if current:
        activate(store, identity)
    return identity


def measured(store: Store, tree: Tree | None = None, tick=lambda: None, **header: object) -> dict:
    """Run one bench in this process, as a session does."""
    asked = {"model": "toy", "seconds": 1, "workers": [1], **header}
    result = bench(store, gather(store.root), asked, tick, BenchEnvironment(tree or Tree("/"), sys.executable))
    answer: dict = json.loads(json.dumps(result.to_dict()))
    return answer


def codes(answer: dict) -> list:
    return [found["code"] for found in answer["findings"]]
