"""What verify, infer, bench and the service need of an engine: the binding's PaddleLite and NativePaddleLite both have it."""

import sys
from typing import TYPE_CHECKING, Any, List, Mapping, Tuple

from ...formats.npz import Array

if TYPE_CHECKING or sys.version_info >= (3, 8):
    from typing import Protocol
else:
    Protocol = object

__all__ = ["Declared", "PaddleLiteInterface"]


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


class PaddleLiteInterface(Protocol):
    """One model in this process's Paddle-Lite.  Every method may raise PaddleLiteError; a crash takes the process with it.

    The order of the calls: import_runtime, load, then for each request select_predictor, set_inputs, run, outputs.
    """

    kind: str  # "binding" or "native"
    numpy: Any  # the module where the engine uses it, else None
    threads_set_by: str  # what took the number of threads; "" when none was asked for
    power_mode_set: str  # the power mode that was taken, "" when none was

    def import_runtime(self) -> None:
        """Bring Paddle-Lite into this process."""

    def load(self) -> float:
        """Load the model and return the milliseconds it took."""

    @property
    def loads(self) -> int:
        """How many times the model was loaded."""

    @property
    def runtime_version(self) -> str:
        """What the loaded Paddle-Lite calls itself, "" when it does not say."""

    @property
    def numpy_version(self) -> str:
        """The version of numpy that the engine uses, "" when none."""

    @property
    def loaded_output_names(self) -> List[str]:
        """The outputs' names as the runtime gives them; empty when it does not."""

    def set_inputs(self, values: Mapping[str, Array], check: bool = False) -> None:
        """Set every input; `check` reads each back and raises when it differs."""

    def select_predictor(self, values: Mapping[str, Array]) -> None:
        """Turn to a predictor that fits the sizes of these inputs."""

    def run(self) -> None:
        """Run the model on the inputs as they were last set."""

    def outputs(self) -> List[Array]:
        """Return copies of the outputs, in the order of the model's fetches."""
