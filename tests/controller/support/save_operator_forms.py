"""Saves small models with PaddlePaddle 2.x, one for each operator form that converters know or stop at.

It runs in PaddlePaddle's own environment; the command line names the folder.
"""

import sys

import paddle
import paddle.nn.functional as F
from paddle import nn
from paddle.static import InputSpec


class Net(nn.Layer):
    def __init__(self, function, layers):
        super().__init__()
        self.function, self.layers = function, nn.LayerList(layers)
        self.scale = self.create_parameter([1])  # a model without parameters has no parameters file

    def forward(self, x):
        return self.function(x * self.scale, *self.layers)


def save(name, dims, function, *layers):
    net = Net(function, layers)
    net.eval()
    paddle.jit.save(net, sys.argv[1] + "/" + name, input_spec=[InputSpec(dims, "float32", "x")])


def apply(x, *layers):
    for layer in layers:
        x = layer(x)
    return x


IMAGE, LINE = [1, 4, 8, 8], [1, 8, 20]
save("relu", IMAGE, F.relu)
save("relu6", IMAGE, F.relu6)
save("swish", IMAGE, F.swish)
save("softmax", IMAGE, F.softmax)
save("flatten", IMAGE, lambda x: x.flatten(1))
save("reshape", IMAGE, lambda x: x.reshape([1, -1]))
save("transpose", IMAGE, lambda x: x.transpose([0, 2, 3, 1]))
save("squeeze", IMAGE, lambda x: x.squeeze(0))
save("unsqueeze", IMAGE, lambda x: x.unsqueeze(1))
save("dropout", IMAGE, apply, nn.Dropout(0.5))
save("instance_norm", IMAGE, apply, nn.InstanceNorm2D(4))
save("batch_norm", IMAGE, apply, nn.Conv2D(4, 4, 1), nn.BatchNorm2D(4))
save("bmm", [2, 4, 4], lambda x: paddle.bmm(x, x))
save("conv3d", [1, 3, 8, 8, 8], apply, nn.Conv3D(3, 4, 3))
save("conv1d_1", LINE, apply, nn.Conv1D(8, 8, 1))
save("conv1d_1_free", [-1, 8, -1], apply, nn.Conv1D(8, 8, 1))
save("conv1d_3", LINE, apply, nn.Conv1D(8, 8, 3))
save("conv1d_1_stride", LINE, apply, nn.Conv1D(8, 8, 1, stride=2))
save("conv1d_1_groups", LINE, apply, nn.Conv1D(8, 8, 1, groups=2))
