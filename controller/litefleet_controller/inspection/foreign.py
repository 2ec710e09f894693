"""Recognises files that are not what one meant: other frameworks' models, training files, archives, pointers, error pages.

By their first bytes, or by name where a format has no magic.
"""

from __future__ import annotations

import re
from pathlib import PurePath

from litefleet_agent.findings import Finding, finding
from litefleet_agent.formats.nb import NbError, read_header

from ..common.text import sanitize

# (offset, bytes, what it is): each taken from the format's own description.
_MAGIC = (
    (4, b"TFL3", "TensorFlow Lite"),
    (0, b"\x89HDF\r\n\x1a\n", "Keras HDF5"),
    (0, b"7767517\n", "ncnn param"),
    (0, b"ftrt", "TensorRT engine"),
    (0, b"GGUF", "GGUF"),
    (0, b"RKNN", "RKNN"),
    (0, b"IMOD", "Ascend OM"),
    (0, b"LDMK", "Kendryte kmodel"),
    (0, b"\x01HEF", "Hailo HEF"),
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
_UNPACK = "unpack it, and give the file or folder inside"
_GIVE = "give the model's file"
_NO_MODEL = (  # (offset, bytes, what it is, what to do)
    (
        0,
        b"version https://git-lfs.github.com/",
        "a Git LFS pointer, not the file itself",
        "fetch the file with `git lfs pull`",
    ),
    (0, b"../.git/annex/", "a git-annex pointer, not the file itself", "fetch the file with `git annex get`"),
    (0, b"/annex/objects/", "a git-annex pointer, not the file itself", "fetch the file with `git annex get`"),
    (0, b"PK\x03\x04", "a zip archive", _UNPACK),
    (0, b"PK\x05\x06", "an empty zip archive", "download or pack it again"),
    (0, b"\x1f\x8b", "a gzip archive", _UNPACK),
    (257, b"ustar", "a tar archive", _UNPACK),
    (0, b"BZh", "a bzip2 archive", _UNPACK),
    (0, b"\xfd7zXZ\0", "an xz archive", _UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", _UNPACK),
    (0, b"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard archive", _UNPACK),
    (0, b"\x04\x22\x4d\x18", "an LZ4 archive", _UNPACK),
    (0, b"!<arch>\n", "a static library or a Debian package", _GIVE),
    (0, b"\x7fELF", "a program or library (ELF)", _GIVE),
    (0, b"MZ\x90\0", "a Windows program or library", _GIVE),
    (0, b"\x93NUMPY", "a NumPy array", _GIVE),
    (0, b"(* Content-type: application/", "a Mathematica notebook, which has the suffix .nb too", _GIVE),
    (
        0,
        b"\0\x05\x16\x07",
        "what macOS keeps beside a file (AppleDouble), not the file itself",
        "give the file without `._` before its name",
    ),
    (0, b"\x89PNG", "a picture (PNG)", _GIVE),
    (0, b"\xff\xd8\xff", "a picture (JPEG)", _GIVE),
    (0, b"%PDF-", "a PDF document", _GIVE),
)
_AGAIN = "its download failed; download it again, and compare size or SHA-256"
_PAGE = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<!--.*?-->\s*)*<(?:!doctype|html|head|body|script|\?xml|error|svg)\b",
    re.IGNORECASE | re.DOTALL,
)
# Of GitHub, Hugging Face, Baidu's disks and Spring; and what plain servers answer in one line
_MESSAGE = re.compile(
    rb"\s*\{\s*\"(?:err\w*|messages?|msg|code|detail|status\w*|success|timestamp|request_?id)\"", re.IGNORECASE
)
_SENTENCE = re.compile(
    rb"\s*(?:40[0-9]\b|50[0-9]\b|not found|entry not found|access denied|forbidden|unauthorized|invalid (?:username|credentials)"
    rb"|bad gateway|file not found)[\x20-\x7e\s]{0,200}",
    re.IGNORECASE,
)
_LINK = re.compile(rb"(?:\.{0,2}/)?(?:[\w.+-]+/)*[\w.+-]+\.(?:nb|pdmodel|pdiparams|json)\n?")
_CONFLICT = re.compile(rb"<{7} \S")
_PICKLE = re.compile(rb"\x80[\x02-\x05](?:\x95.{8})?[\x00-\x7f]", re.S)
_SAVED = b"\0" * 16  # a saved tensor begins with a version and an empty LoD, then the length of its description
_ONNX = re.compile(
    rb"\x08[\x01-\x14](?:[\x3a\x42]|\x12.(?:pytorch|tf2onnx|paddle|onnx|skl2onnx|keras2onnx|mxnet)|\x12[\x00-\x20])",
    re.S,
)
_IR = re.compile(rb"\s*(?:<\?xml[^>]*\?>\s*)?<net\s[^>]*version=")
_SAFETENSORS = re.compile(rb".{6}\x00\x00\{\s*\"", re.S)


def other_file(head: bytes, name: str, shown: str = "", is_source: bool = False) -> Finding | None:
    """Return the finding for a file that is not what one meant, None where its first 4096 bytes do not decide it.

    `is_source` is whether a source model was meant (else a .nb); `shown` is what the sentence calls the file, by default its
    name.  LF210 is another framework's model, LF207 a training file; anything else is LF207 or LF106, by what was meant.
    """
    shown = shown or sanitize(name)
    known = foreign_format(head, name)
    if known.startswith("PaddlePaddle") or (not known and _PICKLE.match(head)):
        what = known or "a Python pickle, as training checkpoints are"
        advice = "PaddleOCR, PaddleDetection and PaddleClas have tools/export_model.py, other code paddle.jit.save"
        return finding(
            "LF207", f"{shown} is {what}, without a program: export the model for inference first; {advice}."
        )
    if known:
        return finding("LF210", f"{shown} is {known}.")
    what, remedy = _no_model(head) or (_converted(head) if is_source else _not_converted(head, name)) or ("", "")
    return finding("LF207" if is_source else "LF106", f"{shown} is {what}: {remedy}.") if what else None


def _no_model(head: bytes) -> tuple[str, str] | None:
    for offset, magic, what, remedy in _NO_MODEL:
        if head[offset : offset + len(magic)] == magic:
            return what, remedy
    if _PAGE.match(head):
        return "an HTML or XML page", _AGAIN
    if _MESSAGE.match(head):
        return "a server's JSON message", _AGAIN
    if _SENTENCE.fullmatch(head):
        return "a server's answer in words", _AGAIN
    if _LINK.fullmatch(head):
        return "the path of a file, as Git leaves where it cannot make a symbolic link", "give the file that it names"
    if _CONFLICT.match(head):
        return "what a merge in Git left, both versions in one file", "choose one: `git checkout --ours` or `--theirs`"
    if not head:
        return "empty", "copy, download or convert it again"
    return (
        ("nothing but zeros", "copy, download or convert it again")
        if len(head) >= 512 and not head.strip(b"\0")
        else None
    )


def _converted(head: bytes) -> tuple[str, str] | None:
    try:
        read_header(head + bytes(1 << 12))
    except NbError as error:
        if error.finding_code != "LF105":
            return None
    return "a Paddle-Lite .nb file, which is converted already", "name it under `nb:` instead of `source:`"


def _not_converted(head: bytes, name: str) -> tuple[str, str] | None:
    convert = "name its folder as `source:` in litefleet.yaml, then `litefleet convert`"
    if head[:1] == b"\x0a" and (b"\x08\x00\x10\xff\xff" in head[:16] or PurePath(name).suffix == ".pdmodel"):
        return "a PaddlePaddle program (the source model), not a .nb", convert
    if head.startswith(_SAVED) and head[18:21] == b"\0\0\x08":
        return "a PaddlePaddle parameters file (half of the source model), not a .nb", convert
    return None


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
