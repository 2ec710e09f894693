"""Weights compressed in byte planes: of floating-point numbers, the exponents' bytes are alike, and the others are noise.

New bytes are cut into blocks.  A block is sent as a byte, its stride (1, 2 or 4), and as so many planes: every 4th byte from the
first one on, every 4th from the second one on, and so forth.  The agent's releases/rebuild.py puts the blocks together again.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence

BLOCK = 64 << 10  # bytes; with 256 KiB, PP-OCR's models take up to 2 % more
_STRIDES = (2, 4)  # beside 1: of float16 and float32
_SAMPLES, _SAMPLE = 4, 4 << 10  # of a block, and bytes of one, from which the stride is estimated
_WORTH = 0.98  # of what samples take without planes: above it the planes are not worth the device's work


def in_planes(pieces: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Yield each block as its parts: the stride and the first plane, then the other planes."""
    for block in _blocks(pieces):
        stride = _stride(block)
        parts = [block[place::stride] for place in range(stride)]
        parts[0] = bytes([stride]) + parts[0]
        yield parts


def deflated_planes(head: bytes, blocks: Iterable[Sequence[bytes]], level: int) -> Iterator[bytes]:
    """Yield a zlib stream of `head` and of the blocks' parts.

    Each part is a piece of its own that refers to no other: a reader sees one ordinary stream.
    """
    total = zlib.adler32(head)
    yield b"\x78\xda"
    yield _packed(head, level, zlib.Z_DEFAULT_STRATEGY)
    for parts in blocks:
        # in planes hardly anything repeats, and Huffman codes alone are smaller, and faster for both sides
        strategy = zlib.Z_HUFFMAN_ONLY if len(parts) > 1 else zlib.Z_DEFAULT_STRATEGY
        for part in parts:
            total = zlib.adler32(part, total)
            yield _packed(part, level, strategy)
    yield zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS).flush() + total.to_bytes(4, "big")


def _packed(part: bytes, level: int, strategy: int) -> bytes:
    packer = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS, 9, strategy)
    return packer.compress(part) + packer.flush(zlib.Z_FULL_FLUSH)


def _stride(block: bytes) -> int:
    """Return the stride whose planes are estimated to compress best."""
    starts = range(0, len(block), max(len(block) // _SAMPLES // 4 * 4, _SAMPLE))
    sample = b"".join(block[start : start + _SAMPLE] for start in starts)
    stride, least = 1, _WORTH * len(_packed(sample, 1, zlib.Z_DEFAULT_STRATEGY))
    for other in _STRIDES:
        size = sum(len(_packed(sample[place::other], 1, zlib.Z_HUFFMAN_ONLY)) for place in range(other))
        if size < least:
            stride, least = other, size
    return stride


def _blocks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    held = bytearray()
    for piece in pieces:
        held += piece
        while len(held) >= BLOCK:
            yield bytes(held[:BLOCK])
            del held[:BLOCK]
    if held:
        yield bytes(held)
