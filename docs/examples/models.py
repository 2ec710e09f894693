"""Makes small models of five kinds, each with labelled data, for docs/models.md: `python models.py FOLDER`.

It runs with PaddlePaddle 2.6; litefleet's own environment for it will do. Everything is seeded: two runs make equal models.
"""

import csv
import sys
from pathlib import Path

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn
from paddle.base.layer_helper import LayerHelper
from paddle.static import InputSpec
from PIL import Image

SHAPES = ("circle", "cross", "square", "stripes")
SIDE = 24


def picture(shape, random):
    """Return a drawn shape on a noisy ground, uint8 [24, 24, 3]."""
    y, x = np.mgrid[:SIDE, :SIDE] - np.array(random.randint(9, 15, 2))[:, None, None]
    inside = {
        "circle": x * x + y * y < 42,
        "cross": ((abs(x) < 2) | (abs(y) < 2)) & (abs(x) < 8) & (abs(y) < 8),
        "square": (abs(x) < 6) & (abs(y) < 6),
        "stripes": (x % 4 < 2) & (abs(x) < 8) & (abs(y) < 8),
    }[shape]
    color = random.randint(60, 200, 3)
    noisy = random.randint(0, 90, (SIDE, SIDE, 3)) + inside[:, :, None] * color
    return np.clip(noisy, 0, 255).astype("uint8")


def as_input(pictures):
    """Return pictures as litefleet's `preprocess: {mean: [0.5], std: [0.5]}` does."""
    values = np.stack(pictures).astype("float32") / 255
    return ((values - 0.5) / 0.5).transpose(0, 3, 1, 2)


def train(net, inputs, wanted, steps, loss=F.cross_entropy):
    """Train a network in full batches."""
    adam = paddle.optimizer.Adam(0.01, parameters=net.parameters())
    tensors = [paddle.to_tensor(value) for value in inputs]
    target = paddle.to_tensor(wanted)
    for _ in range(steps):
        error = loss(net(*tensors), target)
        error.backward()
        adam.step()
        adam.clear_grad()
    net.eval()


def save(net, folder, *specs):
    paddle.jit.save(net, str(folder / "inference"), input_spec=list(specs))


def write_csv(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "label"), *rows])


def rounded(net, levels):
    """Round all weights to this many levels below and above zero, as a quantisation does."""
    for weight in net.parameters():
        values = weight.numpy()
        step = max(abs(values).max(), 1e-9) / levels
        weight.set_value((np.round(values / step) * step).astype("float32"))


class Classifier(nn.Layer):
    """A picture to the scores of four shapes."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2D(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2D(16, 16, 3, 2, 1), nn.ReLU())
        self.shapes = nn.Linear(576, 4)

    def forward(self, x):
        # not nn.Flatten: as PaddlePaddle 2.6 saves it, the converter of Paddle-Lite 2.13rc0 crashes at it for x86
        scores = self.shapes(paddle.reshape(self.body(x), [-1, 576]))
        return scores if self.training else F.softmax(scores)


def classifier(folder):
    """A picture to one of four shapes; also with weights rounded to 8 bits, and so coarsely that it goes wrong."""
    random = np.random.RandomState(1)
    net = Classifier()
    labels = random.randint(0, 4, 400)
    train(net, [as_input([picture(SHAPES[n], random) for n in labels])], labels, 60)
    for shape in SHAPES:
        (folder / "data" / "shapes" / shape).mkdir(parents=True)
        for number in range(20):
            Image.fromarray(picture(shape, random)).save(folder / "data" / "shapes" / shape / f"{number:02}.png")
    spec = InputSpec([1, 3, SIDE, SIDE], "float32", "x")
    for name, levels in (("classifier", 0), ("classifier-8bit", 127), ("classifier-2bit", 2)):
        if levels:
            rounded(net, levels)
        save(net, folder / name, spec)


class Detector(nn.Layer):
    """Finds red (class 0) and green (class 1) squares of 8 x 8 pixels: scores by colour, boxes on a grid, suppression."""

    def __init__(self):
        super().__init__()
        self.colors = nn.Conv2D(3, 2, 1)
        self.colors.weight.set_value(np.array([[1, -0.5, -0.5], [-0.5, 1, -0.5]], "float32")[:, :, None, None])
        self.colors.bias.set_value(np.zeros(2, "float32"))
        y, x = np.mgrid[0:64:8, 0:64:8].reshape(2, 64)
        self.grid = self.create_parameter([1, 64, 4])
        self.grid.set_value(np.stack([x, y, x + 8, y + 8], 1).astype("float32")[None])

    def forward(self, image):
        heat = F.avg_pool2d(F.sigmoid(self.colors(image) * 6 - 3), 8)
        scores = paddle.reshape(heat, [1, 2, 64])
        helper = LayerHelper("multiclass_nms3")
        out, index, count = (helper.create_variable_for_type_inference(t) for t in ("float32", "int32", "int32"))
        attributes = {
            "background_label": -1, "score_threshold": 0.3, "nms_top_k": 64, "nms_threshold": 0.5, "keep_top_k": 20,
            "nms_eta": 1.0, "normalized": True,
        }  # fmt: skip
        helper.append_op(
            type="multiclass_nms3",
            inputs={"BBoxes": self.grid * 1.0, "Scores": scores},
            attrs=attributes,
            outputs={"Out": out, "Index": index, "NmsRoisNum": count},
        )
        out.stop_gradient = count.stop_gradient = True
        return out, count


def detector(folder):
    """A picture to boxes, class, score, x1, y1, x2, y2; the labels are boxes in the picture's pixels."""
    random = np.random.RandomState(2)
    save(Detector(), folder / "detector", InputSpec([1, 3, 64, 64], "float32", "image"))
    (folder / "data" / "squares").mkdir(parents=True)
    rows = []
    for number in range(12):
        pixels = random.randint(0, 90, (64, 64, 3)).astype("uint8")
        boxes = []
        for cell in random.choice(64, 4, replace=False):
            y, x, color = cell // 8 * 8, cell % 8 * 8, random.randint(0, 2)
            pixels[y : y + 8, x : x + 8] = np.eye(3)[color] * 230
            boxes.append(f"{color} {x} {y} {x + 8} {y + 8}")
        Image.fromarray(pixels).save(folder / "data" / "squares" / f"{number:02}.png")
        rows.append((f"squares/{number:02}.png", "; ".join(boxes)))
    write_csv(folder / "data" / "squares.csv", rows)


class Segmenter(nn.Layer):
    """A picture to a map of classes: ground or shape."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2D(3, 8, 5, 1, 2), nn.ReLU(), nn.Conv2D(8, 2, 3, 1, 1))

    def forward(self, image):
        scores = self.body(image)
        return scores if self.training else paddle.argmax(scores, 1, dtype="int32")


def segmenter(folder):
    """A picture to a map of classes; the labels are pictures whose pixels are class numbers."""
    random = np.random.RandomState(3)
    net = Segmenter()

    def drawn():
        pixels = random.randint(0, 120, (32, 32, 3))
        y, x = random.randint(2, 16, 2)
        mask = np.zeros((32, 32), "uint8")
        mask[y : y + 14, x : x + 14] = 1
        return np.clip(pixels + mask[:, :, None] * random.randint(60, 130, 3), 0, 255).astype("uint8"), mask

    pairs = [drawn() for _ in range(32)]
    train(net, [as_input([p for p, _ in pairs])], np.stack([m for _, m in pairs]).astype("int64"), 40,
          lambda scores, target: F.cross_entropy(scores, target, axis=1))  # fmt: skip
    save(net, folder / "segmenter", InputSpec([1, 3, 32, 32], "float32", "image"))
    (folder / "data" / "scenes").mkdir(parents=True)
    rows = []
    for number in range(12):
        pixels, mask = drawn()
        Image.fromarray(pixels).save(folder / "data" / "scenes" / f"{number:02}.png")
        Image.fromarray(mask).save(folder / "data" / "scenes" / f"{number:02}-mask.png")
        rows.append((f"scenes/{number:02}.png", f"scenes/{number:02}-mask.png"))
    write_csv(folder / "data" / "scenes.csv", rows)


class Tagger(nn.Layer):
    """Token numbers to a tag for each."""

    def __init__(self):
        super().__init__()
        self.words, self.near, self.tags = nn.Embedding(200, 16), nn.Conv1D(16, 16, 3, padding=1), nn.Linear(16, 3)

    def forward(self, ids):
        near = F.relu(self.near(paddle.transpose(self.words(ids), [0, 2, 1])))
        scores = self.tags(paddle.transpose(near, [0, 2, 1]))
        return scores if self.training else paddle.argmax(scores, -1)


def tagger(folder):
    """Token numbers to a tag for each: 0 even, 1 odd, 2 odd after odd; the labels are in the .npz files."""
    random = np.random.RandomState(4)
    net = Tagger()

    def tagged(count):
        ids = random.randint(0, 200, (count, 12)).astype("int64")
        before = np.concatenate([np.zeros((count, 1), "int64"), ids[:, :-1]], 1)
        return ids, ids % 2 + (ids % 2) * (before % 2)

    ids, tags = tagged(400)
    train(net, [ids], tags, 60)
    save(net, folder / "tagger", InputSpec([1, 12], "int64", "ids"))
    (folder / "data" / "sentences").mkdir(parents=True)
    ids, tags = tagged(20)
    for number in range(20):
        np.savez(folder / "data" / "sentences" / f"{number:02}.npz", ids=ids[number : number + 1], label=tags[number])


class TwoInputs(nn.Layer):
    """A picture and three measured values to one of two classes."""

    def __init__(self):
        super().__init__()
        self.see, self.judge = nn.Conv2D(3, 8, 3, 2, 1), nn.Linear(11, 2)

    def forward(self, image, values):
        seen = F.relu(self.see(image)).mean([2, 3])
        return F.softmax(self.judge(paddle.concat([seen, values], 1)))


def two_inputs(folder):
    """A picture and three values to one of two classes; .npz files hold both inputs and the label."""
    random = np.random.RandomState(5)
    net = TwoInputs()
    images, values = random.rand(200, 3, 16, 16).astype("float32"), random.rand(200, 3).astype("float32")
    images[::2] *= 0.5
    labels = ((images.mean((1, 2, 3)) > 0.4) ^ (values[:, 0] > 0.8)).astype("int64")
    train(
        net,
        [images[:160], values[:160]],
        labels[:160],
        60,
        lambda shares, target: F.nll_loss(paddle.log(shares), target),
    )
    save(
        net,
        folder / "two-inputs",
        InputSpec([1, 3, 16, 16], "float32", "image"),
        InputSpec([1, 3], "float32", "values"),
    )
    (folder / "data" / "pairs").mkdir(parents=True)
    for number in range(160, 200):
        one = slice(number, number + 1)
        np.savez(folder / "data" / "pairs" / f"{number}.npz", image=images[one], values=values[one], label=labels[one])


def sequences(folder):
    """Sentences of any length, one after the other in one tensor (LoD level 1), to the shares of two classes for each."""
    random = np.random.RandomState(6)
    paddle.enable_static()
    weights = {"words": random.randn(200, 16), "classes": random.randn(16, 2)}

    def parameter(name):
        given = paddle.nn.initializer.Assign(weights[name].astype("float32"))
        return paddle.static.create_parameter(
            list(weights[name].shape), "float32", name=name + "_w", default_initializer=given
        )

    with paddle.static.program_guard(paddle.static.Program(), paddle.static.Program()):
        words = paddle.static.data("words", [-1, 1], "int64", lod_level=1)
        helper = LayerHelper("sequences")
        rows, mean, places = (helper.create_variable_for_type_inference(t) for t in ("float32", "float32", "int32"))
        looked_up = {"W": parameter("words"), "Ids": words}
        helper.append_op(type="lookup_table", inputs=looked_up, attrs={"padding_idx": -1}, outputs={"Out": rows})
        rows.desc.set_lod_level(1)
        pooled = {"Out": mean, "MaxIndex": places}
        helper.append_op(type="sequence_pool", inputs={"X": rows}, attrs={"pooltype": "AVERAGE"}, outputs=pooled)
        shares = F.softmax(paddle.matmul(mean, parameter("classes")))
        executor = paddle.static.Executor()
        executor.run(paddle.static.default_startup_program())
        paddle.static.save_inference_model(str(folder / "sequences" / "inference"), [words], [shares], executor)
    paddle.disable_static()


def main(folder):
    for make in (classifier, detector, segmenter, tagger, two_inputs, sequences):
        paddle.seed(7)
        make(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
