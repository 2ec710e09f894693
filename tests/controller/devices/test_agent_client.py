"""A conversation with one agent, against a scripted peer: every way in which bytes may come, or not come."""

from __future__ import annotations

import asyncio
import hashlib
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from litefleet_agent.protocol import MAX_HEADER, ProtocolError, encode
from litefleet_controller.common.files import write_kept
from litefleet_controller.devices.agent_archive import AgentArchive
from litefleet_controller.devices.agent_client import AgentClient, Answer, NoPython, Opening, Request, RequestRejected
from litefleet_controller.devices.bootstrap import KEEPER, LINE_LIMIT, keeper
from litefleet_controller.devices.code_packs import CodePacks
from litefleet_controller.devices.transport.base import Channel, TransportError

from tests.fakes.scripted_channel import Say, ScriptedChannel
from tests.sim.virtual_loop import run

ARCHIVE = AgentArchive(b"the agent" * 100, hashlib.sha256(b"the agent" * 100).hexdigest())
OPENING = Opening("abc123", b"LOADER", encode({"id": 1, "op": "hello"}))
FIRST = len(OPENING.loader + OPENING.first)


def boot(text: str) -> bytes:
    return f"LFBOOT {OPENING.nonce} {text}\n".encode()


def result(number: int, **values: Any) -> bytes:
    return encode({"re": number, "result": values})


def start(
    *script: Say, limit_s: float = 5, archive: AgentArchive = ARCHIVE, **peer: Any
) -> tuple[dict[str, Any], AgentClient, ScriptedChannel]:
    async def go() -> tuple[dict[str, Any], AgentClient, ScriptedChannel]:
        fake = ScriptedChannel(script, **peer)
        channel: Channel = fake
        client = AgentClient(channel)
        return await client.start(OPENING, archive, limit_s), client, fake

    return asyncio.run(go())


def ask(requests: list[Request], *script: Say, limit_s: float = 5, **peer: Any) -> tuple[list[Any], bytes]:
    """Ask without a hello; return the answers and what the peer got."""

    async def go() -> tuple[list[Any], bytes]:
        channel = ScriptedChannel(script, **peer)
        return await AgentClient(channel).ask(requests, limit_s), bytes(channel.got)

    return asyncio.run(go())


def test_an_agent_that_is_there_answers_in_one_round_trip() -> None:
    hello, client, channel = start(Say(boot("have") + result(1, facts={}), after=FIRST))
    assert hello == {"facts": {}}
    assert bytes(channel.got) == OPENING.loader + OPENING.first
    assert (client.round_trips, client.sent_bytes) == (1, FIRST)


def test_an_agent_that_is_missing_is_sent_after_it_was_asked_for() -> None:
    script = [
        Say(boot("need"), after=FIRST),
        Say(boot("ready") + result(1, a=1), after=FIRST + len(KEEPER + ARCHIVE.data)),
    ]
    hello, client, channel = start(*script)
    assert hello == {"a": 1}
    assert bytes(channel.got) == OPENING.loader + OPENING.first + KEEPER + ARCHIVE.data
    assert (client.round_trips, client.sent_bytes) == (2, len(channel.got))


def test_the_agent_is_not_copied_for_each_device(monkeypatch: pytest.MonkeyPatch) -> None:
    taken, write = [], ScriptedChannel.write

    async def noted(channel: ScriptedChannel, data: bytes) -> None:
        taken.append(len(data))
        await write(channel, data)

    monkeypatch.setattr(ScriptedChannel, "write", noted)
    archive = replace(ARCHIVE, data=bytes(range(256)) * 2000)
    ready = Say(boot("ready") + result(1, a=1), after=FIRST + len(KEEPER + archive.data))
    _, _, channel = start(Say(boot("need"), after=FIRST), ready, archive=archive)
    assert bytes(channel.got).endswith(KEEPER + archive.data)
    assert max(taken) == 128 * 1024
    assert len(taken) == 5  # the opening, and four pieces: as many as the transport makes of one


def test_bytecode_is_sent_to_a_device_that_asks_for_what_was_offered(tmp_path: Path) -> None:
    packs = CodePacks(b"", ARCHIVE.sha256, tmp_path, lambda version: [])
    write_kept(tmp_path / f"code-{ARCHIVE.sha256}-cpython-311-a70d0d0a.z", b"the pack", "*.z", 1)
    archive = replace(ARCHIVE, packs=packs)
    sent = FIRST + len(keeper(8) + ARCHIVE.data)
    need, ready = Say(boot("need cpython-311 a70d0d0a"), after=FIRST), boot("ready") + result(1, a=1)
    hello, client, channel = start(
        need, Say(boot("code"), after=sent), Say(ready, after=sent + len(b"the pack")), archive=archive
    )
    assert hello == {"a": 1}
    assert bytes(channel.got) == OPENING.loader + OPENING.first + keeper(8) + ARCHIVE.data + b"the pack"
    assert (client.round_trips, client.sent_bytes) == (3, len(channel.got))
    _, _, channel = start(need, Say(ready, after=sent), archive=archive)
    assert bytes(channel.got).endswith(ARCHIVE.data), "it did not ask"
    for words in ("cpython-311 a80d0d0a", "cpython-312 a70d0d0a", "pypy-310 a70d0d0a", "cpython-311 ../../x", ""):
        need = Say(boot(f"need {words}".strip()), after=FIRST)
        _, _, channel = start(need, Say(ready, after=FIRST + len(KEEPER + ARCHIVE.data)), archive=archive)
        assert bytes(channel.got) == OPENING.loader + OPENING.first + KEEPER + ARCHIVE.data, words


def test_bytecode_that_was_not_offered_or_has_been_sent_is_not_sent(tmp_path: Path) -> None:
    with pytest.raises(ProtocolError, match="asks for bytecode that was not offered"):
        start(Say(boot("need cpython-311 a70d0d0a")), Say(boot("code"), after=FIRST + 1))
    with pytest.raises(ProtocolError, match="asks for bytecode that was not offered"):
        start(Say(boot("code")))


def test_chatter_before_the_answer_is_passed_over() -> None:
    chatter = b"Welcome to board\r\n\xff\xfe\n\nLFBOOT\nLFBOOT 000000 nopython\nLFBOOT abc1234 need\n"
    hello, _, _ = start(Say(chatter + boot("have") + result(1, a=1)))
    assert hello == {"a": 1}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"x" * 79 + b"\n", "another program than a shell reads"),
        (b"x", "instead of starting the agent"),
        (b"", "came before the agent's answer"),
    ],
)
def test_chatter_without_end_is_not_taken_for_an_agent(line: bytes, words: str) -> None:
    flood = line * (LINE_LIMIT // len(line) + 2) if line else b"".join(b"%078d\n" % n for n in range(900))
    with pytest.raises(ProtocolError, match=words):
        start(Say(flood), hangs=True)


@pytest.mark.parametrize(
    ("script", "exit_code", "stderr", "code", "words"),
    [
        (b"This account is currently not available.\n", 1, "", "LF510", "it said: This account is"),
        (b"", 127, "bash: sh: command not found", "LF510", "(exit code 127); it said: bash: sh: command not"),
        (b"", 0, "", "LF510", "it said nothing: a start-up file may `exit`"),
        (b"hello\n", 97, "", "LF510", "exec zsh"),
        (b"hello\n", None, "", "LF505", "it said: hello"),
        (boot("sh"), 1, "ModuleNotFoundError: No module named 'encodings'", "LF301", "lacks the module encodings"),
        (boot("sh"), 1, "Illegal option", "LF301", "ended with exit code 1 before the agent began"),
        (boot("sh"), 137, "Killed", "LF505", "(exit code 137); it said: Killed"),
        (boot("sh") + boot("have"), 1, "Traceback", "LF505", "Traceback"),
        (boot("sh") + boot("nomodule zlib /usr/bin/python3 No module"), 1, "", "LF301", "opkg install python3-zlib"),
        (boot("sh") + boot("need") + boot("nomodule - - circular"), 1, "", "LF301", "circular"),
    ],
)
def test_what_a_login_said_before_no_agent_started(
    script: bytes, exit_code: int | None, stderr: str, code: str, words: str
) -> None:
    with pytest.raises(TransportError) as caught:
        start(Say(script) if script else Say(b"\n"), stderr=stderr, exit_code=exit_code)
    assert caught.value.found.code == code, caught.value.found
    assert words in caught.value.found.observed


def test_a_menu_is_known_by_its_answers_and_a_prompt_by_its_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ProtocolError, match="it said: ACME / unknown"):
        start(Say(b"ACME\n" + b"unknown\n" * 30), hangs=True)
    monkeypatch.setattr("litefleet_controller.devices.login_output._SILENCE_S", 0.05)
    with pytest.raises(TransportError) as caught:
        start(Say(b"1) status\n2) reboot\nchoice> "), hangs=True)
    assert caught.value.found.code == "LF507"
    assert "it said: 1) status / 2) reboot / choice>" in caught.value.found.observed
    with pytest.raises(TransportError) as caught:  # sh runs, and the line has broken within its first words
        start(Say(b"motd\nLFBO"), hangs=True, limit_s=0.3)
    assert caught.value.found.code == "LF506"
    slow = [Say(b"motd\n"), Say(boot("sh"))]
    with pytest.raises(TransportError) as caught:  # sh runs: then the step's own limit holds
        start(*slow, hangs=True, limit_s=0.3)
    assert caught.value.found.code == "LF506"


def test_what_a_device_said_is_bounded_and_printable() -> None:
    with pytest.raises(TransportError) as caught:
        start(Say(b"\x1b[2Jhello\n" + bytes(range(200, 256)) * 50 + b"\n"), exit_code=1)
    assert "\x1b" not in caught.value.found.observed
    assert len(caught.value.found.observed) < 600


def test_an_agent_is_not_sent_twice() -> None:
    with pytest.raises(ProtocolError, match="asks for the agent again"):
        start(Say(boot("need") + boot("need")), hangs=True)


def test_no_python_comes_with_what_sh_could_tell() -> None:
    with pytest.raises(NoPython) as caught:
        start(Say(boot('nopython machine=armv7l bits=32 libc=musl os="alpine"')))
    assert caught.value.facts == {"machine": "armv7l", "bits": "32", "libc": "musl", "os": "alpine"}


def test_an_answer_counts_though_the_device_hung_up_before_all_was_sent() -> None:
    with pytest.raises(NoPython):
        start(Say(boot("nopython machine=armv7l bits=32 libc=musl os=alpine")), breaks_after=0)
    with pytest.raises(TransportError) as caught:
        start(breaks_after=0)
    assert caught.value.found.observed == "the connection broke while sending: scripted"


def test_an_agent_that_can_not_be_stored_says_why() -> None:
    with pytest.raises(TransportError) as caught:
        start(Say(boot("need")), Say(boot("fail the root is full")))
    assert (caught.value.found.code, caught.value.found.observed) == ("LF313", "the root is full")


def test_frames_may_be_split_at_every_byte() -> None:
    stream = b"motd\n" + boot("have") + encode({"event": "tick"}) + result(1, word="grün", n=[1, 2])
    for piece in (1, 2, 3, 7, 16, 17):
        assert start(Say(stream), piece=piece)[0] == {"word": "grün", "n": [1, 2]}
    for cut in range(1, len(stream)):
        assert start(Say(stream[:cut]), Say(stream[cut:]))[0] == {"word": "grün", "n": [1, 2]}


def test_a_stream_cut_at_any_byte_is_a_closed_session() -> None:
    stream = boot("have") + result(1, a=1)
    for cut in range(len(stream)):
        with pytest.raises(TransportError) as caught:
            start(Say(stream[:cut]) if cut else Say(b"\n"), stderr="first\nKilled\n")
        assert caught.value.found.code == "LF505"
        assert caught.value.found.observed.startswith("the device closed the session before it answered")
        assert "Killed" in caught.value.found.observed


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (encode({"re": 1, "result": {}}, 5), "a body of 5 bytes that was not requested"),
        (encode({"re": 2, "result": {}}), "expected the answer to request 1, got one to '2'"),
        (encode({"result": {}}), "got one to 'None'"),
        (encode({"re": 1}), "neither a result nor an error"),
        (encode({"re": 1, "result": [1]}), "neither a result nor an error"),
        (b"GARBAGE GARBAGE GARBAGE", "expected a frame"),
        (struct.pack(">4sIQ", b"LFF1", MAX_HEADER + 1, 0), "too large"),
        (struct.pack(">4sIQ", b"LFF1", 4, 0) + b"{{{{", "is not JSON"),
        (struct.pack(">4sIQ", b"LFF1", 2, 0) + b"[]", "is not a JSON object"),
    ],
)
def test_what_is_no_answer_is_a_protocol_error(frame: bytes, words: str) -> None:
    with pytest.raises(ProtocolError, match=words):
        ask([Request("status")], Say(frame), hangs=True)


def test_events_between_answers_are_passed_over_but_not_without_end() -> None:
    tick = encode({"event": "tick"})
    answers = ask([Request("a"), Request("b")], Say(tick * 50 + result(1, a=1) + tick + result(2, b=2)))[0]
    assert answers == [Answer({"a": 1}), Answer({"b": 2})]
    with pytest.raises(ProtocolError, match="events arrived before an answer"):
        ask([Request("a")], Say(tick * 100_001), hangs=True, limit_s=60)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("busy", "LF508"),
        ("disk-full", "LF312"),
        ("not-writable", "LF313"),
        ("hash-mismatch", "LF110"),
        ("something-else", "LF900"),
    ],
)
def test_an_error_answer_is_refused_with_its_finding(code: str, expected: str) -> None:
    error = encode({"re": 2, "error": {"code": code, "message": "said the device" + "." * 3000}})
    with pytest.raises(RequestRejected) as caught:
        ask([Request("a"), Request("b"), Request("c")], Say(result(1) + error), hangs=True)
    assert caught.value.request.op == "b"
    assert caught.value.found.code == expected
    assert caught.value.found.observed.startswith("said the device")
    assert len(caught.value.found.observed) <= 2000


def test_all_requests_are_sent_ahead_with_their_bodies(tmp_path: Path) -> None:
    body = tmp_path / "blob"
    body.write_bytes(b"12345" * 100_000)
    requests = [Request("put", {"sha256": "s"}, body), Request("verify", {"release": "r"})]
    sent = encode({"id": 1, "op": "put", "sha256": "s"}, 500_000) + body.read_bytes()
    sent += encode({"id": 2, "op": "verify", "release": "r"})
    answers, got = ask(requests, Say(result(1) + result(2), after=len(sent)))
    assert answers == [Answer({}), Answer({})]
    assert got == sent


def test_a_body_may_be_bytes_and_an_answer_may_bring_one() -> None:
    data = bytes(range(256)) * 4000
    sent = encode({"id": 1, "op": "infer"}, len(data)) + data
    output = encode({"event": "running"}) + encode({"re": 1, "result": {"n": 1}}, len(data)) + data
    for piece in (1000, 65536, len(output)):
        answers, got = ask(
            [Request("infer", body=data, answer_limit=len(data))], Say(output, after=len(sent)), piece=piece
        )
        assert answers == [Answer({"n": 1}, data)]
        assert got == sent


def test_a_body_that_is_larger_than_was_asked_for_is_not_read() -> None:
    frame = encode({"re": 1, "result": {}}, 1 << 30)
    with pytest.raises(ProtocolError, match="a body of 1073741824 bytes where at most 100 were asked for"):
        ask([Request("infer", answer_limit=100)], Say(frame), hangs=True)


def test_an_answer_whose_body_is_cut_is_a_closed_session() -> None:
    frame = encode({"re": 1, "result": {}}, 100) + b"x" * 99
    with pytest.raises(TransportError) as caught:
        ask([Request("infer", answer_limit=100)], Say(frame))
    assert caught.value.found.code == "LF505"


def test_a_sender_that_fails_ends_the_wait_at_once(tmp_path: Path) -> None:
    body = tmp_path / "blob"
    body.write_bytes(bytes(500_000))
    with pytest.raises(TransportError, match="broke while sending"):
        ask([Request("put", {}, body)], hangs=True, breaks_after=300_000, limit_s=600)


def test_an_error_answer_stops_what_is_still_being_sent(tmp_path: Path) -> None:
    error = encode({"re": 1, "error": {"code": "disk-full", "message": "no space"}})
    with pytest.raises(RequestRejected, match="no space"):
        ask([Request("put")], Say(error), deaf=True, limit_s=600)


def test_the_request_after_a_rejected_body_is_not_taken_for_the_rest_of_it(tmp_path: Path) -> None:
    body = tmp_path / "blob"
    body.write_bytes(bytes(2_000_000))
    error = encode({"re": 1, "error": {"code": "disk-full", "message": "no space"}})
    frames = encode({"id": 1, "op": "put"}, 2_000_000) + bytes(2_000_000) + encode({"id": 3, "op": "put"}, 1) + b"x"

    async def go() -> ScriptedChannel:
        channel = ScriptedChannel([Say(error, after=300_000), Say(result(3), after=len(frames))], hangs=True)
        client = AgentClient(channel)
        with pytest.raises(RequestRejected, match="no space"):
            await client.ask([Request("put", {}, body), Request("verify")], 5)
        assert len(channel.got) < 2_000_000
        assert len(await client.ask([Request("put", {}, b"x")], 5)) == 1
        await client.stop()
        return channel

    assert bytes(asyncio.run(go()).got) == frames


def test_a_session_that_stops_sends_no_more_of_a_rejected_body(tmp_path: Path) -> None:
    error = encode({"re": 1, "error": {"code": "disk-full", "message": "no space"}})

    async def go() -> None:
        client = AgentClient(ScriptedChannel([Say(error)], deaf=True))
        with pytest.raises(RequestRejected, match="no space"):
            await client.ask([Request("put", {}, b"x" * 1000)], 5)
        await client.stop()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(go())


def test_a_login_that_ends_before_all_was_sent_is_told_by_its_own_words() -> None:
    with pytest.raises(TransportError) as caught:
        start(Say(b"This account is currently not available.\n"), breaks_after=0, exit_code=1)
    assert caught.value.found.code == "LF510"
    assert "it said: This account is currently not available." in caught.value.found.observed
    with pytest.raises(TransportError) as caught:
        start(breaks_after=0)
    assert caught.value.found.observed == "the connection broke while sending: scripted"


def test_silence_ends_with_the_time_limit() -> None:
    with pytest.raises(TransportError) as caught:
        start(Say(b"motd\n"), hangs=True, limit_s=0.05)
    assert caught.value.found.code == "LF506"
    assert "no answer to the bootstrap within" in caught.value.found.observed
    with pytest.raises(TransportError) as caught:
        ask([Request("verify")], Say(encode({"event": "tick"})), hangs=True, limit_s=0.05)
    assert caught.value.found.code == "LF506"
    assert "no answer to verify within" in caught.value.found.observed


def test_a_peer_that_answers_without_reading_ends_with_the_time_limit() -> None:
    with pytest.raises(TransportError) as caught:
        ask([Request("a")], Say(result(1)), deaf=True, limit_s=0.05)
    assert caught.value.found.code == "LF506"
    assert "no end of what is being sent within" in caught.value.found.observed


def test_the_opening_names_the_archive_and_sends_hello_ahead() -> None:
    command, opening = AgentClient.opening(ARCHIVE, "/opt/lf", "/usr/bin/python3.9")
    assert opening.nonce in command
    assert "/usr/bin/python3.9" in command
    assert ARCHIVE.sha256.encode() in opening.loader
    assert opening.first == encode({"id": 1, "op": "hello"})
    assert AgentClient.opening(ARCHIVE, "", "")[1].nonce != opening.nonce


def test_a_heartbeat_is_sent_only_where_nothing_else_was() -> None:
    """With a request every 4 s no heartbeat follows the first one; then one comes every 10 s."""
    alive = encode({"event": "alive"})

    async def go() -> tuple[int, int]:
        asked = [Say(result(number), after=FIRST + number) for number in range(2, 7)]
        channel = ScriptedChannel([Say(boot("have") + result(1, heartbeat_s=10), after=FIRST), *asked], hangs=True)
        client = AgentClient(channel)
        await client.start(OPENING, ARCHIVE, 5)
        for _ in range(5):
            await client.ask([Request("noop")], 5)
            await asyncio.sleep(4)
        meanwhile = bytes(channel.got).count(alive)
        await asyncio.sleep(30)
        await client.stop()
        return meanwhile, bytes(channel.got).count(alive)

    assert run(go()) == (1, 4)
