"""Saves the zoo: small models of the kinds that people have, seeded, each in a folder of its name.  argv: the folder.

It runs in PaddlePaddle 2.6's own environment.  Weights are random; what each model should end as is in `test_zoo.py`.
"""

import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn
from paddle.static import InputSpec as Spec

MODELS: dict[str, Callable[[str], None]] = {}
FREE = -1


def model(save):
    MODELS[save.__name__] = save
    return save


def export(layer, folder, *specs, name="inference"):
    layer.eval()
    paddle.jit.save(layer, f"{folder}/{name}", input_spec=list(specs))


class Layer(nn.Layer):
    """A layer made of sublayers and one function of (layer, inputs)."""

    def __init__(self, function, layers):
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)
        self.function = paddle.jit.not_to_static(function)


# PaddlePaddle reads the parameters of `forward` itself: one class per number of inputs.
class OneInput(Layer):
    def forward(self, a):
        return self.function(self, a)


class TwoInputs(Layer):
    def forward(self, a, b):
        return self.function(self, a, b)


class ThreeInputs(Layer):
    def forward(self, a, b, c):
        return self.function(self, a, b, c)


class FourInputs(Layer):
    def forward(self, a, b, c, d):
        return self.function(self, a, b, c, d)


def Fn(function, **layers):
    count = function.__code__.co_argcount - 1
    return (OneInput, TwoInputs, ThreeInputs, FourInputs)[count - 1](function, layers)


def picture(height=FREE, width=FREE, batch=1, name="x", channels=3):
    return Spec([batch, channels, height, width], "float32", name)


@model
def classifier(folder):
    body = nn.Sequential(nn.Conv2D(3, 8, 3, 2, 1), nn.BatchNorm2D(8), nn.Hardswish(), nn.AdaptiveAvgPool2D(1))
    export(
        Fn(lambda m, x: F.softmax(m.head(m.body(x).squeeze([2, 3]))), body=body, head=nn.Linear(8, 10)),
        folder,
        picture(32, 32),
    )


@model
def classifier_flatten(folder):
    export(
        nn.Sequential(nn.Conv2D(3, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2D(1), nn.Flatten(), nn.Linear(8, 10)),
        folder,
        picture(32, 32),
    )


@model
def classifier_relu6(folder):
    export(nn.Sequential(nn.Conv2D(3, 8, 3, 2, 1), nn.ReLU6(), nn.Conv2D(8, 4, 3)), folder, picture(32, 32))


@model
def instance_norm(folder):
    export(nn.Sequential(nn.Conv2D(3, 8, 3, 1, 1), nn.InstanceNorm2D(8), nn.Tanh()), folder, picture(16, 16))


@model
def segmentation_labels(folder):
    def run(m, x):
        h = F.relu(m.up(F.relu(m.down(x))))
        return paddle.argmax(m.out(paddle.concat([x, h], 1)), 1).astype("int32")

    export(
        Fn(run, down=nn.Conv2D(3, 8, 3, 2, 1), up=nn.Conv2DTranspose(8, 8, 2, 2), out=nn.Conv2D(11, 3, 1)),
        folder,
        picture(64, 64),
    )


@model
def superresolution(folder):
    def run(m, x):
        return F.pixel_shuffle(m.b(F.relu(m.a(x))), 2).clip(0, 1)

    export(Fn(run, a=nn.Conv2D(3, 8, 3, 1, 1), b=nn.Conv2D(8, 12, 3, 1, 1)), folder, picture(batch=FREE))


@model
def fully_convolutional(folder):
    def run(m, x):
        return F.interpolate(F.sigmoid(m.b(F.relu(m.a(x)))), size=paddle.shape(x)[2:], mode="bilinear")

    export(Fn(run, a=nn.Conv2D(3, 8, 3, 2, 1), b=nn.Conv2D(8, 1, 3, 1, 1)), folder, picture(batch=FREE))


def suppression(boxes, scores, threshold):
    from paddle.base.layer_helper import LayerHelper

    helper = LayerHelper("multiclass_nms3")
    out, index, number = (helper.create_variable_for_type_inference(t) for t in ("float32", "int32", "int32"))
    attrs = {"background_label": -1, "score_threshold": threshold, "nms_top_k": 50, "nms_threshold": 0.45}
    helper.append_op(
        type="multiclass_nms3",
        inputs={"BBoxes": boxes, "Scores": scores},
        attrs={**attrs, "keep_top_k": 20, "nms_eta": 1.0, "normalized": False},
        outputs={"Out": out, "Index": index, "NmsRoisNum": number},
    )
    out.stop_gradient = number.stop_gradient = True
    return out, number


def detect(threshold):
    def run(m, im_shape, image, scale_factor):
        size = paddle.cast(paddle.round(im_shape / scale_factor), "int32")
        anchors = [10, 13, 16, 30, 33, 23]
        boxes, scores = paddle.vision.ops.yolo_box(m.head(m.body(image)), size, anchors, 4, 0.01, 32)
        return suppression(boxes, paddle.transpose(scores, [0, 2, 1]), threshold)

    layers = [nn.Conv2D(3 if i == 0 else 8, 8, 3, 2, 1) for i in range(5)]
    return Fn(
        run, body=nn.Sequential(*[part for conv in layers for part in (conv, nn.ReLU())]), head=nn.Conv2D(8, 27, 1)
    )


def beside(*names):
    return [Spec([1, 2], "float32", name) for name in names]


@model
def detector(folder):
    im_shape, scale = beside("im_shape", "scale_factor")
    export(detect(0.01), folder, im_shape, picture(96, 96, name="image"), scale, name="model")


@model
def detector_of_nothing(folder):
    im_shape, scale = beside("im_shape", "scale_factor")
    export(detect(0.999), folder, im_shape, picture(96, 96, name="image"), scale, name="model")


@model
def detector_matrix_nms(folder):
    from paddle.base.layer_helper import LayerHelper

    def run(m, image, scale_factor):
        helper = LayerHelper("matrix_nms")
        out, index, number = (helper.create_variable_for_type_inference(t) for t in ("float32", "int32", "int32"))
        rows = paddle.transpose(m.b(F.relu(m.a(image))).reshape([1, 9, -1]), [0, 2, 1])
        middle, size = F.sigmoid(rows[:, :, :2]) * 64, 16 + F.sigmoid(rows[:, :, 2:4]) * 32
        scale = paddle.concat([scale_factor, scale_factor], -1).unsqueeze(1)
        boxes = paddle.concat([middle - size / 2, middle + size / 2], -1) / scale
        scores = F.sigmoid(paddle.transpose(rows[:, :, 4:], [0, 2, 1]))
        attrs = {"background_label": -1, "score_threshold": 0.05, "post_threshold": 0.05, "nms_top_k": 50}
        helper.append_op(
            type="matrix_nms",
            inputs={"BBoxes": boxes, "Scores": scores},
            attrs={**attrs, "keep_top_k": 20, "use_gaussian": False, "gaussian_sigma": 2.0, "normalized": False},
            outputs={"Out": out, "Index": index, "RoisNum": number},
        )
        out.stop_gradient = number.stop_gradient = True
        return out, number

    layers = {"a": nn.Conv2D(3, 16, 3, 4, 1), "b": nn.Conv2D(16, 9, 3, 2, 1)}
    export(Fn(run, **layers), folder, picture(64, 64, name="image"), *beside("scale_factor"))


@model
def several_outputs(folder):
    def run(m, x):
        f = F.relu(m.conv(x))
        pooled = f.mean([2, 3])
        logits = m.a(pooled)
        return {"logits": logits, "prob": F.softmax(m.b(pooled)), "cls": paddle.argmax(logits, -1), "feat": f}

    export(Fn(run, conv=nn.Conv2D(3, 8, 3, 2, 1), a=nn.Linear(8, 10), b=nn.Linear(8, 2)), folder, picture(32, 32))


@model
def top_five(folder):
    def run(m, x):
        return paddle.topk(F.softmax(m.head(F.relu(m.conv(x)).mean([2, 3]))), 5)

    export(Fn(run, conv=nn.Conv2D(3, 16, 3, 2, 1), head=nn.Linear(16, 100)), folder, picture(32, 32))


@model
def transformer(folder):
    def run(m, input_ids, token_type_ids):
        mask = paddle.unsqueeze((input_ids == 0).astype("float32") * -1e4, [1, 2])
        place = paddle.cumsum(paddle.ones_like(input_ids), axis=-1) - 1
        hidden = m.norm(m.words(input_ids) + m.places(place) + m.types(token_type_ids))
        return m.head(F.tanh(m.pool(m.encoder(hidden, mask)[:, 0])))

    layers = {"words": nn.Embedding(3000, 32), "places": nn.Embedding(64, 32), "types": nn.Embedding(2, 32)}
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 64, activation="gelu"), 2)
    parts = {"norm": nn.LayerNorm(32), "encoder": encoder, "pool": nn.Linear(32, 32), "head": nn.Linear(32, 2)}
    ids = [Spec([FREE, FREE], "int64", name) for name in ("input_ids", "token_type_ids")]
    export(Fn(run, **layers, **parts), folder, *ids)


def text(dtype):
    def run(m, ids):
        return F.softmax(m.head(F.relu(m.conv(m.words(ids).transpose([0, 2, 1]))).max(-1)))

    layer = Fn(run, words=nn.Embedding(500, 16), conv=nn.Conv1D(16, 8, 3, padding=1), head=nn.Linear(8, 4))
    return layer, Spec([1, 32], dtype, "ids")


@model
def text_int64(folder):
    layer, spec = text("int64")
    export(layer, folder, spec)


@model
def text_int32(folder):
    layer, spec = text("int32")
    export(layer, folder, spec)


@model
def recommender(folder):
    def run(m, c0, c1, c2, dense):
        rows = [table(ids).squeeze(1) for table, ids in zip(m.tables, (c0, c1, c2))]  # noqa: B905
        return F.sigmoid(m.b(F.relu(m.a(paddle.concat([*rows, dense], 1)))))

    tables = nn.LayerList([nn.Embedding(3 + 50 * i, 8) for i in range(3)])
    ids = [Spec([FREE, 1], "int64", f"c{i}") for i in range(3)]
    export(
        Fn(run, tables=tables, a=nn.Linear(24 + 13, 16), b=nn.Linear(16, 1)),
        folder,
        *ids,
        Spec([FREE, 13], "float32", "dense"),
    )


@model
def bool_input(folder):
    def run(m, x, mask):
        return m.head(paddle.where(mask, x, paddle.zeros_like(x)))

    export(Fn(run, head=nn.Linear(16, 8)), folder, Spec([4, 16], "float32", "x"), Spec([4, 16], "bool", "mask"))


@model
def bool_output(folder):
    export(Fn(lambda m, x: m.head(x) > 0, head=nn.Linear(16, 8)), folder, Spec([4, 16], "float32", "x"))


@model
def uint8_input(folder):
    def run(m, x):
        scaled = (x.astype("float32") / 255.0 - 0.5) / 0.5
        return F.softmax(m.head(F.relu(m.conv(scaled.transpose([0, 3, 1, 2]))).mean([2, 3])))

    export(Fn(run, conv=nn.Conv2D(3, 8, 3, 2, 1), head=nn.Linear(8, 10)), folder, Spec([1, 32, 32, 3], "uint8", "x"))


@model
def float64_input(folder):
    export(Fn(lambda m, x: m.head(x.astype("float32")), head=nn.Linear(4, 4)), folder, Spec([1, 4], "float64", "x"))


@model
def float64_inside(folder):
    export(
        Fn(lambda m, x: m.head((x.astype("float64") * 2).astype("float32")), head=nn.Linear(4, 4)),
        folder,
        Spec([1, 4], "float32", "x"),
    )


def recurrent(kind):
    def run(m, x):
        return F.softmax(m.head(m.body(x)[0]))

    return Fn(run, body=getattr(nn, kind)(16, 8, direction="bidirect"), head=nn.Linear(16, 5)), Spec(
        [1, 6, 16], "float32", "x"
    )


@model
def lstm(folder):
    layer, spec = recurrent("LSTM")
    export(layer, folder, spec)


@model
def lstm_with_state(folder):
    def run(m, x, h, c):
        rows, (last, cell) = m.layer(x, (h, c))
        return m.head(rows), last, cell

    state = [Spec([1, 1, 16], "float32", name) for name in ("h", "c")]
    layer = Fn(run, layer=nn.LSTM(8, 16), head=nn.Linear(16, 4))
    export(layer, folder, Spec([1, 5, 8], "float32", "x"), *state)


@model
def gru(folder):
    layer, spec = recurrent("GRU")
    export(layer, folder, spec)


class Choice(nn.Layer):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)

    @paddle.jit.to_static
    def forward(self, x):
        if x.mean() > 0.5:  # noqa: SIM108  (to_static makes a cond of it)
            y = self.a(x)
        else:
            y = self.b(x) * 2
        return y


@model
def condition(folder):
    export(Choice(), folder, Spec([1, 8], "float32", "x"))


@model
def scalar_output(folder):
    export(Fn(lambda m, x: m.a(x).sum(), a=nn.Linear(8, 8)), folder, Spec([1, 8], "float32", "x"))


@model
def scalar_inside(folder):
    export(Fn(lambda m, x: m.a(x) * m.a(x).mean(), a=nn.Linear(8, 8)), folder, Spec([1, 8], "float32", "x"))


@model
def scalar_parameter(folder):
    layer = Fn(lambda m, x: m.a(x) * m.scale, a=nn.Linear(8, 8))
    layer.scale = layer.create_parameter([], default_initializer=nn.initializer.Constant(2.0))
    export(layer, folder, Spec([1, 8], "float32", "x"))


@model
def scalar_input(folder):
    export(
        Fn(lambda m, x, t: m.a(x) * t, a=nn.Linear(8, 8)),
        folder,
        Spec([1, 8], "float32", "x"),
        Spec([], "float32", "t"),
    )


@model
def nonzero(folder):
    export(Fn(lambda m, x: paddle.nonzero(m.a(x) > 0), a=nn.Linear(8, 8)), folder, Spec([1, 8], "float32", "x"))


@model
def passes_input_on(folder):
    export(Fn(lambda m, x: (x, m.a(x)), a=nn.Linear(8, 8)), folder, Spec([1, 8], "float32", "x"))


@model
def unicode_names(folder):
    def run(m, image, meta):
        return F.relu(m.a(image)) + m.b(meta).unsqueeze(-1).unsqueeze(-1)

    layer = Fn(run, a=nn.Conv2D(3, 8, 3), b=nn.Linear(5, 8))
    export(layer, folder, picture(16, 16, name="图像"), Spec([1, 5], "float32", "元数据/a b"), name="车牌识别")


@model
def video(folder):
    export(
        Fn(lambda m, x: m.head(F.relu(m.conv(x)).mean([2, 3, 4])), conv=nn.Conv3D(3, 4, 3, 2, 1), head=nn.Linear(4, 5)),
        folder,
        Spec([1, 3, 4, 16, 16], "float32", "clip"),
    )


@model
def deformable(folder):
    from paddle.vision.ops import DeformConv2D

    def run(m, x):
        return m.d(x, m.o(x), F.sigmoid(m.m(x)))

    layers = {"o": nn.Conv2D(3, 18, 3, padding=1), "m": nn.Conv2D(3, 9, 3, padding=1)}
    export(Fn(run, d=DeformConv2D(3, 8, 3, padding=1), **layers), folder, picture(16, 16))


@model
def small_regression(folder):
    export(
        Fn(lambda m, x: F.sigmoid(m.b(F.relu(m.a(x))) - 9.0), a=nn.Linear(8, 16), b=nn.Linear(16, 1)),
        folder,
        Spec([1, 8], "float32", "x"),
    )


@model
def audio_conv1d(folder):
    body = nn.Sequential(nn.Conv1D(1, 8, 3, padding=1), nn.BatchNorm1D(8), nn.ReLU(), nn.Conv1D(8, 8, 1))
    export(
        Fn(lambda m, x: m.head(m.body(x).mean(-1)), body=body, head=nn.Linear(8, 5)),
        folder,
        Spec([1, 1, 64], "float32", "x"),
    )


def static(folder, build, program_name, params_name=None):
    """Build a static program, and save it as PaddlePaddle 1.x did: with a file per parameter, or with combined ones."""
    paddle.enable_static()
    try:
        main, startup = paddle.static.Program(), paddle.static.Program()
        main.random_seed = startup.random_seed = 7
        with paddle.static.program_guard(main, startup):
            inputs, outputs = build()
            executor = paddle.static.Executor(paddle.CPUPlace())
            executor.run(startup)
            kept = paddle.static.normalize_program(main, inputs, outputs)
            (Path(folder) / program_name).write_bytes(kept.desc.serialize_to_string())
            saved = [v for v in kept.list_vars() if v.persistable and v.name not in ("feed", "fetch")]
            paddle.static.io.save_vars(executor, folder, kept, vars=saved, filename=params_name)
    finally:
        paddle.disable_static()


def small_static():
    x = paddle.static.data("x", [1, 3, 16, 16], "float32")
    h = F.relu(paddle.static.nn.conv2d(x, 8, 3))
    return [x], [paddle.static.nn.fc(h, 4)]


@model
def file_per_parameter(folder):
    static(folder, small_static, "__model__")


@model
def combined_under_any_name(folder):
    static(folder, small_static, "net.program", "weights.bin")


def sequence():
    words = paddle.static.data("words", [FREE, 1], "int64", lod_level=1)
    table = paddle.static.create_parameter([120, 16], "float32", name="table")
    from paddle.base.layer_helper import LayerHelper

    helper = LayerHelper("sequence")

    def op(kind, inputs, attrs, out="Out", dtype="float32"):
        made = helper.create_variable_for_type_inference(dtype)
        helper.append_op(type=kind, inputs=inputs, attrs=attrs, outputs={out: made})
        return made

    rows = op("lookup_table", {"W": table, "Ids": words}, {"padding_idx": -1, "is_sparse": False})
    rows.desc.set_lod_level(1)
    pooled = op("sequence_softmax", {"X": paddle.static.nn.fc(rows, 1)}, {})
    return [words], [pooled]


@model
def sequence_lod(folder):
    static(folder, sequence, "__model__")


@model
def no_parameters(folder):
    export(Fn(lambda m, x: F.relu(x * 2 - 1)), folder, Spec([1, 8], "float32", "x"))


@model
def absolute_difference(folder):
    export(Fn(lambda m, x: paddle.abs(m.a(x) - x), a=nn.Linear(8, 8)), folder, Spec([1, 8], "float32", "x"))


@model
def mean_without_dimensions(folder):
    export(Fn(lambda m, x: m.a(x).mean(), a=nn.Linear(8, 8)), folder, Spec([1, 8], "float32", "x"))


@model
def remainder(folder):
    export(Fn(lambda m, x: paddle.mod(m.a(x), x + 1), a=nn.Linear(8, 8)), folder, Spec([1, 8], "float32", "x"))


class Pictures(paddle.io.Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        return (np.random.RandomState(index).rand(3, 16, 16).astype("float32"),)


def quantise(folder, onnx_format):
    """Save a convolutional model after post-training quantisation: int8 weights, calibrated on drawn pictures."""
    from paddle.static.quantization import PostTrainingQuantization

    paddle.enable_static()
    try:
        scope = paddle.static.Scope()
        with paddle.static.scope_guard(scope):
            main, startup = paddle.static.Program(), paddle.static.Program()
            main.random_seed = startup.random_seed = 7
            with paddle.static.program_guard(main, startup):
                x = paddle.static.data("x", [-1, 3, 16, 16], "float32")
                h = F.relu(paddle.static.nn.conv2d(x, 8, 3))
                out = F.softmax(paddle.static.nn.fc(F.relu(paddle.static.nn.conv2d(h, 8, 3)), 4))
                executor = paddle.static.Executor(paddle.CPUPlace())
                executor.run(startup)
                paddle.static.save_inference_model(f"{folder}/float", [x], [out], executor, program=main)
            pictures = paddle.io.DataLoader(
                Pictures(), feed_list=[x], places=paddle.CPUPlace(), batch_size=4, return_list=False
            )
            quantiser = PostTrainingQuantization(
                executor=executor, model_dir=folder, model_filename="float.pdmodel", params_filename="float.pdiparams",
                data_loader=pictures, batch_size=4, batch_nums=2, algo="abs_max",
                quantizable_op_type=["conv2d", "mul"], onnx_format=onnx_format, scope=scope,
            )  # fmt: skip
            quantiser.quantize()
            quantiser.save_quantized_model(
                folder, model_filename="inference.pdmodel", params_filename="inference.pdiparams"
            )
    finally:
        paddle.disable_static()
    for path in Path(folder).glob("float.*"):
        path.unlink()


@model
def quantised_onnx_format(folder):
    quantise(folder, True)


@model
def quantised(folder):
    quantise(folder, False)


if __name__ == "__main__":
    root = Path(sys.argv[1])
    for name in sys.argv[2:] or MODELS:
        paddle.seed(3)
        np.random.seed(3)
        (root / name).mkdir(parents=True, exist_ok=True)
        try:
            with paddle.utils.unique_name.guard():
                MODELS[name](str(root / name))
        except Exception:
            print(f"{name} cannot be saved:", file=sys.stderr)
            traceback.print_exc()
            sys.exit(1)
