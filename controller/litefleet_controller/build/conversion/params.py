"""Reads a source model's parameters (.pdiparams) from their files, in pieces: memory does not grow with the model."""

from __future__ import annotations

import hashlib
import io
import math
import re
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self

from ...common.errors import FindingError
from ...common.lazy import numpy as np
from .program import DTYPES, elements, tensor_desc
from .protobuf import WireError

PIECE = 1 << 20  # bytes read at once
_HEAD = 1 << 16  # bytes that tell what kind of file it is
_MAX_RANK = 32


class ParamsError(ValueError):
    """The bytes are not a combined parameters file; the message names the byte where that shows."""


class ParamsReader:
    """Reads parameters once, from their first byte to their last, and hashes them meanwhile."""

    def __init__(self, streams: Iterator[BinaryIO], size: int) -> None:
        self._streams, self._digest = streams, hashlib.sha256()
        self._stream: BinaryIO | None = next(streams, None)
        self.size, self.at = size, 0
        self._head = b""

    @classmethod
    def of(cls, data: bytes) -> Self:
        """Return a reader of bytes in memory."""
        return cls(iter([io.BytesIO(data)]), len(data))

    @property
    def sha256(self) -> str:
        """The SHA-256 of what was read so far, in hexadecimal."""
        return self._digest.hexdigest()

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes.  Raises: ParamsError where fewer are left."""
        parts: list[bytes] = []
        left = min(size, self.size - self.at)
        while left and self._stream is not None:
            part = self._stream.read(left)
            if not part:
                self._stream = next(self._streams, None)
            parts.append(part)
            left -= len(part)
        data = b"".join(parts)
        self._digest.update(data)
        self.at += len(data)
        self._head += data[: _HEAD - len(self._head)]
        if len(data) < size:
            raise ParamsError(f"it ends after {self.at} bytes")
        return data

    def head(self) -> bytes:
        """Return the first 64 KiB, or all of a shorter file; reads on where they were not read yet."""
        self.read(max(0, min(_HEAD, self.size) - self.at))
        return self._head

    def pieces(self, size: int) -> Iterator[bytes]:
        """Yield the next `size` bytes in pieces.  Raises: ParamsError as `read`."""
        while size:
            piece = self.read(min(size, PIECE))
            size -= len(piece)
            yield piece


@dataclass(frozen=True)
class Params:
    """A model's parameters in their files: the combined one, or one for each parameter in the combined file's order."""

    paths: tuple[Path, ...]

    @contextmanager
    def reader(self) -> Iterator[ParamsReader]:
        """Open the files one after another.  Raises: FindingError LF201 for one that cannot be read."""
        with ExitStack() as stack:

            def streams() -> Iterator[BinaryIO]:
                for path in self.paths:
                    stack.pop_all().close()  # the one before
                    yield stack.enter_context(path.open("rb"))

            with self._readable():
                yield ParamsReader(streams(), sum(path.stat().st_size for path in self.paths))

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise FindingError.of(
                "LF201", f"{error.filename or self.paths[0]} cannot be read: {error.strerror}."
            ) from error

    @property
    def size(self) -> int:
        """Bytes of all files.  Raises: FindingError LF201 for one that cannot be read."""
        with self._readable():
            return sum(path.stat().st_size for path in self.paths)

    @property
    def stamp(self) -> tuple[object, ...]:
        """What changes when a file is written or replaced.  Raises: FindingError LF201 for one that cannot be read."""
        with self._readable():
            found = [path.stat() for path in self.paths]
        return tuple((one.st_dev, one.st_ino, one.st_size, one.st_mtime_ns, one.st_ctime_ns) for one in found)

    def pieces(self, sha256: str) -> Iterator[bytes]:
        """Yield the parameters in pieces.  Raises: FindingError LF201 when their SHA-256 turns out to be another."""
        with self.reader() as reader:
            with suppress(ParamsError):  # its hash differs too
                yield from reader.pieces(reader.size)
            if reader.sha256 != sha256:
                where = self.paths[0] if len(self.paths) == 1 else self.paths[0].parent
                raise FindingError.of("LF201", f"{where} changed after it was checked. Start again once it is whole.")


class SavedTensor(NamedTuple):
    """A tensor in a combined parameters file."""

    dtype: str  # as numpy names it
    dims: tuple[int, ...]
    start: int  # offset of its items
    size: int  # bytes of its items
    largest: float  # finite magnitude from 2**15 on; 0.0 where it holds no 32-bit floats so large, or was not asked for
    halves: bool = False  # it holds 32-bit floats, all of them fp16 numbers; False where that was not asked for


def read_params(data: bytes) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield (dtype, dims) of each tensor of a combined parameters file, in order, up to its exact end.

    Raises: ParamsError at the byte where the file is no longer one.
    """
    for tensor in read_tensors(ParamsReader.of(data)):
        yield tensor.dtype, tensor.dims


def read_tensors(reader: ParamsReader, largest: bool = False, halves: bool = False) -> Iterator[SavedTensor]:
    """Yield each tensor in the file's order, up to its exact end.  Raises: ParamsError as `read_params`."""
    while reader.at < reader.size:
        dtype, dims, size = _header(reader)
        start, most, exact = reader.at, 0.0, False
        if largest and dtype == "float32":
            most = _largest(reader.pieces(size))
        elif halves and dtype == "float32":
            exact = all([_are_halves(piece) for piece in reader.pieces(size)])  # a list: every piece has to be read
        else:
            for _ in reader.pieces(size):
                pass
        yield SavedTensor(dtype, dims, start, size, most, exact)


def _are_halves(piece: bytes) -> bool:
    """Return whether fp16 holds these 32-bit floats exactly; those outside its range count as held."""
    items = np.frombuffer(piece, "<f4")
    with np.errstate(over="ignore"):
        rounded = items.astype("f2").astype("f4")
    return bool(np.array_equal(np.where(np.isfinite(rounded), rounded, items), items))


# The last byte of a little-endian float32 has its sign and seven bits of the exponent: none of these, and it is below 2**15.
_LARGE = re.compile(rb"[\x47-\x7f\xc7-\xff]")


def _largest(pieces: Iterator[bytes]) -> float:
    low = high = math.nan
    for piece in pieces:
        if _LARGE.search(piece[3::4]) is None:
            continue  # nearly always, and then a plan needs no numpy
        values = np.frombuffer(piece, "<f4")
        # Two reductions instead of abs(), which would copy the weights; NaN and Inf are ignored.
        low, high = np.fmin(low, np.fmin.reduce(values)), np.fmax(high, np.fmax.reduce(values))
    magnitude = max(-float(low), float(high))
    return magnitude if math.isfinite(magnitude) else 0.0


def _take(reader: ParamsReader, layout: str) -> int:
    if struct.calcsize(layout) > reader.size - reader.at:
        raise ParamsError(f"it ends in the middle of a tensor's header, at byte {reader.size}")
    return int(struct.unpack(layout, reader.read(struct.calcsize(layout)))[0])


def _header(reader: ParamsReader) -> tuple[str, tuple[int, ...], int]:
    """Read a tensor up to its items: version, LoD, version, description; return dtype, dims and the items' bytes."""
    start = reader.at
    version, levels = _take(reader, "<I"), _take(reader, "<Q")
    if version != 0 or levels > _MAX_RANK:
        raise ParamsError(f"no tensor begins at byte {start}")
    for _ in range(levels):
        size = _take(reader, "<Q")
        if size > reader.size - reader.at:
            raise ParamsError(f"it ends in the middle of a tensor's header, at byte {reader.size}")
        for _ in reader.pieces(size):
            pass
    version, size = _take(reader, "<I"), _take(reader, "<i")
    if version != 0 or not 0 < size <= 4096:
        raise ParamsError(f"no tensor begins at byte {start}")
    try:
        kind, dims = tensor_desc(memoryview(reader.read(min(size, reader.size - reader.at))))
    except WireError as error:
        raise ParamsError(f"the tensor at byte {start} has no readable description") from error
    if kind not in DTYPES or any(dim < 0 for dim in dims):
        raise ParamsError(f"the tensor at byte {start} has no readable description")
    dtype, width = DTYPES[kind]
    end = reader.at + width * elements(dims)
    if end > reader.size:
        raise ParamsError(f"it ends after {reader.size} bytes, in the middle of a tensor that needs {end}")
    return dtype, dims, end - reader.at
