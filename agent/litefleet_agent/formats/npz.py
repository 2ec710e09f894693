"""Reads and writes .npy and .npz with the standard library alone, within bounds: the file may be damaged or hostile."""

import array
import ast
import io
import os
import re
import struct
import sys
import zipfile
import zlib
from dataclasses import dataclass, replace
from typing import BinaryIO, Dict, Iterator, Mapping, Tuple, Union

from ..errors import AgentError
from .checked import items, whole
from .files import open_regular

MAX_TOTAL = 512 << 20  # bytes, unpacked, of one file
_MAX_ARRAYS = 1024
_MAX_HEADER = 4096
_MAX_RANK = 32
_MAGIC = b"\x93NUMPY"
_FIXED_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest a zip can hold: equal arrays give equal bytes

# numpy's name -> bytes of one item
DTYPES: Dict[str, int] = {
    "bool": 1, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "float16": 2,
    "int32": 4, "uint32": 4, "float32": 4, "int64": 8, "uint64": 8, "float64": 8,
}  # fmt: skip
_LETTERS = {"b": "bool", "i": "int", "u": "uint", "f": "float"}
_SWAPS = {2: "H", 4: "I", 8: "Q"}


class NpzError(AgentError):
    """A .npy or .npz that cannot be read or written."""

    code = "bad-npz"


Lod = Tuple[Tuple[int, ...], ...]
MAX_LOD_LEVELS = 4
# Offsets of the sequences of one request, in all levels: even with ten digits each, they fit the 64 KiB of its header.
MAX_LOD_OFFSETS = 4096
_LOD = re.compile(r"(.+)@lod([0-9])")  # the name of an array that holds one level of another's sequences


def check_lod(lod: Lod, shape: Tuple[int, ...]) -> None:
    """Raise AgentError unless each level rises from 0, and ends at the number of sequences below it: rows at the last."""
    ends = [len(level) - 1 for level in lod[1:]] + [shape[0] if shape else 1]
    for level, end in zip(lod, ends):  # noqa: B905 - 3.7
        rising = len(level) > 1 and level[0] == 0 and list(level) == sorted(level)
        if len(lod) > MAX_LOD_LEVELS or not rising or level[-1] != end:
            raise NpzError(
                "the sequences (LoD) must be offsets that rise from 0 to %d, not %s" % (end, list(level)[:9])
            )


def read_lod(value: object, shape: Tuple[int, ...]) -> Lod:
    """Read the JSON form of sequences, a list of offsets for each level; None for none.  Raises AgentError."""
    if value is None:
        return ()
    try:
        lod = tuple(tuple(whole(n) for n in items(level, MAX_LOD_OFFSETS)) for level in items(value, MAX_LOD_LEVELS))
    except ValueError:
        form = "the sequences (LoD) must be up to %d lists of up to %d offsets"
        raise NpzError(form % (MAX_LOD_LEVELS, MAX_LOD_OFFSETS)) from None
    check_lod(lod, shape)
    return lod


@dataclass(frozen=True)
class Array:
    """A dense tensor: `dtype` as numpy names it, `shape`, and its items in C order, little-endian.

    `lod` holds, for each level, the offsets at which the sequences of the first dimension begin, and the end; () for none.

    Raises AgentError when they do not fit together.
    """

    dtype: str
    shape: Tuple[int, ...]
    data: bytes
    lod: Lod = ()

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise NpzError("arrays of type %s are not supported; use one of %s" % (self.dtype, ", ".join(DTYPES)))
        if any(d < 0 for d in self.shape) or self.count * DTYPES[self.dtype] != len(self.data):
            raise NpzError(
                "%d bytes of data do not make a %s array of shape %s" % (len(self.data), self.dtype, list(self.shape))
            )
        if self.lod:
            check_lod(self.lod, self.shape)

    @property
    def count(self) -> int:
        """Number of items."""
        count = 1
        for dim in self.shape:
            count *= dim
        return count


def read_npz(source: Union[str, "os.PathLike[str]", bytes]) -> Dict[str, Array]:
    """Return the arrays of a .npz by name, in the file's own order.

    `source` is a path or the file's bytes.  Raises AgentError: not a zip, damaged, too large, pickled objects.
    """
    label = "the .npz" if isinstance(source, bytes) else os.fspath(source)
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else open_regular(source) as stream:
            size = stream.seek(0, os.SEEK_END)
            if size > MAX_TOTAL:
                raise NpzError("%s holds %d bytes; at most %d are read" % (label, size, MAX_TOTAL))
            with zipfile.ZipFile(stream) as archive:
                return _with_lods(_read_members(archive, label), label)
    except NpzError:
        raise
    except OSError as err:
        raise NpzError("%s cannot be read: %s" % (label, err.strerror or err)) from err
    except (zipfile.BadZipFile, zlib.error, ValueError, struct.error, EOFError, RuntimeError, IndexError) as err:
        # NotImplementedError (an exotic zip) and UnicodeDecodeError are among these; IndexError: a member without a name.
        raise NpzError("%s cannot be read as .npz: %s. Save it with numpy.savez." % (label, err)) from err


def _read_members(archive: zipfile.ZipFile, label: str) -> Dict[str, Array]:
    members = archive.infolist()
    total = sum(m.file_size for m in members)
    if len(members) > _MAX_ARRAYS or total > MAX_TOTAL:
        raise NpzError(
            "%s unpacks to %d arrays and %d bytes; at most %d and %d are read"
            % (label, len(members), total, _MAX_ARRAYS, MAX_TOTAL)
        )
    arrays: Dict[str, Array] = {}
    for member in members:
        name = member.filename[:-4] if member.filename.endswith(".npy") else ""
        if not name or len(name) > 256 or not name.isprintable() or name in arrays:
            raise NpzError("%s holds %r, which is not an array's name or occurs twice" % (label, member.filename[:80]))
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise NpzError("%s: array %r is compressed in a way that numpy never writes" % (label, name))
        with archive.open(member) as stream:
            # ZipExtFile never returns more than the declared size, and checks the CRC at the end.
            arrays[name] = read_npy(stream.read(member.file_size + 1), "%s: array %r" % (label, name))
    return arrays


def _with_lods(arrays: Dict[str, Array], label: str) -> Dict[str, Array]:
    """Return arrays without those that hold others' sequences (NAME@lod0: the outermost level), which get them."""
    levels: Dict[str, Dict[int, Tuple[int, ...]]] = {}
    for name in list(arrays):
        found = _LOD.fullmatch(name)
        if found is not None and found.group(1) in arrays:
            levels.setdefault(found.group(1), {})[int(found.group(2))] = _offsets(arrays.pop(name), label)
    for name, by_level in levels.items():
        if sorted(by_level) != list(range(len(by_level))):
            raise NpzError("%s: array %r lacks a level of its sequences (LoD)" % (label, name))
        lod = tuple(by_level[level] for level in sorted(by_level))
        arrays[name] = replace(arrays[name], lod=lod)
    return arrays


def _offsets(value: Array, label: str) -> Tuple[int, ...]:
    if value.dtype != "int64" or len(value.shape) != 1:
        raise NpzError("%s: the sequences (LoD) of an array must be a row of int64" % label)
    return struct.unpack("<%dq" % value.count, value.data)


def read_npy(data: bytes, label: str = "the .npy") -> Array:
    """Return the array of one .npy file's bytes.  Raises AgentError."""
    if data[:6] != _MAGIC or len(data) < 12:
        raise NpzError("%s is not in the .npy format" % label)
    major = data[6]
    start = 10 if major == 1 else 12
    length = struct.unpack_from("<H" if major == 1 else "<I", data, 8)[0]
    if major not in (1, 2, 3) or length > _MAX_HEADER or start + length > len(data):
        header_text = "version %d and %d bytes" % (major, length)
        raise NpzError("%s has a .npy header of %s, which is damaged or hostile" % (label, header_text))
    header = _parse_header(data[start : start + length], label)
    dtype, big_endian = _dtype_of(header["descr"], label)
    shape = _check_shape(header["shape"], header["fortran_order"], label)
    try:
        body = Array(dtype, shape, data[start + length :])
    except NpzError as err:
        raise NpzError("%s: %s" % (label, err)) from err
    return Array(dtype, shape, _swapped(body.data, DTYPES[dtype])) if big_endian else body


def _parse_header(raw: bytes, label: str) -> Dict[str, object]:
    try:
        header = ast.literal_eval(raw.decode("utf-8").strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as err:
        raise NpzError("%s has a .npy header that cannot be parsed" % label) from err
    if not isinstance(header, dict) or not {"descr", "fortran_order", "shape"} <= set(header):
        raise NpzError("%s has a .npy header that lacks descr, fortran_order or shape" % label)
    return header


def _dtype_of(descr: object, label: str) -> Tuple[str, bool]:
    """Return numpy's name for a descr such as '<f4', and whether its items are big-endian."""
    if isinstance(descr, str) and "O" in descr:
        raise NpzError("%s holds Python objects (a pickle), which are never loaded. Save plain numbers." % label)
    name = ""
    if isinstance(descr, str) and len(descr) == 3 and descr[0] in "<>|=" and descr[2] in "1248":
        base = _LETTERS.get(descr[1], "")
        name = base if base == "bool" else "%s%d" % (base, 8 * int(descr[2]))
    if name not in DTYPES:
        raise NpzError("%s has type %s; supported are %s" % (label, str(descr)[:60], ", ".join(DTYPES)))
    return name, isinstance(descr, str) and descr[0] == ">"


def _check_shape(shape: object, fortran: object, label: str) -> Tuple[int, ...]:
    try:
        dims = tuple(whole(dim, 0, MAX_TOTAL) for dim in items(shape if isinstance(shape, tuple) else None, _MAX_RANK))
    except ValueError:
        raise NpzError("%s has the shape %s, which no tensor has" % (label, str(shape)[:60])) from None
    if fortran and sum(1 for d in dims if d > 1) > 1:
        raise NpzError("%s is stored in Fortran order. Save it as numpy.ascontiguousarray(x)." % label)
    return dims


def _swapped(data: bytes, size: int) -> bytes:
    if size not in _SWAPS:
        return data
    values = array.array(_SWAPS[size])
    values.frombytes(data)
    values.byteswap()
    return values.tobytes()


def _descr(dtype: str) -> str:
    size = DTYPES[dtype]
    return "%s%s%d" % ("|" if size == 1 else "<", dtype[0], size)


def _npy_bytes(value: Array) -> bytes:
    shape = "(%s)" % "".join("%d, " % d for d in value.shape).rstrip(" ")
    header = "{'descr': '%s', 'fortran_order': False, 'shape': %s, }" % (_descr(value.dtype), shape)
    padding = -(len(_MAGIC) + 4 + len(header) + 1) % 64
    text = (header + " " * padding + "\n").encode("latin-1")
    return _MAGIC + b"\x01\x00" + struct.pack("<H", len(text)) + text + value.data


def npz_bytes(arrays: Mapping[str, Array]) -> bytes:
    """Return the bytes of a .npz: the same arrays in the same order give the same bytes, on every machine.

    The order is kept because outputs may be matched by position; nothing is compressed, because zlib builds differ.
    """
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, value in _and_lods(arrays):
            info = zipfile.ZipInfo(name + ".npy", _FIXED_DATE)
            info.create_system = 3  # Unix, wherever it is written
            info.external_attr = 0o644 << 16
            archive.writestr(info, _npy_bytes(value))
    return out.getvalue()


def _and_lods(arrays: Mapping[str, Array]) -> Iterator[Tuple[str, Array]]:
    for name, value in arrays.items():
        yield name, value
        for number, level in enumerate(value.lod):
            yield "%s@lod%d" % (name, number), Array("int64", (len(level),), struct.pack("<%dq" % len(level), *level))


def write_npz(stream: BinaryIO, arrays: Mapping[str, Array]) -> None:
    """Write a .npz (see npz_bytes) to an open binary file; `releases.atomic.atomic_file` gives one.  Raises OSError."""
    stream.write(npz_bytes(arrays))


def native(data: bytes, size: int) -> bytes:
    """Return little-endian items of `size` bytes each in this machine's own byte order."""
    return data if sys.byteorder == "little" else _swapped(data, size)
