"""Predictors by input sizes: never one for two sizes, a bounded number, and within memory."""

from __future__ import annotations

import random

import pytest
from litefleet_agent.verification.engine import PredictorCache, resident_bytes


class Machine:
    """Makes predictors that remember which sizes they ran with, and counts what is alive."""

    def __init__(self, each: int = 100) -> None:
        self.alive, self.each, self.peak = 0, each, 0

    def load(self) -> Predictor:
        return Predictor(self)

    def resident(self) -> int:
        return self.alive * self.each


class Predictor:
    def __init__(self, machine: Machine) -> None:
        self.machine, self.sizes = machine, set()
        machine.alive += 1
        machine.peak = max(machine.peak, machine.alive)

    def __del__(self) -> None:
        self.machine.alive -= 1


def turned(predictors: PredictorCache, *sizes: str) -> int:
    """Run with these sizes, and return how many loads that took."""
    before = predictors.loads
    for size in sizes:
        predictors.select(size)
        predictors.current.sizes.add(size)
        assert predictors.current.sizes == {size}
    return predictors.loads - before


def test_one_at_a_time_is_loaded_anew_for_each_change_and_never_beside_another():
    machine = Machine()
    predictors = PredictorCache(machine.load, 1)
    predictors.reload()
    assert turned(predictors, "a", "a", "b", "b", "a") == 2
    assert (machine.alive, machine.peak) == (1, 1)


def test_the_one_used_least_recently_goes_first():
    machine = Machine()
    predictors = PredictorCache(machine.load, 3)
    assert turned(predictors, "a", "b", "c", "a", "b", "c", "a") == 3
    assert turned(predictors, "d") == 1  # b goes
    assert turned(predictors, "a", "c", "d") == 0
    assert turned(predictors, "b") == 1
    assert machine.peak == 3


@pytest.mark.parametrize("seed", range(20))
def test_any_order_of_sizes_keeps_the_bounds(seed):
    dice = random.Random(seed)
    machine = Machine()
    most = dice.randint(1, 5)
    predictors = PredictorCache(machine.load, most)
    turned(predictors, *(dice.choice("abcdefg") for _ in range(200)))
    assert machine.peak <= most


def test_where_another_one_does_not_fit_one_is_let_go_first():
    machine = Machine(each=100)
    predictors = PredictorCache(machine.load, 10, 350, machine.resident)
    turned(predictors, *"abcdefg")
    assert machine.peak == 3


def test_a_load_that_fails_is_tried_again():
    machine = Machine()
    broken = [False]

    def load() -> Predictor:
        if broken[0]:
            raise RuntimeError("no such file")
        return machine.load()

    predictors = PredictorCache(load, 2)
    turned(predictors, "a")
    broken[0] = True
    with pytest.raises(RuntimeError):
        predictors.select("b")
    assert predictors.current is None
    broken[0] = False
    assert turned(predictors, "b", "a") == 1


def test_this_process_holds_memory():
    assert resident_bytes() > 1 << 20
