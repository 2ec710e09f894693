"""Requests that come while a model is loaded for the first time: they wait for it, and are told when it does not come."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from litefleet_agent.service.loop import Loop
from litefleet_agent.service.model import Ground, ModelService
from litefleet_agent.service.queue import Budget
from litefleet_agent.service.report import ServiceFigures
from litefleet_agent.service.settings import Settings
from litefleet_agent.service.values import Refusal
from litefleet_agent.service.workers import Answer

from tests.agent.working import fake, toy_job

SLOW = "import time; time.sleep(0.5); ready(); serve()"


class OneRelease(Ground):
    """A device with one release, whose worker does what `body` says."""

    def __init__(self, body: str) -> None:
        self.body, self.told = body, []

    def plan(self, model, release):
        return fake(self.body)

    def check(self, plan):
        return []

    def take_back(self, model, release, to, why):
        return True

    def tell(self, kind, model, release, findings=(), text=""):
        self.told.append(kind)


class Toy:
    """A service of the toy model, and what it answered."""

    def __init__(self, body: str) -> None:
        self.loop, self.answers = Loop(), []
        figures = ServiceFigures("", self.loop.now())
        self.service = ModelService(
            "toy", self.loop, Settings(), Budget(1 << 20), OneRelease(body), figures, self._reply
        )

    def _reply(self, job, result, wait_s, run_s, batch):
        self.answers.append(result)

    def ask(self, seconds: float = 60):
        self.service.submit(replace(toy_job(1, 2), deadline=self.loop.now() + seconds))

    def turn(self, until, limit_s: float = 30) -> None:
        end = time.monotonic() + limit_s
        while not until():
            assert time.monotonic() < end
            self.loop.turn(0.05)

    def close(self) -> None:
        self.service.end()
        self.turn(lambda: not self.service.running)
        self.loop.close()


@pytest.fixture
def toy() -> Iterator:
    made = []

    def make(body: str) -> Toy:
        made.append(Toy(body))
        made[-1].service.want("r" * 64)
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_they_are_answered_once_it_serves(toy):
    one = toy(SLOW)
    assert one.service.model is None
    one.ask()
    one.ask()
    assert one.answers == []
    one.turn(lambda: len(one.answers) == 2)
    assert [type(answer) for answer in one.answers] == [Answer, Answer]


def test_they_are_refused_when_it_does_not_pass(toy):
    one = toy("import time; time.sleep(0.5); sys.exit(3)")
    one.ask()
    one.turn(lambda: one.answers)
    (refusal,) = one.answers
    assert (refusal.code, one.service.expected) == ("not-ready", None)
    with pytest.raises(Refusal, match="is not served"):
        one.ask()


def test_they_are_told_when_their_time_is_over_first(toy):
    one = toy("import time; time.sleep(60)")
    one.ask(0.1)
    one.turn(lambda: one.loop.now() > one.service.queue.jobs[0].deadline)
    one.service.expire()
    assert one.answers[0].code == "timed-out"
    assert "is being loaded" in str(one.answers[0])


def test_they_are_told_to_come_again_when_it_stops(toy):
    one = toy("import time; time.sleep(60)")
    one.ask()
    one.service.stop()
    assert [answer.code for answer in one.answers] == ["stopping"]


def test_without_a_release_nothing_is_taken(toy):
    one = toy(SLOW)
    one.service.want("")
    with pytest.raises(Refusal, match="no release of it is current"):
        one.ask()
