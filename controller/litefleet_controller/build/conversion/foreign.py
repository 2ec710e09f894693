"""Recognises other frameworks' and engines' model files by their first bytes, or by name where a format has no magic."""

from __future__ import annotations

import re
from pathlib import PurePath

# (offset, bytes, what it is): each taken from the format's own description.
_MAGIC = (
    (4, b"TFL3", "TensorFlow Lite"),
    (0, b"\x89HDF\r\n\x1a\n", "Keras HDF5"),
    (0, b"7767517\n", "ncnn param"),
    (0, b"ftrt", "TensorRT engine"),
    (0, b"GGUF", "GGUF"),
)
# Formats without a magic number: protocol buffers, raw numbers.
_NAMES = {
    ".onnx": "ONNX",
    ".tflite": "TensorFlow Lite",
    ".caffemodel": "Caffe",
    ".prototxt": "Caffe",
    ".mnn": "MNN",
    ".bin": "",
    ".engine": "TensorRT engine",
    ".trt": "TensorRT engine",
    ".rknn": "RKNN",
    ".om": "Ascend OM",
    ".mlmodel": "Core ML",
    ".keras": "Keras",
    ".h5": "Keras HDF5",
    ".safetensors": "safetensors",
    ".pt": "PyTorch",
    ".pth": "PyTorch",
    ".pdparams": "PaddlePaddle training parameters",
    ".pdopt": "PaddlePaddle optimiser state",
}
_ONNX = re.compile(
    rb"\x08[\x01-\x14](?:\x12.(?:pytorch|tf2onnx|paddle|onnx|skl2onnx|keras2onnx|mxnet)|\x12[\x00-\x20])", re.S
)
_IR = re.compile(rb"\s*(?:<\?xml[^>]*\?>\s*)?<net\s[^>]*version=")
_SAFETENSORS = re.compile(rb".{6}\x00\x00\{\s*\"", re.S)


def foreign_format(head: bytes, name: str) -> str:
    """Return a file's format by its first bytes (4096 are enough) and its name, "" when it is not recognised."""
    for offset, magic, format_name in _MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return format_name
    return _zip(head, name) or _pickle(head) or _text(head) or _by_name(head, PurePath(name))


def _zip(head: bytes, name: str) -> str:
    if not head.startswith(b"PK\x03\x04"):
        return ""
    first = head[30 : 30 + int.from_bytes(head[26:28], "little")]
    if first.endswith((b"/data.pkl", b"/version", b"/byteorder", b"/.format_version")) or b"data.pkl" in head[:512]:
        return "PyTorch (zip)"
    return "Keras" if name.endswith(".keras") else ""


def _pickle(head: bytes) -> str:
    """Recognise PyTorch's files of before 1.6: a pickle that begins with torch's own magic number."""
    old = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
    return "PyTorch (before 1.6)" if head.startswith(old) else ""


def _text(head: bytes) -> str:
    if _IR.match(head):
        return "OpenVINO IR"
    if _SAFETENSORS.match(head):
        return "safetensors"
    # An ONNX file begins with ir_version, then producer_name: Paddle's programs begin with a block (field 1, bytes).
    if _ONNX.match(head):
        return "ONNX"
    return ""


def _by_name(head: bytes, path: PurePath) -> str:
    if path.name == "saved_model.pb":
        return "TensorFlow SavedModel"
    if path.suffix == ".param" and head.startswith(b"7767517"):
        return "ncnn param"
    return _NAMES.get(path.suffix.lower(), "")
