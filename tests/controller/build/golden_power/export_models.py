"""Exports small models of several kinds with PaddlePaddle 2.6 into the folder that the command line names.

It runs in PaddlePaddle's own environment.
"""

import sys

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn
from paddle.base.layer_helper import LayerHelper
from paddle.static import InputSpec


def trunk(width=16):
    return nn.Sequential(
        nn.Conv2D(3, width, 3, 2, 1), nn.BatchNorm2D(width), nn.ReLU(),
        nn.Conv2D(width, width, 3, 2, 1), nn.ReLU(), nn.Conv2D(width, width, 3, 2, 1), nn.ReLU(),
    )  # fmt: skip


class Detector(nn.Layer):
    """The end of a PaddleDetection export: boxes and scores of one level, and a suppression."""

    def __init__(self, suppression, threshold=0.05, declared=()):
        super().__init__()
        self.body, self.head, self.suppression = trunk(), nn.Conv2D(16, 3 * (5 + 4), 1), suppression
        self.threshold, self.declared = threshold, declared

    def forward(self, image):
        size = paddle.full([1, 2], 96, "int32")
        boxes, scores = paddle.vision.ops.yolo_box(
            self.head(self.body(image)),
            size,
            anchors=[10, 13, 16, 30, 33, 23],
            class_num=4,
            conf_thresh=0.01,
            downsample_ratio=8,
        )
        scores = paddle.transpose(scores, [0, 2, 1])
        if self.suppression == "matrix_nms":
            return paddle.vision.ops.matrix_nms(
                boxes, scores, score_threshold=0.05, post_threshold=0.02, nms_top_k=100, keep_top_k=20, background_label=-1,
                return_index=False, return_rois_num=True,
            )  # fmt: skip
        helper = LayerHelper("multiclass_nms3")
        out, index, num = (helper.create_variable_for_type_inference(t) for t in ("float32", "int32", "int32"))
        attributes = {
            "background_label": -1, "score_threshold": self.threshold, "nms_top_k": 100, "nms_threshold": 0.45, "keep_top_k": 20,
            "nms_eta": 1.0, "normalized": False,
        }  # fmt: skip
        helper.append_op(
            type="multiclass_nms3",
            inputs={"BBoxes": boxes, "Scores": scores},
            attrs=attributes,
            outputs={"Out": out, "Index": index, "NmsRoisNum": num},
        )
        if self.declared:  # as PicoDet is exported: the rows of another run
            out.desc.set_shape(self.declared)
        out.stop_gradient = num.stop_gradient = True
        return out, num


class Heads(nn.Layer):
    """One body with the other kinds of ends."""

    def __init__(self):
        super().__init__()
        self.body, self.classes, self.vector, self.map = (
            trunk(),
            nn.Linear(16, 30),
            nn.Linear(16, 24),
            nn.Conv2D(16, 5, 1),
        )
        self.mask = nn.Conv2D(16, 1, 1)

    def forward(self, image):
        features = self.body(image)
        pooled = features.mean([2, 3])
        probabilities = F.softmax(6 * self.classes(pooled) * 3)
        best, ids = paddle.topk(probabilities, 3)
        labels = paddle.argmax(F.interpolate(self.map(features), scale_factor=8, mode="bilinear"), 1).astype("int32")
        return (
            probabilities,
            best,
            ids,
            labels,
            F.normalize(self.vector(pooled)),
            F.sigmoid(8 * self.mask(features)),
            pooled,
        )


class Shuffled(nn.Layer):
    """Super-resolution of any size: PaddlePaddle declares its output as [-1, 3, -2, -2]."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2D(3, 8, 3, 1, 1), nn.Conv2D(8, 12, 3, 1, 1)

    def forward(self, image):
        return F.pixel_shuffle(self.last(F.relu(self.first(image))), 2)


def save(layer, name, dims=(1, 3, 96, 96)):
    layer.eval()
    paddle.jit.save(layer, f"{sys.argv[1]}/{name}", input_spec=[InputSpec(list(dims), "float32", "image")])


if __name__ == "__main__":
    paddle.seed(3)
    np.random.seed(3)
    save(Detector("multiclass_nms3"), "detector")
    save(Detector("matrix_nms"), "matrix")
    save(Heads(), "heads")
    save(Detector("multiclass_nms3", declared=(3598, 6)), "stale")
    save(Detector("multiclass_nms3", threshold=0.999), "nothing")
    save(Shuffled(), "shuffled", (-1, 3, -1, -1))
