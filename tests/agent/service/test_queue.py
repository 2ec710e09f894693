"""The service's queue: bounds, order, batches, deadlines; and what of a request is refused before it is read."""

import pytest
from litefleet_agent.formats.nb import Tensor
from litefleet_agent.service.messages import (
    Job,
    Rejection,
    SentTensor,
    ServedModel,
    in_order,
    size_of,
    tensors_of,
    tensors_to,
    validate_inputs,
)
from litefleet_agent.service.queue import Budget, Queue

MODEL = ServedModel(
    "cls", "f" * 64, (Tensor("x", "float32", (-1, 3, 48, -1)),), (Tensor("y", "float32", (-1, 2)),), True
)
TWO = ServedModel("two", "f" * 64, (Tensor("a", "int64", (1,)), Tensor("b", "float32", (2,))), ())


def job(rows=1, width=4, accepted=0.0, deadline=100.0, dtype="float32"):
    tensor = SentTensor("x", dtype, (rows, 3, 48, width))
    return Job("cls", (tensor,), b"\0" * size_of(tensor), accepted, deadline)


def a_queue(most=4, size=1 << 20):
    return Queue(most, Budget(size))


def test_first_come_first_served_one_at_a_time():
    queue = a_queue()
    jobs = [job(), job(), job()]
    for one in jobs:
        queue.put(one)
    assert [queue.pop_batch(0, 1, 0) for _ in range(4)] == [[jobs[0]], [jobs[1]], [jobs[2]], []]


def test_a_full_queue_is_busy_and_keeps_what_it_has():
    queue = a_queue(most=2)
    queue.put(job())
    queue.put(job())
    with pytest.raises(Rejection) as refused:
        queue.put(job())
    assert refused.value.code == "busy"
    assert len(queue) == 2


def test_bytes_are_bounded_over_all_queues_and_come_back():
    budget = Budget(3 * size_of(job().inputs[0]))
    one, other = Queue(10, budget), Queue(10, budget)
    one.put(job())
    one.put(job())
    other.put(job())
    with pytest.raises(Rejection, match="hold"):
        other.put(job())
    one.pop_batch(0, 1, 0)
    other.put(job())
    for queue in (one, other):
        queue.clear()
    assert budget.used == 0


def test_one_request_larger_than_the_budget_still_gets_through():
    queue = Queue(4, Budget(10))
    queue.put(job())
    assert queue.pop_batch(0, 1, 0)


def test_a_batch_takes_what_fits_and_leaves_the_others_in_their_order():
    queue = a_queue(most=10)
    narrow, wide, more, again = job(width=4), job(width=8), job(rows=2, width=4), job(width=8)
    for one in (narrow, wide, more, again):
        queue.put(one)
    assert queue.pop_batch(0, 8, 0) == [narrow, more]
    assert queue.pop_batch(0, 8, 0) == [wide, again]


def test_a_batch_waits_for_company_only_as_long_as_it_may():
    queue = a_queue()
    first = job(accepted=10.0)
    queue.put(first)
    assert queue.pop_batch(10.01, 4, 0.05) == []
    assert queue.due(0.05) == pytest.approx(10.05)
    assert queue.pop_batch(10.05, 4, 0.05) == [first]


def test_a_full_batch_does_not_wait():
    queue = a_queue()
    queue.put(job(accepted=10.0))
    queue.put(job(accepted=10.0))
    assert len(queue.pop_batch(10.0, 2, 5.0)) == 2


def test_who_saw_a_worker_die_runs_alone_and_first():
    queue = a_queue()
    survivor, other = job(), job()
    queue.put(other)
    survivor.attempts = 1
    queue.put_back([survivor])
    assert queue.pop_batch(0, 4, 0) == [survivor]
    assert queue.pop_batch(0, 4, 0) == [other]


def test_deadlines_and_callers_that_are_gone():
    queue = a_queue()
    late, gone, stays = job(deadline=5.0), job(), job()
    for one in (late, gone, stays):
        queue.put(one)
    assert queue.expired(5.0) == [late]
    queue.drop([gone])
    assert queue.jobs == [stays]


@pytest.mark.parametrize(
    ("given", "size", "words"),
    [
        ((SentTensor("y", "float32", (1, 3, 48, 4)),), 2304, "inputs are 'x'; the request has 'y'"),
        ((SentTensor("x", "float64", (1, 3, 48, 4)),), 4608, "x is float32, and float64 was sent"),
        ((SentTensor("x", "float32", (1, 1, 48, 4)),), 768, r"x is \? x 3 x 48 x \?, and 1 x 1 x 48 x 4 was sent"),
        ((SentTensor("x", "float32", (3, 48, 4)),), 2304, "3 x 48 x 4 was sent"),
        ((SentTensor("x", "float32", (1, 3, 48, 4)),), 2300, "take 2304 bytes in these dims, and 2300 were sent"),
    ],
)
def test_what_does_not_fit_is_refused_with_both_sides_named(given, size, words):
    with pytest.raises(Rejection, match=words) as refused:
        validate_inputs(MODEL, given, size)
    assert refused.value.code == "bad-input"


def test_a_request_of_sequences_runs_alone():
    queue = a_queue(most=10)
    words = SentTensor("x", "float32", (2, 3, 48, 4), ((0, 1, 2),))
    first, of_words, last = job(width=4), Job("cls", (words,), bytes(4608), 0.0, 10.0), job(width=4)
    for one in (first, of_words, last):
        queue.put(one)
    assert queue.pop_batch(0, 8, 0) == [first, last]
    assert queue.pop_batch(0, 8, 5) == [of_words]  # it waits for no others


@pytest.mark.parametrize("lod", [[[0, 1, 2], [0, 5, 8]], [[0, 5, 8]], [], None])
def test_sequences_are_read_as_they_are_written(lod):
    read = tensors_of([{"name": "w", "dtype": "int64", "dims": [8, 1], "lod": lod}])
    assert read == (SentTensor("w", "int64", (8, 1), tuple(map(tuple, lod or ()))),)
    assert tensors_of(tensors_to(read)) == read
    assert ("lod" in tensors_to(read)[0]) == bool(lod)


@pytest.mark.parametrize(
    "lod", [[[0, 9]], [[1, 8]], [[0, 5, 3, 8]], [[0, 8]] * 5, [[0.0, 8]], [[True, 8]], "x", [7], [[0] * 5000], {}]
)
def test_sequences_that_fit_no_rows_are_refused_before_the_body(lod):
    with pytest.raises(Rejection, match=r"'w': the sequences \(LoD\) must be ") as refused:
        tensors_of([{"name": "w", "dtype": "int64", "dims": [8, 1], "lod": lod}])
    assert refused.value.code == "bad-request"


def test_what_fits_passes_and_is_put_into_the_models_order():
    given = (SentTensor("b", "float32", (2,)), SentTensor("a", "int64", (1,)))
    body = b"bbbbbbbb" + b"aaaaaaaa"
    validate_inputs(TWO, given, len(body))
    assert in_order(TWO, given, body) == ((given[1], given[0]), b"aaaaaaaabbbbbbbb")
    assert in_order(TWO, TWO.inputs, body) == (TWO.inputs, body)


@pytest.mark.parametrize(
    "data",
    [None, [], {}, [1], [{"name": "x"}], [{"name": "x", "dtype": "float32", "dims": "1"}], [{"name": 1}] * 100]
    + [[{"name": "x", "dtype": "float32", "dims": dims}] for dims in ([0], [-1], [True], [1.0], [1 << 31], [1] * 9)],
)
def test_tensors_in_another_form_are_bad_requests(data):
    with pytest.raises(Rejection) as refused:
        tensors_of(data)
    assert refused.value.code == "bad-request"
