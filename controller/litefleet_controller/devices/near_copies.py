"""Copies that are nearly right: parts of a file that a base has with other bytes here and there, such as the offsets of a graph.

Between the exact copies of a converted model lies its graph (a flatbuffer), in which another opt version or target moves offsets:
few stretches are equal, nearly all are similar.  Such a stretch is copied, and the differences of its bytes are added; these are
mostly zeros, and compress well.  The search is that of bsdiff (Colin Percival, 2003) within what exact copies leave over.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from operator import eq
from typing import NamedTuple, TypeAlias

Content: TypeAlias = bytes | mmap.mmap  # a slice of either is bytes

_MOST = 512 << 10  # bytes that exact copies leave over: above it the search would take seconds and a hundred MB
_SEED, _STRIDE = 8, 4  # bytes that begin a match; from one seed of a base to the next: flatbuffers align to 4
_PLACES = 8  # of one seed that are tried
_LOOKED_AT = 512  # bytes of a match that are compared before it is chosen
_BETTER = 12  # bytes that a new alignment must fit more than the one before; 8 makes 20 % more steps, which cost more


class Copy(NamedTuple):
    """Bytes of a file that come from a base; with `near`, differences are added to them."""

    at: int  # offset in the file
    base: int  # index
    start: int  # offset in the base
    length: int  # bytes
    near: bool = False


class _Fit(NamedTuple):
    """From `at` on, the file is like base `base` at the same offsets plus `shift`."""

    at: int
    base: int
    shift: int


def with_near_copies(data: Content, bases: Sequence[Content], exact: Sequence[Copy]) -> list[Copy]:
    """Return these exact copies and nearly right ones between them, in the file's order; none where too much is left."""
    gaps = _gaps(len(data), exact)
    seeds = _seeds(bases, exact)
    if not exact or not seeds or sum(end - start for start, end, _, _ in gaps) > _MOST:
        return list(exact)
    copies: list[Copy] = []
    for start, end, before, after in gaps:
        fits = [_Fit(start, before.base, before.start - before.at)] if before else []
        fits += _fits(data, bases, seeds, start, end, fits[0] if fits else None)
        copies += _joined(_between(data, bases, start, end, fits, after))
        copies += [after] if after else []
    return copies


def differences(data: Content, bases: Sequence[Content], copies: Sequence[Copy]) -> bytes:
    """Return what is to be added to the bytes of the nearly right copies, modulo 256, one after another."""
    out = bytearray()
    for copy in copies:
        if copy.near:
            new, old = data[copy.at : copy.at + copy.length], bases[copy.base][copy.start : copy.start + copy.length]
            out += bytes((a - b) & 255 for a, b in zip(new, old, strict=True))
    return bytes(out)


_Gap: TypeAlias = tuple[int, int, Copy | None, Copy | None]  # where it begins and ends, the copies before and after it


def _gaps(size: int, exact: Sequence[Copy]) -> list[_Gap]:
    starts = [0, *(copy.at + copy.length for copy in exact)]
    ends = [*(copy.at for copy in exact), size]
    return list(zip(starts, ends, [None, *exact], [*exact, None], strict=True))


def _seeds(bases: Sequence[Content], exact: Sequence[Copy]) -> dict[bytes, list[tuple[int, int]]]:
    """Return where seeds lie in what is left over of the bases that are copied from; none where that is too much."""
    seeds: dict[bytes, list[tuple[int, int]]] = {}
    left = _MOST
    for index in sorted({copy.base for copy in exact}):
        base = bases[index]
        place = 0
        ends = [(copy.start, copy.start + copy.length) for copy in exact if copy.base == index]
        for start, end in [*sorted(ends), (len(base), len(base))]:
            left -= max(0, start - place)
            if left < 0:
                return {}
            for offset in range(place, start - _SEED + 1, _STRIDE):
                seed = base[offset : offset + _SEED]
                if seed[1:] != seed[:-1]:
                    seeds.setdefault(seed, []).append((index, offset))
            place = max(place, end)
    return seeds


def _fits(
    data: Content,
    bases: Sequence[Content],
    seeds: dict[bytes, list[tuple[int, int]]],
    position: int,
    end: int,
    fit: _Fit | None,
) -> Iterator[_Fit]:
    """Yield where a gap begins to be like another place of a base than before."""
    while position + _SEED <= end:
        here = data[position : min(position + _LOOKED_AT, end)]
        held = _like(bases, fit, position, len(here))
        same = _prefix(here, held)
        if same >= _SEED:
            position += same
            continue
        best, length = None, 0
        for base, start in seeds.get(here[:_SEED], ())[:_PLACES]:
            found = _prefix(here, bases[base][start : start + len(here)])
            if found > length:
                best, length = _Fit(position, base, start - position), found
        if best is not None and length > sum(map(eq, here[:length], held)) + _BETTER:
            yield best
            fit = best
            position += length
        else:
            position += 1


def _like(bases: Sequence[Content], fit: _Fit | None, at: int, length: int) -> bytes:
    """Return the bytes of the base that a fit sets against the file's from `at` on; fewer at the base's end."""
    if fit is None or at + fit.shift < 0:
        return b""
    return bases[fit.base][at + fit.shift : at + fit.shift + length]


def _prefix(a: bytes, b: bytes) -> int:
    """Return how many bytes two texts have in common at their beginnings."""
    if a[:_SEED] != b[:_SEED]:
        return 0
    for place, (one, other) in enumerate(zip(a, b, strict=False)):
        if one != other:
            return place
    return min(len(a), len(b))


def _between(
    data: Content, bases: Sequence[Content], start: int, end: int, fits: Sequence[_Fit], after: Copy | None
) -> Iterator[Copy]:
    """Yield the copies of a gap: each fit goes on forwards, and the next one backwards, while most bytes are right."""
    last = _Fit(end, after.base, after.start - after.at) if after else None
    before = None
    for fit in [*fits, last]:
        stop = fit.at if fit else end
        if before is not None or fit is not None:
            new = data[start:stop]
            ahead, back = _ahead(new, bases, before, start), _back(new, bases, fit, start)
            if ahead + back > len(new):
                ahead = _split(new, bases, before, fit, start, len(new) - back, ahead)
                back = len(new) - ahead
            if before is not None and ahead:
                yield Copy(start, before.base, start + before.shift, ahead, True)
            if fit is not None and back:
                yield Copy(stop - back, fit.base, stop - back + fit.shift, back, True)
        before, start = fit, stop


def _ahead(new: bytes, bases: Sequence[Content], fit: _Fit | None, start: int) -> int:
    """Return how far a fit goes on from `start`: where its right bytes outnumber the wrong ones by most."""
    return _furthest(new, _like(bases, fit, start, len(new)))


def _back(new: bytes, bases: Sequence[Content], fit: _Fit | None, start: int) -> int:
    """Return how far a fit reaches back from the end of the bytes that begin at `start`."""
    if fit is None:
        return 0
    first = max(start, -fit.shift)
    old = _like(bases, fit, first, start + len(new) - first)
    if len(old) < start + len(new) - first:
        return 0
    return _furthest(new[::-1], old[::-1])


def _furthest(a: bytes, b: bytes) -> int:
    score = best = length = 0
    for place, same in enumerate(map(eq, a, b), 1):
        score += 1 if same else -1
        if score > best:
            best, length = score, place
    return length


def _split(
    new: bytes, bases: Sequence[Content], before: _Fit | None, fit: _Fit | None, start: int, low: int, high: int
) -> int:
    """Return where, from `low` to `high` of the bytes, the fit before ends and the next one begins: where most are right."""
    old, other = (_like(bases, f, start + low, high - low) for f in (before, fit))
    score = best = 0
    place = low
    for offset, (byte, one, two) in enumerate(zip(new[low:high], old, other, strict=False), low + 1):
        score += (byte == one) - (byte == two)
        if score > best:
            best, place = score, offset
    return place


def _joined(copies: Iterator[Copy]) -> list[Copy]:
    """Return copies of which none goes on where the one before ends, in the file and in the base."""
    joined: list[Copy] = []
    for copy in copies:
        last = joined[-1] if joined else None
        if last and last.base == copy.base and _end(last) == (copy.at, copy.start):
            joined[-1] = last._replace(length=last.length + copy.length)
        else:
            joined.append(copy)
    return joined


def _end(copy: Copy) -> tuple[int, int]:
    return copy.at + copy.length, copy.start + copy.length
