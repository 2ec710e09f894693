"""How one release is to be run here: files, tolerance, limits."""

import os
import sys
from dataclasses import dataclass
from typing import Any, Dict, Optional, Tuple

from ...findings.model_file import read_nb_file
from ...formats.nb import NbError, NbModel
from ...releases.store import Store, StoreError
from ..messages import ServedModel
from ..settings import Settings

__all__ = ["WorkerPlan", "plan_of", "served_model"]


@dataclass(frozen=True)
class WorkerPlan:
    """What a worker process is started with.  0 leaves threads to Paddle-Lite and means no limit on memory."""

    model: ServedModel
    nb: str  # path
    runtime: str  # folder that holds the paddlelite package; "" = what the interpreter has
    golden: Tuple[str, ...]  # paths of .npz files
    nb_sha256: str = ""  # of its bytes; "" = not known
    tolerance: Optional[Dict[str, object]] = None  # some of Tolerance's fields; the rest by the model's precision
    threads: int = 0
    power_mode: str = ""
    input_sizes: int = 1  # for so many the model stays loaded
    memory_limit_bytes: int = 0  # resident: above it the worker is replaced, at a quarter more it is ended
    growth_limit_bytes: int = 256 << 20  # since its hundredth run: above it the worker is replaced
    start_limit_s: float = 120.0
    python: str = sys.executable
    argv: Tuple[str, ...] = ()  # another program that speaks as a worker does; it gets the socket's number and our pid


def served_model(model: NbModel, name: str, release: str) -> ServedModel:
    """Return the model as callers see it."""
    return ServedModel(name, release, tuple(model.inputs), tuple(model.outputs))


def plan_of(store: Store, identity: str, settings: Settings) -> WorkerPlan:
    """Return how the release `identity` is run on this device.

    Raises StoreError: "missing" when the release, one of its files or its runtime is not here, "bad-request" when
    the file is no model.
    """
    manifest = store.release(identity)
    name, verify = manifest.model, manifest.verify
    nb = _existing_file(store.blob(manifest.nb), "the file of %s" % name)
    golden = tuple(_existing_file(store.blob(sha), "a golden of %s" % name) for sha in manifest.goldens)
    return WorkerPlan(
        model=_read(nb, name, identity),
        nb=nb,
        runtime=_runtime(store, manifest.runtime),
        golden=golden,
        nb_sha256=manifest.nb,
        tolerance=_tolerance(verify.get("tolerance"), name),
        threads=settings.threads or _threads(verify.get("threads")),
        power_mode=settings.power_mode,
        input_sizes=settings.input_sizes,
        memory_limit_bytes=settings.memory_limit_bytes,
        growth_limit_bytes=settings.growth_limit_bytes,
        start_limit_s=settings.start_limit_s,
    )


def _existing_file(path: str, label: str) -> str:
    if not os.path.isfile(path):
        raise StoreError("%s (%s) is not on this device" % (label, os.path.basename(path)[:12]), "missing")
    return path


def _read(path: str, name: str, identity: str) -> ServedModel:
    try:
        return served_model(read_nb_file(path), name, identity)
    except OSError as error:
        raise StoreError("the file of %s can't be read: %s" % (name, error.strerror or error), "io-error") from error
    except NbError as error:
        raise StoreError("the file of %s can't be used: %s" % (name, error), "bad-request") from error


def _runtime(store: Store, key: str) -> str:
    if key == "system":
        return ""
    folder = store.path("runtimes", key)
    if not os.path.isdir(folder):
        raise StoreError("the runtime %s is not on this device" % key[:12], "missing")
    return folder


def _tolerance(value: object, model: str) -> Optional[Dict[str, object]]:
    if value is not None and not isinstance(value, dict):
        raise StoreError("the tolerance of %s is not an object" % model, "bad-request")
    return value


def _threads(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 256 else 0
