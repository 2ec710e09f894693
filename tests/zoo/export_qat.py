"""Trains a small classifier with quantisation in the loop and saves it in both forms: argv names a folder.

PaddlePaddle's own `ImperativeQuantAware` is what PaddleSlim's QAT calls; it runs in PaddlePaddle's environment.
"""

import sys

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn
from paddle.quantization import ImperativeQuantAware
from paddle.static import InputSpec


class Classifier(nn.Layer):
    """Two convolutions and a fully connected layer: the layers that quantisation replaces."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2D(3, 8, 3, 2, 1), nn.Conv2D(8, 16, 3, 2, 1)
        self.line, self.relu = nn.Linear(16, 4), nn.ReLU()

    def forward(self, x):
        features = self.relu(self.second(self.relu(self.first(x))))
        return F.softmax(self.line(features.mean([2, 3])))


def drawn(random):
    """Return 16 pictures whose brightest channel is their class, and the classes; class 3 is grey."""
    classes = random.randint(0, 4, 16)
    pictures = 0.3 * random.rand(16, 3, 32, 32)
    for picture, kind in zip(pictures, classes):  # noqa: B905 - PaddlePaddle's Python
        picture[kind if kind < 3 else slice(None)] += 0.6
    return paddle.to_tensor(pictures.astype("f4")), paddle.to_tensor(classes)


for name, onnx_format in (("qat", False), ("qat_onnx_format", True)):
    paddle.seed(3)
    random, model = np.random.RandomState(0), Classifier()
    quantiser = ImperativeQuantAware(
        weight_quantize_type="channel_wise_abs_max",
        activation_quantize_type="moving_average_abs_max",
        onnx_format=onnx_format,
    )
    quantiser.quantize(model)
    optimizer = paddle.optimizer.Adam(1e-2, parameters=model.parameters())
    for _ in range(60):
        pictures, classes = drawn(random)
        loss = F.cross_entropy(model(pictures), classes)
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
    model.eval()
    spec = InputSpec([1, 3, 32, 32], "float32", "x")
    quantiser.save_quantized_model(model, f"{sys.argv[1]}/{name}/inference", input_spec=[spec])
