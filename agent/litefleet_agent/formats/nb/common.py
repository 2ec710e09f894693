"""The error of the .nb reader, and what Paddle-Lite's numbers mean: kernel places and tensor types."""

from typing import Dict, Tuple

from ...errors import AgentError


class NbError(AgentError):
    """The bytes cannot be described as a .nb; `finding_code` is the catalogue's LF105, LF106 or LF107."""

    code = "bad-nb"

    def __init__(self, message: str, finding_code: str = "LF105") -> None:
        super().__init__(message)
        self.finding_code = finding_code


TARGETS: Tuple[str, ...] = (
    "unknown", "host", "x86", "cuda", "arm", "opencl", "any", "fpga", "npu", "xpu", "bm", "mlu", "rknpu", "apu",
    "ascend", "imagination", "intel_fpga", "metal", "nnadapter",
)  # fmt: skip
PRECISIONS: Tuple[str, ...] = (
    "unknown", "fp32", "int8", "int32", "any", "fp16", "bool", "int64", "int16", "uint8", "fp64",
)  # fmt: skip
LAYOUTS: Tuple[str, ...] = (
    "unknown", "nchw", "any", "nhwc", "image_default", "image_folder", "image_nw",
    "metal_texture2d_array", "metal_texture2d",
)  # fmt: skip

# Tensors are typed by another enumeration than kernels: number -> (name as numpy has it, bytes of one element).
DTYPES: Dict[int, Tuple[str, int]] = {
    0: ("bool", 1),
    1: ("int16", 2),
    2: ("int32", 4),
    3: ("int64", 8),
    4: ("float16", 2),
    5: ("float32", 4),
    6: ("float64", 8),
    20: ("uint8", 1),
    21: ("int8", 1),
}


def named(names: Tuple[str, ...], number: int) -> str:
    """Return the name behind a number; one that a newer Paddle-Lite added is shown as its number."""
    return names[number] if 0 <= number < len(names) else "number-%d" % number
