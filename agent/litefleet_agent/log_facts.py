"""What a log says of itself: which program speaks, which versions, CPU and operators."""

import re
from itertools import islice
from typing import List, Optional, Pattern, Tuple

from .logtext import LogText, Place, harmless

__all__ = ["facts_of", "is_converter", "versions_of"]

_CONVERTER = re.compile(
    r"Loading topology data from|Loading params data from|api/opt\.cc|LoadCombinedParamsPb|PrintPbModelErrorMessage|"
    r"opt_base\.cc|Wrong target '|ops are not supported on '"
)
_CONVERTED = re.compile(r"Model is optimized and saved into")
_RUNTIME = re.compile(
    r"LoadModel(?:Fbs|Naive)From|device_info\.cc|light_api|RuntimeProgram|program\.cc|create_paddle_predictor|set_model_from_file"
)
_OPT_VERSION = re.compile(r"version of opt: ?([^\s\"']{0,40})")
_LITE_VERSION = re.compile(r"version of current Paddle-Lite: ?([^\s\"']{0,40})")

_WHEEL = re.compile(r"paddlelite-(\d[\w.]{0,20})")
_ARCHES: Tuple[Tuple[str, Pattern[str]], ...] = (
    ("armv8", re.compile(r"(?i)\baarch64\b|\barm64\b|arm64-v8a|\barmv8\b")),
    ("armv7", re.compile(r"(?i)armv7|armeabi-v7a|ABI: 'arm'")),
    ("x86_64", re.compile(r"(?i)\bx86[_-]64\b|\bamd64\b|lite/kernels/x86/")),
)
_CPU = re.compile(r"CPU ARCH: (A\d{2,3})")
_OPERATORS: Tuple[Pattern[str], ...] = (
    re.compile(r"kernel for '(\w{1,60})' is not supported"),
    re.compile(r"operator '(\w{1,60})' is not supported"),
    re.compile(r"No attributes called \w{1,60} found for (\w{1,60})"),
    re.compile(r"(?:no Op found|No kernels found) for (\w{1,60})"),
    re.compile(r"unsupported ops are:([^\n]{1,2000})"),
    re.compile(r"lite/(?:operators|kernels/\w{1,20})/(\w{1,60})_(?:op|compute)\.(?:cc|h)\b[^\n]{0,80}\] Check failed"),
)
_SOURCE = re.compile(r"\[F [^\]\n]{0,80}?([\w]{1,40}\.(?:cc|h):\d{1,5})")
_PYTHON = re.compile(r"lib/python(3\.\d{1,2})/")


def is_converter(text: str) -> bool:
    """Tell whether Paddle-Lite's converter speaks, and did not finish."""
    return _CONVERTER.search(text) is not None and _CONVERTED.search(text) is None


def versions_of(log: LogText) -> Tuple[str, str, Optional[Place]]:
    """Return the converter's and the runtime's version as the warning on their difference has them, and its line."""
    opt, runtime = _OPT_VERSION.search(log.text), _LITE_VERSION.search(log.text)
    if opt is None or runtime is None:
        return "", "", None
    return harmless(opt.group(1)), harmless(runtime.group(1)), log.place(opt.start())


def facts_of(log: LogText) -> List[Tuple[str, str]]:
    """Return what the log says of itself, as (label, text)."""
    opt, runtime, _ = versions_of(log)
    wheel = _WHEEL.search(log.text)
    rows = [
        ("program", _program(log.text)),
        ("Paddle-Lite", runtime or (wheel.group(1) if wheel else "")),
        ("file from", "opt %s" % opt if opt else ""),
        ("architecture", ", ".join(name for name, pattern in _ARCHES if pattern.search(log.text))),
        ("CPU", ", ".join(_all(_CPU, log.text)[:4])),
        ("Python", ", ".join(_all(_PYTHON, log.text)[:3])),
        ("operators", ", ".join(_operators(log.text)[:10])),
        ("stopped in", ", ".join(_all(_SOURCE, log.text)[:3])),
        ("read", "the first 256 KiB and the last 768 KiB" if log.cut else ""),
    ]
    return [(label, text) for label, text in rows if text]


def _program(text: str) -> str:
    if _CONVERTER.search(text):
        return "Paddle-Lite's converter (opt)" + (
            ", then the runtime" if _CONVERTED.search(text) and _RUNTIME.search(text) else ""
        )
    return "Paddle-Lite's runtime" if _RUNTIME.search(text) else ""


def _all(pattern: Pattern[str], text: str) -> List[str]:
    found = [match.group(1) for match in islice(pattern.finditer(text), 200)]
    return sorted(set(found), key=found.index)


def _operators(text: str) -> List[str]:
    names: List[str] = []
    for pattern in _OPERATORS:
        for told in _all(pattern, text):
            names += re.findall(r"\w{1,60}", told)
    return sorted(set(names), key=names.index)
