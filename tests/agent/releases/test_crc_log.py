"""Lines that stand for themselves: any damage costs the lines that it touches."""

import json
import os
import random
import zlib

import pytest
from litefleet_agent.releases.crc_log import CrcLog

LOG = CrcLog(longest=1000)
ENTRIES = [{"n": n, "text": "ä\n€" * n} for n in range(1, 6)]


def lines():
    return [LOG.encode(entry) for entry in ENTRIES]


def test_the_bytes_are_those_of_older_agents():
    data = b'{"a":1,"b":"\\u00e4"}'
    assert CrcLog.encode({"b": "ä", "a": 1}) == b"%08x %s\n" % (zlib.crc32(data), data)


def test_a_whole_log_is_read_whole():
    data = b"".join(lines())
    scan = LOG.scan(data)
    assert scan.entries == ENTRIES
    assert (scan.damaged, scan.intact_end, scan.complete_end) == (0, len(data), len(data))
    assert LOG.scan(b"") == ([], 0, 0, 0)


def test_a_torn_last_line_is_not_counted_as_damage():
    data = b"".join(lines())
    first_four = len(b"".join(lines()[:4]))
    for cut in range(first_four, len(data)):
        scan = LOG.scan(data[:cut])
        assert scan == (ENTRIES[:4], 0, first_four, first_four)
    torn = data + b"00000000 torn\n"  # with its newline, as a file system may leave it
    scan = LOG.scan(torn)
    assert (scan.damaged, scan.intact_end, scan.complete_end) == (0, len(data), len(torn))


@pytest.mark.parametrize("seed", range(30))
def test_a_damaged_byte_costs_its_line(seed):
    chance = random.Random(seed)
    data = bytearray(b"".join(lines()))
    place = chance.randrange(len(data))
    data[place] ^= 1 << chance.randrange(8)
    entries = LOG.scan(bytes(data)).entries
    assert len(entries) >= 3  # a newline that is gone costs two lines
    assert [entry for entry in ENTRIES if entry in entries] == entries


def test_intact_lines_without_an_object_are_damage_and_long_ones_are_not_read():
    def framed(data):
        return b"%08x %s\n" % (zlib.crc32(data), data)

    deep = b"[" * 500 + b"]" * 500
    hostile = framed(b"[1]") + framed(b"nonsense") + framed(b"\xff") + framed(deep)
    scan = LOG.scan(hostile + lines()[0])
    assert scan.entries == ENTRIES[:1]
    assert scan.damaged == 4
    long = framed(json.dumps({"a": "x" * 1000}).encode())
    assert LOG.scan(long).entries == []
    assert LOG.scan(framed(b'{"a":' + b"[" * 400 + b"]" * 400 + b"}")).damaged in (0, 1)


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(lines()[0])
    fd = os.open(path, os.O_RDWR | os.O_APPEND)
    try:
        CrcLog.write(fd, len(lines()[0]), lines()[1])
    finally:
        os.close(fd)
    assert path.read_bytes() == lines()[0] + lines()[1]
    read_only = os.open(path, os.O_RDONLY)
    try:
        with pytest.raises(OSError):
            CrcLog.write(read_only, 0, lines()[2])
    finally:
        os.close(read_only)
    assert LOG.scan(path.read_bytes()).entries == ENTRIES[:2]
