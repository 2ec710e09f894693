"""Outputs as the tests write them: numpy arrays in the agent's form, and a detector's rows as it really answered."""

from __future__ import annotations

from typing import Any

import numpy as np
from litefleet_agent.formats.npz import Array
from litefleet_agent.verification.comparison import ComparisonSpec, OutputComparison, OutputPair, compare_output

# PicoDet (80 classes, 416 pixels) on a photograph of flowers and temple roofs, PaddlePaddle 2.6.2: class, score, box.
PICODET = np.array(
    [
        [8, 0.61312, 12.431, 289.118, 121.577, 402.913],
        [8, 0.34917, 166.202, 271.557, 240.981, 333.264],
        [0, 0.29244, 301.775, 243.006, 322.118, 297.543],
        [0, 0.29241, 341.094, 240.117, 359.883, 291.672],
        [58, 0.21873, 251.447, 301.883, 398.226, 411.347],
        [0, 0.11326, 322.941, 247.512, 341.330, 295.108],
        [13, 0.08437, 88.617, 341.252, 207.994, 408.336],
        [58, 0.05219, 1.837, 190.428, 63.551, 262.774],
        [25, 0.03124, 199.016, 11.254, 290.447, 72.818],
        [74, 0.02713, 233.507, 95.223, 251.882, 118.994],
    ],
    "f4",
)
PICODET_SPEC = {"compare": "detections", "floor": 0.025, "keep": 100, "overlap": 0.6}


def tensor(value: Any) -> Array:
    array = np.asarray(value)
    return Array(array.dtype.name, array.shape, np.ascontiguousarray(array).tobytes())


def compared(expected: Any, actual: Any, precision: str = "fp32", **spec: Any) -> OutputComparison:
    """Compare two arrays by the JSON form of a specification, given as keywords."""
    pair = OutputPair(tensor(expected), tensor(actual))
    return compare_output(pair, ComparisonSpec.from_dict(spec), precision)
