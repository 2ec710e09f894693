"""Reads the first 26 bytes of a .nb file: layout version, the version of opt that wrote it, length of the topology."""

import struct
from typing import NamedTuple, Union

from .flatbuffer import NbError

Bytes = Union[bytes, bytearray, memoryview]

HEADER_SIZE = 26  # u16 meta_version | char[16] opt_version | u64 topology size
VERSION_END = 18
KNOWN = (1, 2)


class Header(NamedTuple):
    """The header of a .nb file."""

    meta_version: int  # 1 or 2
    opt_version: str  # "v2.13-rc"; a commit hash or "" for untagged builds
    topology_size: int  # bytes


def read_header(data: Bytes) -> Header:
    """Read and check the header.  Raises NbError, whose text names the format that the file seems to have."""
    view = memoryview(data)
    if len(view) < 2:
        raise NbError("The file has %d bytes: too few for any .nb." % len(view), "LF106")
    meta = struct.unpack_from("<H", view, 0)[0]
    field = bytes(view[2:VERSION_END]).split(b"\0", 1)[0]
    if meta > 99 or not all(32 <= byte < 127 for byte in field):
        raise NbError("The file begins with %s, which is no .nb header." % _shown(bytes(view[:8])), "LF106")
    if meta not in KNOWN:
        raise NbError("The file has layout version %d; versions 1 and 2 are known." % meta, "LF107")
    if len(view) < HEADER_SIZE:
        raise NbError("The file ends after %d bytes, in the middle of its header." % len(view))
    size = struct.unpack_from("<Q", view, VERSION_END)[0]
    if size > len(view) - HEADER_SIZE:
        raise NbError(
            "The file has %d bytes, but its header announces a table of contents of %d: it is truncated or damaged."
            % (len(view), size)
        )
    return Header(meta, field.decode("ascii"), size)


def normalised_version(data: Bytes) -> bytes:
    """Return the first 18 bytes with zeros after the version's NUL, where opt leaves bytes of its stack."""
    head = bytes(memoryview(data)[:VERSION_END])
    meta, field = head[:2], head[2:].split(b"\0", 1)[0]
    return meta + field.ljust(VERSION_END - 2, b"\0")


def normalise(data: Bytes) -> bytes:
    """Return the file with its header's unused bytes zeroed, so that equal conversions give equal bytes.

    Raises NbError when the header is not that of a .nb file.
    """
    read_header(data)
    return normalised_version(data) + bytes(memoryview(data)[VERSION_END:])


def _shown(start: bytes) -> str:
    known = {
        b"\x7fELF": "an ELF binary's magic",
        b"PK\x03\x04": "a zip archive's magic",
        b"\x1f\x8b": "a gzip file's magic",
    }
    for magic, words in known.items():
        if start.startswith(magic):
            return words
    return "the bytes %s" % " ".join("%02x" % byte for byte in start)
