"""Save small models in PaddlePaddle 2.6: if/else and LSTM with 0-D constants, a float64 input, a usual one.  argv: a folder."""

import sys

import paddle
from paddle import nn
from paddle.static import InputSpec


class Cond(nn.Layer):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):  # type: ignore[no-untyped-def]
        y = self.layer(x)
        if y.mean() > 0:  # noqa: SIM108  (to_static makes a cond of it)
            y = y + 1
        else:
            y = y - 1
        return y


class Lstm(nn.Layer):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LSTM(4, 4, direction="bidirect")

    def forward(self, x):  # type: ignore[no-untyped-def]
        return self.layer(x)[0]


class Double(nn.Layer):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):  # type: ignore[no-untyped-def]
        return self.layer(paddle.cast(x, "float32"))


def save(folder: str, name: str, layer: nn.Layer, shape: list, dtype: str = "float32") -> None:
    layer.eval()
    paddle.jit.save(layer, f"{folder}/{name}", input_spec=[InputSpec(shape, dtype, "x")])


if __name__ == "__main__":
    save(sys.argv[1], "cond", paddle.jit.to_static(Cond()), [1, 4])
    save(sys.argv[1], "lstm", Lstm(), [None, None, 4])
    save(sys.argv[1], "double", Double(), [1, 4], "float64")
    save(sys.argv[1], "single", nn.Linear(4, 4), [1, 4])
