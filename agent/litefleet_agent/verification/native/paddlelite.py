"""The native engine: a model in this process's Paddle-Lite through its C++ library, without binding, compiler or numpy.

Only ever used in a child process.  A C++ exception finds no handler in Python and ends the process (SIGABRT, with what it
said on stderr), as a failed check or a crash of the library does; nothing of it becomes an answer.
"""

import os
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Mapping, Optional, Sequence

from ...formats.npz import Array
from ..engine import NATIVE, Engine
from .errors import NativeError

if TYPE_CHECKING:  # ctypes may be missing: that is a sentence of import_runtime, not an error at import
    from ..engine import Declared
    from .config import MobileConfig
    from .library import Library
    from .predictor import Predictor


class NativePaddleLite(Engine):
    """An engine whose `runtime` is what library.find_library takes.

    `declared` are the model's inputs as its file declares them (name, dtype, dims with -1 for free ones): what is set is
    checked against them.  `on_stage` receives the next step's name: a library with an unknown layout may end the process there.
    The other arguments are Engine's.
    """

    kind = NATIVE

    def __init__(
        self,
        *arguments: Any,
        declared: "Sequence[Declared]" = (),
        on_stage: Callable[[str], None] = lambda words: None,
        **more: Any,
    ) -> None:
        super().__init__(*arguments, **more)
        self.library_path = ""
        self._declared: "Dict[str, Declared]" = {tensor.name: tensor for tensor in declared}
        self._on_stage = on_stage
        self._library: "Optional[Library]" = None
        self._config: "Optional[MobileConfig]" = None

    def import_runtime(self) -> None:
        """Load the library, and find its functions and the layout of its configuration.

        Raises NativeError: "import" when there is no library or the loader refuses it, "native" when it cannot be driven.
        """
        try:
            from .config import MobileConfig
            from .library import Library, find_library
        except ImportError as err:
            text = "this Python has no ctypes, which drives the C++ library (%s): use another one, or a wheel with its numpy"
            raise NativeError("native", text % err) from err
        self.library_path = find_library(self.runtime)
        self._library = Library(self.library_path)
        self._on_stage("checking how the C++ library lays out its configuration")
        config = MobileConfig(self._library.functions, os.path.abspath(self.nb), self.settings, self.cache_folder)
        if config.threads_set_by:
            self.threads_set_by, self.threads_taken = config.threads_set_by, config.threads_taken
        self.power_mode_set = config.power_mode_taken
        self.accelerator_reports = config.accelerator_reports
        self._config = config

    def _create(self) -> "Predictor":
        from .predictor import Predictor
        from .selfcheck import check_names

        if self._library is None or self._config is None:
            raise NativeError("native", "the library was not brought in")
        self._on_stage("loading the model")
        predictor = Predictor(self._library, self._config)
        check_names("input", predictor.input_names, self.input_names, predictor.version)
        check_names("output", predictor.output_names, self.output_names, predictor.version)
        self._order = predictor.input_names
        return predictor

    @property
    def _predictor(self) -> "Predictor":
        predictor: "Predictor" = self._cache.current
        return predictor

    @property
    def runtime_version(self) -> str:
        """What the loaded Paddle-Lite calls itself, "" when it does not say."""
        return self._predictor.version

    @property
    def layout_known(self) -> bool:
        """Whether this version's layout was read in its headers; for another one only the checks speak."""
        from .selfcheck import is_known

        return is_known(self._predictor.version)

    @property
    def loaded_output_names(self) -> List[str]:
        """The outputs' names as the library gives them."""
        return list(self._predictor.output_names)

    def set_inputs(self, values: Mapping[str, Array], check: bool = False) -> None:
        """Set every input.  `check` reads each back.

        Raises NativeError: "inputs" for a type or shape that the model does not take, "round-trip" when one reads back otherwise.
        """
        for index, name in enumerate(self._order):
            if name not in values:
                raise NativeError("inputs", "the input %s is missing" % name[:80])
            self._fit(name, values[name])
            lod = values[name].lod
            with self._predictor.input(index) as tensor:
                tensor.write(values[name])
                if lod or name in self._with_lod:  # (): those of the request before it do not stay
                    tensor.set_lod(lod)
                    self._with_lod.add(name)
            if check:
                self._round_trip(index, name, values[name])

    def _fit(self, name: str, value: Array) -> None:
        """Check an input against the file's declaration: the library would take it, and answer wrongly or end the process."""
        declared = self._declared.get(name)
        if declared is None:
            return
        if declared.dtype not in ("", "unknown", value.dtype):
            text = "the input %s is %s, the model takes %s"
            raise NativeError("inputs", text % (name[:80], value.dtype, declared.dtype))
        dims = declared.dims
        same = len(dims) == len(value.shape) and all(d in (-1, value.shape[i]) for i, d in enumerate(dims))
        if dims and not same:
            text = "the input %s has shape %s, the model takes %s"
            raise NativeError("inputs", text % (name[:80], list(value.shape), list(dims)))

    def _round_trip(self, index: int, name: str, value: Array) -> None:
        """Read an input back by another object of the library's, before anything is believed."""
        from .selfcheck import check_read_back

        with self._predictor.input(index) as tensor:
            check_read_back(name, value, tensor.read())

    def outputs(self) -> List[Array]:
        """Return copies of the outputs, in the order of the model's fetches.

        Raises NativeError: "no-data" for one that no kernel wrote, "outputs" for one whose type or shape cannot be read.
        """
        found = []
        for index in range(len(self._predictor.output_names)):
            with self._predictor.output(index) as tensor:
                found.append(tensor.read())
        return found

    def output_lods(self) -> List[List[List[int]]]:
        """Return the sequences (LoD) of each output, [] for one without, and where the library does not say."""
        found = []
        for index in range(len(self._predictor.output_names)):
            with self._predictor.output(index) as tensor:
                found.append(tensor.lod())
        return found

    @property
    def can_shrink(self) -> bool:
        """Whether the library can give back the memory that runs took (since 2.9.1)."""
        return self._predictor.can_shrink

    def shrink_memory(self) -> bool:
        """Have the library give back what runs took: the inputs must be set again, and the next run takes longer."""
        return self._predictor.shrink_memory()
