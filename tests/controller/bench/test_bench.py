"""A bench's conversation: what is asked, which device waits for which, and that no answer is believed unchecked."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from litefleet_agent.facts import Facts
from litefleet_agent.findings import Verdict
from litefleet_agent.protocol import encode
from litefleet_controller.bench.bench import ParallelLimits, bench_device, run_bench
from litefleet_controller.bench.choice import BenchChoice, numbers
from litefleet_controller.bench.figures import BenchFigures, figures_of
from litefleet_controller.common.errors import UsageError
from litefleet_controller.devices.agent_archive import agent_archive
from litefleet_controller.devices.outcome import DeviceOutcome, RunReport
from litefleet_controller.devices.progress import QuietProgress
from litefleet_controller.devices.transport.base import Channel
from litefleet_controller.devices.visit import SessionFactory
from litefleet_controller.project import Options
from litefleet_inventory.model import Device
from litefleet_inventory.parse import parse

from tests.controller.support.bench_answers import FIRST, SECOND, answer, bare, measured, release, report, two
from tests.fakes.scripted_channel import Say, ScriptedChannel

# --- a device that says what a test wants


class Scripted:
    """A transport whose devices answer hello, and then say `told` to whatever they are asked."""

    def __init__(self, told: Callable[[str], Any], boot: str = "", current: object = None) -> None:
        self.told, self.boot, self.asked = told, boot, list[dict[str, Any]]()
        self.current = {"cls": FIRST} if current is None else current

    @asynccontextmanager
    async def open(self, device: Device, command: str) -> AsyncIterator[Channel]:
        nonce = command.split()[-1].strip("'\"")
        hello = {"facts": Facts(arch="x86_64").to_dict(), "current": self.current, "boot": self.boot}
        script = [Say(f"LFBOOT {nonce} have\n".encode() + encode({"re": 1, "result": hello}))]
        output = self.told(device.name)
        script += [Say(encode({"event": "running"})) for _ in range(3)]
        script += [Say(output if isinstance(output, bytes) else encode({"re": 2, "result": output}))]
        channel = ScriptedChannel(script)
        yield channel
        tail = bytes(channel.got).rpartition(b"LFF1")[2]
        self.asked.append(json.loads(tail[12:]))


def one_device(name: str = "cam-01") -> Device:
    return parse(f"devices: {{{name}: {{host: 127.0.0.1}}}}\n").devices[0]


def ask(told: Any, choice: BenchChoice | None = None, models: tuple[str, ...] = ("cls",), **more: Any) -> DeviceOutcome:
    transport = Scripted(lambda name: told, **more)
    session_factory = SessionFactory(transport, agent_archive())
    outcomes = asyncio.run(
        bench_device(one_device(), models, choice or BenchChoice(), session_factory, ParallelLimits(), False)
    )
    return outcomes[0]


def test_figures_come_into_the_outcome() -> None:
    outcome = ask(answer())
    assert outcome.verdict is Verdict.VERIFIED
    assert outcome.sentence == "measured, and its outputs match the reference"
    assert outcome.release == FIRST
    assert outcome.measurements["latency_ms"] == {"min": 1.8, "p50": 2.0, "p90": 2.6, "p99": 3.6, "runs": 5000}
    assert outcome.measurements["peak_rss_bytes"] == 85_000_000
    figures = figures_of(outcome)
    assert figures is not None
    assert figures.cells[1].runs_per_s == 1500.0
    assert list(outcome.steps) == ["connect", "probe", "wait for its turn", "measure"]


def test_the_request_holds_what_was_chosen() -> None:
    transport = Scripted(lambda name: two())
    choice = BenchChoice(seconds=30, threads=(1, 2), workers=(4,), against="previous", low_priority=True)
    asyncio.run(
        bench_device(one_device(), ["cls"], choice, SessionFactory(transport, agent_archive()), ParallelLimits(), False)
    )
    (asked,) = transport.asked
    assert asked == {
        "id": 2, "op": "bench", "model": "cls", "seconds": 30, "threads": [1, 2], "workers": [4], "against": "previous",
        "low_priority": True,
    }  # fmt: skip


def test_a_finding_decides_and_the_figures_stay() -> None:
    grows = {"code": "LF419", "seen": "Resident memory grew."}
    outcome = ask(answer(findings=[grows]))
    assert outcome.verdict is Verdict.SLOW
    assert figures_of(outcome) is not None
    assert report(outcome).exit_code == 1
    warm = ask(answer(findings=[{"code": "LF421", "seen": "It became slower."}]))
    assert warm.verdict is Verdict.VERIFIED
    assert report(warm).exit_code == 0


def test_a_model_that_is_not_current_is_reported_before_it_is_asked_for() -> None:
    outcome = ask(answer(), current={"det": SECOND})
    assert (outcome.verdict, outcome.findings[0].code) == (Verdict.FAILED, "LF619")
    assert outcome.sentence == "no release of cls is current on this device, which runs det: roll it out first"
    assert ask(answer(), BenchChoice(release=FIRST[:8]), current={}).verdict is Verdict.VERIFIED


def test_of_several_models_those_are_measured_that_run_there() -> None:
    session_factory = SessionFactory(Scripted(lambda name: answer()), agent_archive())
    outcomes = asyncio.run(
        bench_device(one_device(), ["cls", "det"], BenchChoice(), session_factory, ParallelLimits(), False)
    )
    assert [(o.model, o.verdict) for o in outcomes] == [("cls", Verdict.VERIFIED)]


def test_a_refusal_is_an_outcome() -> None:
    outcome = ask(encode({"re": 2, "error": {"code": "busy", "message": "another controller is at work"}}))
    assert (outcome.verdict, outcome.findings[0].code) == (Verdict.FAILED, "LF508")


HUGE = 10**400
LIES: dict[str, dict[str, Any]] = {
    "a number as text": answer(seconds="10"),
    "not a number": answer(took_s=float("nan")),
    "without end": answer(releases=[release(runs_per_s=float("inf"))]),
    "beyond all bounds": answer(releases=[release(warm=dict(release()["warm"], p50=HUGE))]),
    "negative": answer(releases=[release(warm=dict(release()["warm"], min=-1.0))]),
    "columns of different lengths": answer(releases=[release(series={"t": [0.0, 1.0], "p50": [1.0]})]),
    "points without a time": answer(releases=[release(series={"t": [None], "p50": [1.0]})]),
    "a column of words": answer(releases=[release(series={"t": [0.0], "p50": ["fast"]})]),
    "a million points": answer(releases=[release(series={"t": [0.0] * 100_000})]),
    "a release with markup": answer(releases=[release("<b>" + "a" * 61)]),
    "three releases": answer(releases=[release(), release(), release()]),
    "a thousand cells": answer(cells=[{"release": FIRST, "workers": 1, "threads": 1}] * 1000),
    "no workers": answer(cells=[{"release": FIRST, "workers": 0, "threads": 1}]),
    "a share of two": answer(releases=[release(others=2.0)]),
    "long notes": answer(notes=["x" * 5000]),
    "many notes": answer(notes=["x"] * 500),
    "a list for an object": answer(releases=[release(cold=[])]),
    "truth as a word": answer(releases=[release(right="perhaps")]),
    "nothing": {},
}


@pytest.mark.parametrize("lie", LIES)
def test_an_answer_that_is_not_one_is_refused(lie: str) -> None:
    outcome = ask(LIES[lie])
    assert (outcome.verdict, outcome.findings[-1].code) == (Verdict.FAILED, "LF507"), outcome.findings
    at_intake = "cam-01: an answer holds an integer of more than 64 bits"
    words = at_intake if lie == "beyond all bounds" else "the answer to bench has a wrong form at "
    assert outcome.findings[-1].observed.startswith(words)
    assert outcome.measurements == {}
    assert len(outcome.findings[-1].observed) < 500


@pytest.mark.parametrize(
    "told",
    [
        answer(releases=[]),
        answer(releases=[release(right=None)]),
        answer(releases=[release(warm={})]),
        answer(releases=[release(right=False)]),
    ],
)
def test_a_device_that_measured_nothing_to_the_end_must_say_why(told: dict[str, Any]) -> None:
    outcome = ask(told)
    assert outcome.verdict is Verdict.FAILED
    assert "completed no measurement" in outcome.sentence


def test_findings_of_a_flooding_device_are_bounded() -> None:
    outcome = ask(answer(findings=[{"code": "LF421", "seen": f"{i} " + "x" * 3000} for i in range(150)]))
    assert len(outcome.findings) == 100
    assert 1900 < max(len(found.observed) for found in outcome.findings) <= 2000


def test_keys_that_nobody_knows_are_dropped() -> None:
    figures = BenchFigures.model_validate(answer(secret="x", releases=[release(more={"deep": [1]})]))
    assert "secret" not in figures.to_dict()
    assert BenchFigures.model_validate(json.loads(json.dumps(figures.to_dict()))) == figures


def test_a_kept_report_gives_the_figures_back() -> None:
    kept = RunReport.from_dict(json.loads(json.dumps(report(measured(two()), measured(bare())).to_dict())))
    first, second = (figures_of(outcome) for outcome in kept.outcomes)
    assert first is not None
    assert second is not None
    assert first.comparison is not None
    assert (first.comparison.ratio, second.comparison, second.cells) == (1.12, None, ())
    broken = DeviceOutcome("a", "cls", Verdict.VERIFIED, measurements={"bench": {"seconds": "x"}})
    assert figures_of(broken) is None
    assert figures_of(DeviceOutcome("a", "cls", Verdict.VERIFIED)) is None


# --- devices that share a machine


async def overlaps(boots: dict[str, str]) -> int:
    """Measure devices at once; return how many were at it at the same time at most."""
    at_work, most, limits = 0, 0, ParallelLimits()

    class Slow(Scripted):
        @asynccontextmanager
        async def open(self, device: Device, command: str) -> AsyncIterator[Channel]:
            async with super().open(device, command) as channel:
                yield Counting(channel)

    class Counting:
        host_key = ""
        held_s = 0.0

        def __init__(self, channel: Channel) -> None:
            self.channel = channel

        async def write(self, data: bytes) -> None:
            nonlocal at_work, most
            if b'"op":"bench"' in data:
                at_work += 1
                most = max(most, at_work)
                await asyncio.sleep(0.05)
                at_work -= 1
            await self.channel.write(data)

        async def read(self, limit: int) -> bytes:
            return await self.channel.read(limit)

        async def exit_code(self) -> int | None:
            return None

        def stderr_tail(self) -> str:
            return ""

    def run(name: str) -> Any:
        session_factory = SessionFactory(Slow(lambda name: answer(), boots[name]), agent_archive())
        return bench_device(one_device(name), ["cls"], BenchChoice(), session_factory, limits, False)

    outcomes = await asyncio.gather(*map(run, boots))
    assert all(o.verdict is Verdict.VERIFIED for every in outcomes for o in every)
    return most


async def test_devices_on_one_machine_are_measured_one_after_the_other() -> None:
    assert await overlaps({"cam-1": "the same boot", "cam-2": "the same boot", "cam-3": "the same boot"}) == 1


async def test_devices_on_machines_of_their_own_are_measured_at_once() -> None:
    assert await overlaps({"cam-1": "one", "cam-2": "two", "cam-3": ""}) == 3


# --- what may be chosen


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"runs": 3}, "`runs` must be a whole number from 10 to 10000000, not 3"),
        ({"seconds": 0.0}, "`seconds` must be a number from 1 to 86400, not 0.0"),
        ({"seconds": 0.2}, "`seconds` must be a number from 1 to 86400, not 0.2"),
        ({"threads": (300,)}, "`threads` must be a whole number from 0 to 256, not 300"),
        ({"workers": tuple(range(1, 18))}, "`workers` must be a list of 1 to 16 items"),
        ({"workers": (1, 2, 3, 4, 5), "threads": (1, 2, 3, 4)}, "20 pairs of workers and threads are requested"),
        ({"against": "yesterday"}, "--against: 'yesterday' is not a release id"),
        ({"release": "ABCDEF0123"}, "--release: 'ABCDEF0123' is not a release id"),
    ],
)
def test_what_no_device_would_take_is_reported_at_once(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)):
        BenchChoice(**given)


def test_lists_of_numbers() -> None:
    assert numbers("--workers", "1,2,4") == (1, 2, 4)
    assert numbers("--workers", "") == ()
    for wrong in ("1;2", "a", "1,", "-1", "1" * 40):
        with pytest.raises(UsageError, match="--workers"):
            numbers("--workers", wrong)


def test_the_limit_leaves_room_for_every_start() -> None:
    assert BenchChoice().limit_s > 300
    assert BenchChoice(seconds=3600).limit_s > 7200
    assert BenchChoice(runs=100000).limit_s > 3600


CONFIG = "inventory: fleet.yaml\nmodels: {cls: {source: .}, det: {source: .}}\n"


def project(folder: Path, fleet: str) -> Options:
    (folder / "litefleet.yaml").write_text(CONFIG)
    (folder / "fleet.yaml").write_text(fleet)
    return Options(folder / "litefleet.yaml")


async def test_a_release_belongs_to_one_model(tmp_path: Path) -> None:
    options = project(tmp_path, "devices: {a: {host: 127.0.0.1, port: 1}}\n")
    with pytest.raises(UsageError, match="name the model with --model"):
        await run_bench(options, BenchChoice(release=FIRST), 4, lambda total: QuietProgress())


async def test_devices_that_have_other_models_are_not_asked(tmp_path: Path) -> None:
    options = project(tmp_path, "devices: {a: {host: 127.0.0.1, port: 1, model: det}}\n")
    only = Options(options.config, models=("cls",))
    with pytest.raises(UsageError, match="the inventory gives none of these models"):
        await run_bench(only, BenchChoice(), 4, lambda total: QuietProgress())
