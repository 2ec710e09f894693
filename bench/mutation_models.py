"""Trains and exports small models for weight_mutations.py into the folder that the command line names.

It runs in PaddlePaddle's own environment, in about 20 s.  Pictures show a square, a disc, a cross or stripes on noise; the
answers of trained models differ for them as a user's do.
"""

import sys

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn
from paddle.static import InputSpec

SIZE = 32


def draw(seed):
    """Return (picture [3, 32, 32], class, map of the shape [32, 32]) for a seed."""
    random = np.random.RandomState(seed)
    kind, (row, column) = seed % 4, random.randint(8, 24, 2)
    y, x = np.mgrid[:SIZE, :SIZE] - np.array([row, column])[:, None, None]
    shape = [
        (abs(x) < 6) & (abs(y) < 6), x * x + y * y < 49, (abs(x) < 3) | (abs(y) < 3), (x + y) % 8 < 4,
    ][kind]  # fmt: skip
    picture = 0.3 * random.rand(3, SIZE, SIZE) + 0.6 * shape * random.uniform(0.6, 1, (3, 1, 1))
    return picture.astype("f4"), kind, shape


def body():
    layers, width = [], 3
    for wide, step in ((16, 1), (24, 2), (32, 2)):
        layers += [nn.Conv2D(width, wide, 3, step, 1), nn.BatchNorm2D(wide), nn.ReLU()]
        width = wide
    return nn.Sequential(*layers)


class Ended(nn.Layer):
    """A trained body with one kind of end: `logits` while it is trained, the end's answer when it is exported."""

    def __init__(self, kind):
        super().__init__()
        self.kind, self.body = kind, body()
        self.head = nn.Conv2D(32, 5, 1) if kind == "segments" else nn.Conv2D(32, 1, 1) if kind == "mask" else None
        self.line = nn.Linear(32, 16 if kind == "vectors" else 4)
        self.more = nn.Linear(16, 4)

    def logits(self, image):
        features = self.body(image)
        if self.head is not None:
            return F.interpolate(self.head(features), scale_factor=4, mode="bilinear")
        made = self.line(features.mean([2, 3]))
        return self.more(made) if self.kind == "vectors" else made

    def forward(self, image):
        if self.kind == "vectors":
            return F.normalize(self.line(self.body(image).mean([2, 3])))
        made = self.logits(image)
        if self.kind == "segments":
            return paddle.argmax(made, 1).astype("int32")
        return F.sigmoid(made) if self.kind == "mask" else made if self.kind == "raw" else F.softmax(made)


def train(model, steps=150):
    optimizer = paddle.optimizer.Adam(3e-3, parameters=model.parameters())
    for step in range(steps):
        drawn = [draw(step * 32 + number) for number in range(32)]
        images = paddle.to_tensor(np.stack([picture for picture, _, _ in drawn]))
        shapes = np.stack([shape for _, _, shape in drawn])
        kinds = np.array([kind for _, kind, _ in drawn])
        logits = model.logits(images)
        if model.kind == "segments":
            wanted = paddle.to_tensor(np.where(shapes, kinds[:, None, None] + 1, 0))
            loss = F.cross_entropy(logits, wanted, axis=1)
        elif model.kind == "mask":
            loss = F.binary_cross_entropy_with_logits(logits[:, 0], paddle.to_tensor(shapes.astype("f4")))
        else:
            loss = F.cross_entropy(logits, paddle.to_tensor(kinds))
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
    model.eval()


class Tokens(nn.Layer):
    """A text classifier over 200 words, trained to tell which quarter of the vocabulary most of the words are from."""

    kind = "tokens"

    def __init__(self):
        super().__init__()
        self.words, self.mix, self.line = nn.Embedding(200, 24), nn.Conv1D(24, 24, 3, padding=1), nn.Linear(24, 4)

    def forward(self, ids):
        return F.softmax(self.line(F.relu(self.mix(self.words(ids).transpose([0, 2, 1]))).max(-1)))


def train_tokens(model):
    optimizer, random = paddle.optimizer.Adam(5e-3, parameters=model.parameters()), np.random.RandomState(0)
    for _ in range(150):
        kinds = random.randint(0, 4, 32)
        mixed = random.randint(0, 200, (32, 16))
        ids = np.where(random.rand(32, 16) < 0.7, random.randint(0, 50, (32, 16)) + 50 * kinds[:, None], mixed)
        loss = F.nll_loss(paddle.log(model(paddle.to_tensor(ids)) + 1e-9), paddle.to_tensor(kinds))
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
    model.eval()


if __name__ == "__main__":
    paddle.seed(5)
    pictures = np.stack([draw(100000 + number)[0] for number in range(32)])[:, None]
    words = np.random.RandomState(9).randint(0, 50, (32, 1, 16)) + 50 * (np.arange(32) % 4)[:, None, None]
    np.savez(f"{sys.argv[1]}/inputs.npz", image=pictures, ids=words)
    for kind in ("shapes", "segments", "mask", "vectors", "raw"):
        model = Ended(kind)
        train(model)
        spec = InputSpec([1, 3, SIZE, SIZE], "float32", "image")
        paddle.jit.save(model, f"{sys.argv[1]}/{kind}", input_spec=[spec])
    tokens = Tokens()
    train_tokens(tokens)
    paddle.jit.save(tokens, f"{sys.argv[1]}/tokens", input_spec=[InputSpec([1, 16], "int64", "ids")])
