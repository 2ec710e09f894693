"""Brings a release's files to a device, in the way that takes the fewest bytes; that activates nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from ..common.checked import mapping_or_empty
from .agent_client import Request, RequestRejected
from .deliver import deltas, for_neighbours, packed, with_blobs
from .release import Release
from .resume import continued
from .site_cache import LEAST_SIZE
from .visit import DeviceSession


async def made_there(session: DeviceSession, built: Release, room: list[Request], limit_s: float) -> list[Request]:
    """Bring files that neighbours have or that the device makes from its own, and return what is left of `room`.

    `room` frees space for them; it is asked before the first file.  `limit_s`: seconds for each file.  Raises as `session.ask`.
    """
    if await _from_the_site(session, built, room):
        room = []
    if not mapping_or_empty(session.hello.get("blobs")):
        return room  # nothing to copy from: on a first contact, no thread has to look
    if requests := await asyncio.to_thread(deltas, session.hello, built):
        await _rebuild(session, room, requests, limit_s)
        room = []
    return room


async def smallest(session: DeviceSession, built: Release, requests: Sequence[Request]) -> list[Request]:
    """Return the requests with files compressed where that pays, without the bytes that are there of a cut transfer."""
    return await continued(session, await asyncio.to_thread(packed, session.hello, session.facts.disk, built, requests))


async def _from_the_site(session: DeviceSession, built: Release, room: Sequence[Request]) -> bool:
    """Bring large files from a neighbour, or as the first one of its site; return whether space was freed for that."""
    cache = session.session_factory.site_cache
    if cache is None or not cache.serves(session):
        return False
    large, sizes = await asyncio.to_thread(for_neighbours, session.hello, session.facts.disk, built, LEAST_SIZE)
    if not large:
        return False
    if room:
        await session.ask(*room)
    await cache.bring(session, large, sizes)
    return True


async def _rebuild(
    session: DeviceSession, room: Sequence[Request], requests: Sequence[Request], limit_s: float
) -> None:
    """Free space, and let the device make files from those that it holds; one that it cannot make is sent whole later."""
    if room:
        await session.ask(*room)
    for request in requests:
        with suppress(RequestRejected):
            sent = await continued(session, [request])
            await session.ask(*sent, limit_s=limit_s)
            made = {str(request.fields["sha256"]): request.fields["size"]}
            session.hello = with_blobs(session.hello, made)
