"""A transfer that was cut goes on where it was: the device says what it has of a blob, and only the rest is sent.

What it has counts when its hash is that of the file's first bytes; the device hashes the whole before it counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Protocol

from litefleet_agent.formats.checked import is_sha

from ..common.checked import mapping_or_empty, sequence_or_empty
from .agent_client import Request

# Bytes of a delta that is sent as a blob of its own, so that it goes on after a cut; smaller ones begin again.
_LEAST_STEPS = 64 << 10
_CHUNK = 1 << 20  # bytes hashed at once


class Asker(Protocol):
    """An open session with a device."""

    hello: Mapping[str, object]

    async def ask(self, *requests: Request, limit_s: float = 0.0) -> list[dict[str, object]]:
        """Send requests and return their results."""


def parts_of(hello: Mapping[str, object]) -> dict[str, int]:
    """Return what a device has of blobs whose transfer was cut: SHA-256 to bytes."""
    told = mapping_or_empty(hello.get("parts"))
    return {sha: size for sha, size in told.items() if is_sha(sha) and type(size) is int and size > 0}


async def continued(session: Asker, requests: Sequence[Request], limit_s: float = 0.0) -> list[Request]:
    """Return the same requests, as far as possible without the bytes that the device has.

    One round trip, only where the device has a part of a blob that is to be sent.  Raises as `session.ask`.
    """
    requests = _without_whole(session.hello, _apart(requests)) if "parts" in session.hello else list(requests)
    parts = parts_of(session.hello)
    begun = [i for i, request in enumerate(requests) if request.op == "put" and request.fields["sha256"] in parts]
    if not begun:
        return requests
    told = await session.ask(
        *(Request("part", {"sha256": requests[i].fields["sha256"]}) for i in begun), limit_s=limit_s
    )
    for index, part in zip(begun, told, strict=True):
        requests[index] = await asyncio.to_thread(_rest, requests[index], part)
    return requests


def _apart(requests: Sequence[Request]) -> list[Request]:
    """Return the requests, with a large delta before its request as a blob of its own."""
    found: list[Request] = []
    for request in requests:
        if request.op == "rebuild" and request.body is not None and request.size >= _LEAST_STEPS:
            of_bytes = isinstance(request.body, bytes)
            steps = _hash_of_steps(request.body) if of_bytes else _hash_of(request.body, request.size)
            found.append(Request("put", {"sha256": steps}, request.body))
            request = Request("rebuild", {**request.fields, "steps": steps})
        found.append(request)
    return found


def _without_whole(hello: Mapping[str, object], requests: Sequence[Request]) -> list[Request]:
    """Return the requests without deltas that the device has whole, since the connection was cut while it used them.

    Freeing space must leave these there: no release names them.
    """
    blobs = mapping_or_empty(hello.get("blobs"))
    used = {request.fields.get("steps") for request in requests if request.op == "rebuild"}
    there = [
        request.fields["sha256"]
        for request in requests
        if request.op == "put"
        and request.fields["sha256"] in used
        and blobs.get(str(request.fields["sha256"])) == request.size
    ]
    if not there:
        return list(requests)
    left = (request for request in requests if request.op != "put" or request.fields["sha256"] not in there)
    return [_leaving(request, there) if request.op == "room" else request for request in left]


def _leaving(room: Request, blobs: Sequence[object]) -> Request:
    wanted = sequence_or_empty(room.fields.get("wanted"))
    return Request("room", {**room.fields, "wanted": [*wanted, *blobs]})


@lru_cache(maxsize=8)
def _hash_of_steps(body: bytes) -> str:
    """Return the SHA-256 of a delta, which many devices get."""
    return sha256(body).hexdigest()


def _rest(request: Request, part: Mapping[str, object]) -> Request:
    """Return a `put` from where the device's part ends, or as it is where that part is not the file's beginning."""
    size, named = part.get("size"), part.get("sha256")
    if type(size) is not int or not 0 < size <= request.size or _hash_of(request.body, size) != named:
        return request
    return replace(request, fields={**request.fields, "offset": size}, start=size)


def _hash_of(body: Path | bytes | None, size: int) -> str:
    """Return the SHA-256 of a body's first `size` bytes."""
    if not isinstance(body, Path):
        return sha256((body or b"")[:size]).hexdigest()
    digest = sha256()
    with body.open("rb") as file:
        while size and (piece := file.read(min(size, _CHUNK))):
            digest.update(piece)
            size -= len(piece)
    return digest.hexdigest()
