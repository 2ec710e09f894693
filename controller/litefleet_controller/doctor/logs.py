"""Diagnoses crash logs from a file or standard input, in any encoding."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections import deque
from pathlib import Path
from typing import BinaryIO

from litefleet_agent.findings.crashlog.decode import LogReading, decode_log

from ..common.errors import UsageError
from ..common.text import sanitize
from ..reports.terminal import plural
from .diagnosis import Diagnosis, Fact, Kind

MOST = 64 << 20  # bytes that are read: the first and the last ones of a longer log
_HEAD = 1 << 20
_CHUNK = 1 << 20
_BOMS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
_CODE_ALONE = re.compile(r"(?:(?:rc|returncode|return code|exit|status|code)[ =:]*)?(-?\d{1,3})", re.IGNORECASE)
_COLOURS = re.compile(r"\x1b\[[0-9;:?]{0,40}[ -/]{0,4}[@-~]")  # also cursor movements
_NOTHING = (
    "nothing in it is a known sign of failure. If it failed, send its last 50 lines. A Paddle-Lite that was built with "
    "logging (`--with_log=ON`; the published wheels are) says more with GLOG_v=4: run the program once more as "
    "`GLOG_v=4 PROGRAM 2>&1 | tail -n 50`"
)


def diagnose_log(source: str | Path) -> Diagnosis:
    """Return the diagnosis of a log; `-` is standard input.  Of a log over 64 MiB the beginning and the end are read.

    Raises: UsageError when it is unreadable, or not text.
    """
    name = str(source)
    data, cut = _read(name)
    text, encoding = _decoded(data)
    text = text.replace("\0", "")  # a log that was truncated while it was written has NULs
    if _is_binary(text):
        raise UsageError(f"{name} is not text, so it is not a log. Name only log files with --log.")
    reading = decode_log(_as_log(_COLOURS.sub("", text)))
    return Diagnosis(
        Kind.LOG,
        "standard input" if name == "-" else sanitize(Path(name).name),
        tuple(_facts(text, encoding, cut, reading)),
        findings=reading.findings,
        path=None if name == "-" else Path(name),
        data=_data(reading, encoding, cut),
    )


def _is_binary(text: str) -> bool:
    """Whether over 5 % of a text's first 4096 characters are control characters that programs do not print."""
    begin = text[:4096]
    return sum(char < " " and char not in "\t\n\r\f\b\x1b" for char in begin) > len(begin) // 20


def _as_log(text: str) -> str:
    """Return "exit code N" for a text that is only an exit code ("139", "rc=-11"); any other text unchanged."""
    alone = _CODE_ALONE.fullmatch(text.strip())
    if alone is None:
        return text
    number = int(alone[1])
    return f"exit code {number if number >= 0 else 128 - number}"


def _read(name: str) -> tuple[bytes, bool]:
    """Return (the bytes of the log, whether some were omitted)."""
    try:
        if name == "-":
            if sys.stdin is None:
                raise OSError(0, "standard input is closed")
            return _bounded(sys.stdin.buffer)
        with os.fdopen(_opened(name), "rb") as stream:
            return _bounded(stream)
    except OSError as error:
        raise UsageError(
            f"The log {name} cannot be read: {error.strerror or error}. Check path and permissions."
        ) from error


def _opened(name: str) -> int:
    """Return a descriptor of a file or pipe, without waiting for a pipe's writer.  Raises: OSError for devices."""
    descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(descriptor).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
        os.close(descriptor)
        raise OSError(0, "it is a folder or a device, not a file")
    os.set_blocking(descriptor, True)
    return descriptor


def _bounded(stream: BinaryIO) -> tuple[bytes, bool]:
    """Return (all of a stream, or its first MiB and last 63 MiB; whether something was omitted)."""
    head = stream.read(_HEAD)
    if stream.seekable():
        size = stream.seek(0, os.SEEK_END)
        cut = size > MOST
        begin = stream.seek(size - (MOST - _HEAD) if cut else len(head))
        return head + (b"\n" if cut else b"") + stream.read(max(0, min(MOST, size - begin))), cut
    tail, held, cut = deque[bytes](), 0, False
    while data := stream.read(_CHUNK):
        tail.append(data)
        held += len(data)
        while held - len(tail[0]) >= MOST - _HEAD:
            held -= len(tail.popleft())
            cut = True
    return head + (b"\n" if cut else b"") + b"".join(tail), cut


def _decoded(data: bytes) -> tuple[str, str]:
    """Return (the text, its encoding): by its byte order mark, else UTF-8, else GB 18030 as Chinese Windows writes."""
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return data.decode(encoding, "replace").lstrip("\ufeff"), encoding
    for encoding in ("utf-8", "gb18030"):
        try:
            return data.decode(encoding), encoding
        except UnicodeDecodeError:
            continue
    return data.decode("utf-8", "replace"), "utf-8 with damaged characters"


def _facts(text: str, encoding: str, cut: bool, reading: LogReading) -> list[Fact]:
    count = text.count("\n") + (not text.endswith("\n") and bool(text))
    size = f"{plural(count, 'line')}, {encoding}"
    facts = [Fact("log", size + (", of which the first MiB and the last 63 were read" if cut else ""))]
    facts += [Fact(label, sanitize(value)) for label, value in reading.facts]
    if not reading.findings:
        facts.append(Fact("recognised", _NOTHING if text.strip() else "it is empty"))
    return facts


def _data(reading: LogReading, encoding: str, cut: bool) -> dict[str, object]:
    lines = [{"code": cause.code, "line": cause.place.number, "text": cause.place.text} for cause in reading.lines]
    return {"encoding": encoding, "cut": cut, "lines": lines}
