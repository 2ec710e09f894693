"""Saves two small models with PaddlePaddle 2.x into the folder that the command line names.

One comes from eager code (two inputs, int64 buffers, a 0-D parameter, an LSTM, a loop: a second block), one from a
static program.  It runs in PaddlePaddle's own environment.
"""

import sys

import paddle
from paddle import nn
from paddle.static import InputSpec


class Net(nn.Layer):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.lstm = nn.LSTM(8, 6, direction="bidirect")
        self.linear = nn.Linear(12, 3)
        self.norm = nn.BatchNorm1D(3)
        self.scale = self.create_parameter([1])
        self.scalar = self.create_parameter([], default_initializer=nn.initializer.Constant(2.0))
        self.register_buffer("steps", paddle.to_tensor([1, 2, 3], dtype="int64"))

    def forward(self, ids, extra):
        hidden, _ = self.lstm(self.embed(ids))
        out = self.norm(self.linear(hidden).mean(axis=1))
        i = paddle.zeros([1], "int64")
        while i < 3:
            out = out + self.linear(paddle.ones([1, 12]))
            i += 1
        return out * self.scale * self.scalar + extra, self.steps + ids.shape[0]


def save_eager(folder):
    net = Net()
    net.eval()
    spec = [InputSpec([None, None], "int64", "ids"), InputSpec([None, 3], "float32", "extra")]
    paddle.jit.save(net, folder + "/eager", input_spec=spec)


def save_static(folder):
    paddle.enable_static()
    main, startup = paddle.static.Program(), paddle.static.Program()
    with paddle.static.program_guard(main, startup):
        image = paddle.static.data("img", [None, 3, 8, 8], "float32")
        features = paddle.static.nn.batch_norm(paddle.static.nn.conv2d(image, 4, 3), is_test=True)
        out = paddle.static.nn.fc(features, 2)
        executor = paddle.static.Executor(paddle.CPUPlace())
        executor.run(startup)
        paddle.static.save_inference_model(folder + "/static", [image], [out, features], executor, program=main)


save_eager(sys.argv[1])
save_static(sys.argv[1])
