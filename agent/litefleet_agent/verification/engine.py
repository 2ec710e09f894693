"""What both engines share: one model in this process's Paddle-Lite, the predictors for its input sizes, and the error.

Only ever used in a child process: a wrong call may kill the process.
"""

import os
import sys
import time
from abc import ABC, abstractmethod
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Callable, Hashable, List, Mapping, Optional, Sequence, Set, Tuple

from ..formats.engine_settings import NOT_TAKEN, NOTHING_ASKED, PASSED, TAKEN, EngineSettings, SettingReport
from ..formats.npz import Array
from ..releases.store import Manifest, StoreError

if TYPE_CHECKING or sys.version_info >= (3, 8):
    from typing import Protocol
else:
    Protocol = object

NATIVE, BINDING = "native", "binding"  # the kinds of engines
ENGINE_NAMES = {NATIVE: "the native engine", BINDING: "Paddle-Lite's Python binding"}  # for people


def recorded_engine(measurements: Mapping[str, object]) -> str:
    """Return the kind of engine of a verification, by its measurements.

    Agents that recorded none had the binding alone.
    """
    return NATIVE if measurements.get("engine") == NATIVE else BINDING


def asked_of_engine(manifest: Manifest) -> EngineSettings:
    """Return what a release asks of the engine.  Raises StoreError "bad-request" for what is not well formed."""
    try:
        return EngineSettings.parse(manifest.engine)
    except ValueError as error:
        raise StoreError("the release of %s: %s" % (manifest.model, error), "bad-request") from None


class Declared(Protocol):
    """An input or output as the model's file declares it; nb.Tensor is one."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def dtype(self) -> str:
        """As numpy names it; "" or "unknown" when the file does not say."""

    @property
    def dims(self) -> Tuple[int, ...]:
        """Its dimensions, -1 for a free one; () when the file does not say."""


class PaddleLiteError(Exception):
    """A step that failed without killing the process; `kind` is a short word that maps to a finding."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def resident_bytes() -> int:
    """Return the resident memory of this process in bytes, 0 when it cannot be read."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


class PredictorCache:
    """The predictor in use, and others for other input sizes.

    `load()` makes a predictor.  At most `most` are kept, and fewer where another one would not fit into `limit` bytes of
    memory (0 = no limit), judged by the largest one so far.
    """

    def __init__(
        self, load: Callable[[], Any], most: int = 1, limit: int = 0, resident: Callable[[], int] = resident_bytes
    ) -> None:
        self.loads = 0
        self.current: Any = None
        self._load, self._most, self._limit, self._resident = load, most, limit, resident
        self._sizes: Optional[Hashable] = None  # that the current one ran with; None: it has not run yet
        self._cached: "OrderedDict[Hashable, Any]" = OrderedDict()  # the latest last
        self._rss_before = self._largest = 0  # bytes resident before the latest load; that a predictor took

    def reload(self) -> None:
        """Drop all predictors, then make a new one: two at once would hold the weights twice."""
        self._cached.clear()
        self._make()

    def _make(self) -> None:
        self.current, self._sizes = None, None
        self._rss_before = self._resident()
        self.current = self._load()
        self.loads += 1

    def select(self, sizes: Hashable) -> None:
        """Make a predictor current that never ran with other input sizes than `sizes`."""
        if self.current is not None and self._sizes in (None, sizes):
            self._sizes = sizes
            return
        if self.current is not None:
            self._largest = max(self._largest, self._resident() - self._rss_before)
            self._cached[self._sizes] = self.current
        self.current = self._cached.pop(sizes, None)
        if self.current is None:
            self._evict()
            self._make()
        self._sizes = sizes

    def _evict(self) -> None:
        while len(self._cached) >= self._most:
            self._cached.popitem(last=False)
        if self._cached and self._over_memory():
            self._cached.popitem(last=False)  # the system may not get the memory back, but the next predictor uses it

    def _over_memory(self) -> bool:
        return bool(self._limit) and self._resident() + self._largest > self._limit


class Engine(ABC):
    """One model in this process's Paddle-Lite.  Every method may raise PaddleLiteError; a crash takes the process with it.

    The order of the calls: import_runtime, load, then for each request select_predictor, set_inputs, run, outputs.
    `settings` is what is asked of it, `setting_reports` what came of that.  `sizes` is the number of input sizes for which the
    model stays loaded, within `memory_limit` bytes (0 = no limit).  `cache` is a folder for what accelerators compile, "" = none.
    """

    kind: str  # BINDING or NATIVE
    not_native = ""  # why this is the binding, where the native engine was wanted
    numpy: Any = None  # the module where the engine uses it
    numpy_version = ""  # of it

    def __init__(
        self,
        runtime: str,
        nb: str,
        input_names: Sequence[str],
        output_names: Sequence[str],
        settings: EngineSettings = NOTHING_ASKED,
        sizes: int = 1,
        memory_limit: int = 0,
        cache: str = "",
    ) -> None:
        self.runtime, self.nb = runtime, nb
        self.input_names, self.output_names = list(input_names), list(output_names)
        self.settings, self.cache_folder = settings, cache
        # What set the number of threads; without a setter OpenMP's variable counts, which the parent has set.
        self.threads_set_by = "environment" if settings.threads else ""
        self.threads_taken = 0  # as the library gives them back; 0: it does not, or took none
        self.power_mode_set = ""  # the power mode that was taken
        self.accelerator_reports: List[SettingReport] = []
        self._cache = PredictorCache(self._create, sizes, memory_limit)
        self._order: List[str] = []  # of the inputs
        self._with_lod: Set[str] = set()  # inputs whose sequences were set

    @abstractmethod
    def import_runtime(self) -> None:
        """Load Paddle-Lite into this process.  Raises PaddleLiteError "import"."""

    @abstractmethod
    def _create(self) -> Any:
        """Load the model and return a predictor; set `_order`."""

    def load(self) -> float:
        """Load the model and return the milliseconds that took.

        Raises PaddleLiteError: "inputs" when its inputs are others, "native" when the C++ library fails a check.
        """
        begun = time.perf_counter()
        self._cache.reload()
        return (time.perf_counter() - begun) * 1e3

    def setting_reports(self) -> List[SettingReport]:
        """Return what came of each setting that was asked for; empty where none was.  Call it after `load`."""
        found = []
        if self.settings.threads:
            found.append(self._threads_report(str(self.settings.threads)))
        if self.settings.power_mode:
            found.append(self._power_mode_report(self.settings.power_mode))
        return found + self.accelerator_reports

    def _threads_report(self, asked: str) -> SettingReport:
        if self.threads_taken and str(self.threads_taken) != asked:
            why = "Paddle-Lite takes no more than it finds cores of the kind that the power mode names"
            return SettingReport("threads", asked, NOT_TAKEN, str(self.threads_taken), why)
        if self.threads_taken:
            return SettingReport("threads", asked, TAKEN, asked)
        if self.threads_set_by not in ("", "environment"):
            return SettingReport("threads", asked, PASSED, "", "it does not say how many it uses")
        if asked == "1":
            return SettingReport(
                "threads", asked, PASSED, "", "by OpenMP's variables: it has no function that takes them"
            )
        why = "this build has no function that takes them; OpenMP's variables ask for them, which builds for x86 ignore"
        return SettingReport("threads", asked, NOT_TAKEN, "", why)

    def _power_mode_report(self, asked: str) -> SettingReport:
        if self.power_mode_set == asked:
            return SettingReport("power mode", asked, TAKEN, asked)
        if self.power_mode_set:
            why = "Paddle-Lite chose it: the mode that was asked for does not fit the cores"
            return SettingReport("power mode", asked, NOT_TAKEN, self.power_mode_set, why)
        why = "this build does not take it: builds for x86 CPUs have no power modes"
        return SettingReport("power mode", asked, NOT_TAKEN, "", why)

    @property
    def _predictor(self) -> Any:
        return self._cache.current

    @property
    def loads(self) -> int:
        """Number of times that the model was loaded."""
        return self._cache.loads

    @property
    @abstractmethod
    def runtime_version(self) -> str:
        """The version that the loaded Paddle-Lite reports, "" when it reports none."""

    @property
    @abstractmethod
    def loaded_output_names(self) -> List[str]:
        """The outputs' names as the runtime reports them; empty when it does not."""

    @abstractmethod
    def set_inputs(self, values: Mapping[str, Array], check: bool = False) -> None:
        """Set every input; `check` reads each one back.

        Raises PaddleLiteError: "inputs" for an input that does not fit, "numpy-2" or "round-trip" when one reads back changed.
        """

    def select_predictor(self, values: Mapping[str, Array]) -> None:
        """Use a predictor that never ran with inputs that differ from these in more than their first dimension.

        Paddle-Lite 2.13rc0 (x86) keeps memory laid out for the earlier sizes: for the second of two image sizes it gave wrong
        outputs without an error, or corrupted its heap.  Another batch size gave right outputs in every test.
        """
        sizes = [(name, value.dtype, len(value.shape), value.shape[1:]) for name, value in sorted(values.items())]
        self._cache.select(tuple(sizes))

    def run(self) -> None:
        """Run the model on the inputs that were set last."""
        self._predictor.run()

    @abstractmethod
    def outputs(self) -> List[Array]:
        """Return copies of the outputs, in the order of the model's fetches: the next run overwrites the originals."""

    @abstractmethod
    def output_lods(self) -> List[List[List[int]]]:
        """Return the sequences (LoD) of each output, [] for one without, and where the runtime does not say."""
