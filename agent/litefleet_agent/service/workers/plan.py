"""How a worker runs one release on this device: files, tolerance, limits; and the message that gives the worker all of it."""

import os
import sys
from dataclasses import dataclass
from typing import Dict, Mapping, NamedTuple, Optional, Sequence, Tuple

from ...facts.present import memory
from ...findings.model_file import accelerators, read_nb_file
from ...formats.checked import number_or
from ...formats.engine_settings import NOTHING_ASKED, EngineSettings
from ...formats.files import Tree
from ...formats.nb import NbError, NbModel
from ...releases.caches import prepare_cache
from ...releases.store import Store, StoreError, VerificationRecord
from ...verification.engine import BINDING, asked_of_engine, recorded_engine
from ...verification.verify import default_memory_limit
from ..messages import ServedModel
from ..settings import Settings

_DEVICE = Tree("/")
_ALLOWED = 5.0  # times what the proof took
_MOST_LIMIT_S = 3600.0  # the largest that the settings take


@dataclass(frozen=True)
class WorkerPlan:
    """The values that a worker process starts with.  `threads` 0 leaves them to Paddle-Lite; memory limit 0 = no limit."""

    model: ServedModel
    nb: str  # path
    runtime: str  # folder that holds the paddlelite package; "" = what the interpreter has
    golden: Tuple[str, ...]  # paths of .npz files
    nb_sha256: str = ""  # of its bytes; "" = unknown
    accelerated: bool = False  # it has kernels of an accelerator, whose drivers the sandbox then allows
    tolerance: Optional[Dict[str, object]] = None  # some of Tolerance's fields; the rest by the model's precision
    outputs: object = None  # how outputs are compared, as `ModelComparison.parse` reads it; None: as tensors
    threads: int = 0
    power_mode: str = ""
    input_sizes: int = 1  # number of input sizes for which the model stays loaded
    memory_limit_bytes: int = 0  # resident: the worker is replaced above it, and killed at a quarter more
    growth_limit_bytes: int = 256 << 20  # since its hundredth run: the worker is replaced above it
    start_limit_s: float = 120.0
    run_limit_s: float = 30.0  # of one request, and of one run
    python: str = sys.executable
    argv: Tuple[str, ...] = ()  # another program with a worker's protocol; its arguments: fd of the socket, our pid
    engine: EngineSettings = NOTHING_ASKED  # of the release; `threads` and `power_mode` above are in force
    cache: str = ""  # folder for what accelerators compile; "" = none
    wanted: str = BINDING  # the kind of engine: of the release's proof, see choose_engine

    @property
    def settings(self) -> EngineSettings:
        """What is asked of the engine: the release's settings, with the threads and the power mode in force."""
        return self.engine._replace(threads=self.threads, power_mode=self.power_mode)


class LoadRequest(NamedTuple):
    """The daemon's first message to a worker; paths are absolute.  The fields are the frame's keys."""

    name: str
    release: str
    nb: str
    nb_sha256: str  # "" = unknown
    runtime: str  # "" = the interpreter's own
    golden: Sequence[str]
    tolerance: Optional[Dict[str, object]]
    outputs: object
    input_sizes: int
    memory_limit: int  # bytes; 0 = no limit
    accelerated: bool
    engine: Dict[str, object]  # WorkerPlan.settings, as EngineSettings.to_dict gives them
    cache: str  # "" = none
    wanted: str  # the kind of engine

    @classmethod
    def of(cls, plan: WorkerPlan) -> "LoadRequest":
        """Return the message that has a worker load `plan`."""
        return cls(
            name=plan.model.name,
            release=plan.model.release,
            nb=os.path.abspath(plan.nb),
            nb_sha256=plan.nb_sha256,
            runtime=os.path.abspath(plan.runtime) if plan.runtime else "",
            golden=[os.path.abspath(path) for path in plan.golden],
            tolerance=plan.tolerance,
            outputs=plan.outputs,
            input_sizes=plan.input_sizes,
            memory_limit=plan.memory_limit_bytes,
            accelerated=plan.accelerated,
            engine=plan.settings.to_dict(),
            cache=plan.cache,
            wanted=plan.wanted,
        )

    def header(self) -> Dict[str, object]:
        """Return the frame's header."""
        return dict(self._asdict(), op="load")

    @classmethod
    def from_header(cls, header: Mapping[str, object]) -> "LoadRequest":
        """Read the frame's header, which this same agent wrote; TypeError when a key is missing or unknown."""
        return cls(**{name: value for name, value in header.items() if name != "op"})  # type: ignore[arg-type]


def served_model(model: NbModel, name: str, release: str) -> ServedModel:
    """Return the model as clients see it."""
    return ServedModel(name, release, tuple(model.inputs), tuple(model.outputs))


def plan_of(store: Store, identity: str, settings: Settings) -> WorkerPlan:
    """Return the plan for running the release `identity` on this device.

    Raises StoreError: "missing" when the release, one of its files or its runtime is missing on this device, "bad-request"
    when the file is not a model, "io-error" when it cannot be read.
    """
    manifest = store.release(identity)
    name, verify = manifest.model, manifest.verify
    nb = _existing_file(store.blob(manifest.nb), "the file of %s" % name)
    golden = tuple(_existing_file(store.blob(sha), "a golden of %s" % name) for sha in manifest.goldens)
    model = _read(nb, name)
    proof = proof_of(store, identity)
    measured = proof.measurements if proof is not None else {}
    limits = _limits(measured, settings, len(golden))
    engine = asked_of_engine(manifest)
    return WorkerPlan(
        model=served_model(model, name, identity),
        nb=nb,
        runtime=_runtime(store, manifest.runtime),
        golden=golden,
        nb_sha256=manifest.nb,
        accelerated=bool(accelerators(model)),
        tolerance=_tolerance(verify.get("tolerance"), name),
        outputs=manifest.outputs,
        threads=settings.threads or engine.threads or _threads(verify.get("threads")),
        power_mode=settings.power_mode or engine.power_mode,
        input_sizes=settings.input_sizes,
        memory_limit_bytes=settings.memory_limit_bytes or _default_limit(model, settings),
        growth_limit_bytes=settings.growth_limit_bytes,
        start_limit_s=limits.start_s,
        run_limit_s=limits.run_s,
        engine=engine,
        cache=prepare_cache(store, identity) if engine.cached else "",
        wanted=recorded_engine(measured),
    )


def proof_of(store: Store, identity: str) -> Optional[VerificationRecord]:
    """Return the record of the release's proof on this device, None where there is none that can be read."""
    try:
        return store.verified(identity)
    except StoreError:  # what it says is worth no release that is not served
        return None


class _Limits(NamedTuple):
    start_s: float
    run_s: float


def _limits(measured: Mapping[str, object], settings: Settings, cases: int) -> _Limits:
    """Return how long a worker may load the release, and how long one run may take.

    What took long in the release's proof on this device may take `_ALLOWED` times as long here, where other models run beside
    it: a release that was verified on a slow board is not stopped by a limit for fast ones.  Settings that are not the defaults
    are used as they are.
    """
    latency = measured.get("latency_ms")
    run_s = number_or(0, latency.get("p99") if isinstance(latency, dict) else 0, 0, _MOST_LIMIT_S * 1e3) / 1e3
    load_s = number_or(0, measured.get("load_ms"), 0, _MOST_LIMIT_S * 1e3) / 1e3
    # A worker runs the first case once more, then each case; where the model takes batches, one of two cases and one after it.
    proof_s = load_s + (1 + cases + 3) * run_s
    return _Limits(
        _longer("start_limit_s", settings.start_limit_s, proof_s), _longer("time_limit_s", settings.time_limit_s, run_s)
    )


def _longer(name: str, setting: float, measured_s: float) -> float:
    if setting != getattr(Settings, name):
        return setting
    return max(setting, min(_ALLOWED * measured_s, _MOST_LIMIT_S))


def _default_limit(model: NbModel, settings: Settings) -> int:
    """Return the memory limit of a worker where the settings name none, in bytes.

    Requests may be as large as `queue_bytes`, and activations grow with them: in practice this leaves an eighth of the memory
    of the device, or of the service's cgroup, to everything else.
    """
    return default_memory_limit(model.estimated_memory_bytes, settings.queue_bytes, memory(_DEVICE).total)


def _existing_file(path: str, label: str) -> str:
    if not os.path.isfile(path):
        raise StoreError("%s (%s) is missing on this device" % (label, os.path.basename(path)[:12]), "missing")
    return path


def _read(path: str, name: str) -> NbModel:
    try:
        return read_nb_file(path)
    except OSError as error:
        raise StoreError("cannot read the file of %s: %s" % (name, error.strerror or error), "io-error") from error
    except NbError as error:
        raise StoreError("cannot use the file of %s: %s" % (name, error), "bad-request") from error


def _runtime(store: Store, key: str) -> str:
    if key == "system":
        return ""
    folder = store.path("runtimes", key)
    if not os.path.isdir(folder):
        raise StoreError("the runtime %s is missing on this device" % key[:12], "missing")
    return folder


def _tolerance(value: object, model: str) -> Optional[Dict[str, object]]:
    if value is not None and not isinstance(value, dict):
        raise StoreError("the tolerance of %s is not an object" % model, "bad-request")
    return value


def _threads(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 256 else 0
