"""What is sent of a blob that the device has in part."""

from __future__ import annotations

import asyncio
import random
from hashlib import sha256
from pathlib import Path

import pytest
from litefleet_agent.facts import Facts
from litefleet_controller.devices.agent_client import Request
from litefleet_controller.devices.deliver import space_finding
from litefleet_controller.devices.release import Release
from litefleet_controller.devices.resume import continued

DATA = random.Random(5).getrandbits(8 * 300_000).to_bytes(300_000, "big")
NAME = sha256(DATA).hexdigest()


class Device:
    """A session with a device that has the beginning of a blob."""

    def __init__(self, has: bytes | None) -> None:
        self.has = has
        self.hello = {"blobs": {}} if has is None else {"blobs": {}, "parts": {NAME: len(has)} if has else {}}
        self.asked: list[Request] = []

    async def ask(self, *requests: Request, limit_s: float = 0.0) -> list[dict[str, object]]:
        self.asked += requests
        assert self.has is not None
        return [{"size": len(self.has), "sha256": sha256(self.has).hexdigest()} for _ in requests]


def requests(tmp_path: Path) -> list[Request]:
    (tmp_path / NAME).write_bytes(DATA)
    return [Request("put", {"sha256": "1" * 64}, b"other"), Request("put", {"sha256": NAME}, tmp_path / NAME)]


@pytest.mark.parametrize("size", [1, 65_536, 299_999, 300_000])
def test_only_the_rest_is_sent(tmp_path: Path, size: int) -> None:
    device = Device(DATA[:size])
    first, second = asyncio.run(continued(device, requests(tmp_path)))
    assert [(r.op, r.fields) for r in device.asked] == [("part", {"sha256": NAME})]
    assert first.size == 5
    assert (second.fields, second.start, second.size) == ({"sha256": NAME, "offset": size}, size, 300_000 - size)


@pytest.mark.parametrize("has", [None, b"", b"something else", DATA + b"more", DATA[1:]])
def test_what_is_not_the_files_beginning_is_sent_whole(tmp_path: Path, has: bytes | None) -> None:
    sent = asyncio.run(continued(Device(has), requests(tmp_path)))
    assert sent == requests(tmp_path)


def test_a_large_delta_goes_ahead_as_a_blob_of_its_own() -> None:
    small, large = (Request("rebuild", {"sha256": "2" * 64}, DATA[:size]) for size in (60_000, 299_000))
    steps = sha256(DATA[:299_000]).hexdigest()
    apart = [Request("put", {"sha256": steps}, large.body), Request("rebuild", {"sha256": "2" * 64, "steps": steps})]
    assert asyncio.run(continued(Device(b""), [small, large])) == [small, *apart]
    assert asyncio.run(continued(Device(None), [small, large])) == [small, large]  # an older agent
    device = Device(DATA[:200_000])
    device.hello["parts"] = {steps: 200_000}
    assert [r.size for r in asyncio.run(continued(device, [large]))] == [99_000, 0]


def test_a_delta_that_came_whole_before_the_cut_is_left_there_and_not_sent_again() -> None:
    large, room = Request("rebuild", {"sha256": "2" * 64}, DATA), Request("room", {"bytes": 5, "wanted": ["2" * 64]})
    apart = Request("rebuild", {"sha256": "2" * 64, "steps": NAME})
    device = Device(b"")
    device.hello["blobs"] = {NAME: len(DATA)}
    sent = asyncio.run(continued(device, [room, large]))
    assert sent == [Request("room", {"bytes": 5, "wanted": ["2" * 64, NAME]}), apart]
    device.hello["blobs"] = {NAME: len(DATA) - 1}
    assert [request.op for request in asyncio.run(continued(device, [room, large]))] == ["room", "put", "rebuild"]


def test_the_space_for_a_part_is_not_needed_twice(tmp_path: Path) -> None:
    built = Release("3" * 64, blobs={NAME: tmp_path / NAME})
    (tmp_path / NAME).write_bytes(DATA)
    facts = Facts.from_dict({"disk": {"free": 150_000}})
    assert space_finding(facts, Device(b"").hello, built) is not None
    assert space_finding(facts, Device(DATA[:200_000]).hello, built) is None
