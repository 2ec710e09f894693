"""The queue of waiting requests: bounded in number and bytes, first in first out, joined into batches where possible.  Pure."""

from collections import deque
from typing import Deque, List, Optional, Tuple

from .messages import Job, Rejection


class Budget:
    """The bytes that all queues of a service may hold together."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.used = 0

    def reserve(self, size: int) -> bool:
        """Reserve `size` bytes and return whether they were available; with none in use, any size is."""
        if self.used and self.used + size > self.most:
            return False
        self.used += size
        return True

    def free(self, size: int) -> None:
        """Return reserved bytes."""
        self.used -= size


class Queue:
    """The requests of one model that no worker has yet; at most `most`."""

    def __init__(self, most: int, budget: Budget) -> None:
        self.most = most
        self._budget = budget
        self._jobs: Deque[Job] = deque()

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def jobs(self) -> List[Job]:
        """The waiting requests, the next one first."""
        return list(self._jobs)

    def put(self, job: Job) -> None:
        """Add a request.  Raises Rejection "busy" when the queue or the budget is full."""
        if len(self._jobs) >= self.most:
            raise Rejection("%d requests of %s already wait; try again later" % (len(self._jobs), job.model), "busy")
        if not self._budget.reserve(job.weight):
            raise Rejection("waiting requests hold %d bytes already; try again later" % self._budget.used, "busy")
        self._jobs.append(job)

    def put_back(self, jobs: List[Job]) -> None:
        """Put requests back at the front, after their worker died."""
        for job in reversed(jobs):
            self._budget.used += job.weight
            self._jobs.appendleft(job)

    def pop_batch(self, now: float, most: int, wait_s: float) -> List[Job]:
        """Remove and return the next batch, at most `most` requests that can run together; [] for none yet.

        The first request waits up to `wait_s` for others to join it.  A request that was attempted before, or has
        sequences, runs alone.
        """
        if not self._jobs:
            return []
        first = self._jobs[0]
        if most == 1 or first.attempts or _has_sequences(first):
            self._budget.free(first.weight)
            return [self._jobs.popleft()]
        batch = self._fitting(first, most)
        if len(batch) < most and now < first.accepted + wait_s:
            return []
        self._remove(batch)
        return batch

    def _fitting(self, first: Job, most: int) -> List[Job]:
        """Return the first request and those that can run with it, in their order."""
        shape = _shape(first)
        batch = []
        for job in self._jobs:
            if not job.attempts and not _has_sequences(job) and _shape(job) == shape:
                batch.append(job)
                if len(batch) == most:
                    break
        return batch

    def _remove(self, jobs: List[Job]) -> None:
        taken = {id(job) for job in jobs}
        self._jobs = deque(job for job in self._jobs if id(job) not in taken)
        for job in jobs:
            self._budget.free(job.weight)

    def due(self, wait_s: float) -> Optional[float]:
        """Return when the first request has waited `wait_s` for others, None for an empty queue."""
        return self._jobs[0].accepted + wait_s if self._jobs else None

    def drop(self, dropped: List[Job]) -> None:
        """Remove these requests: their client is gone."""
        these = {id(job) for job in dropped}
        self._remove([job for job in self._jobs if id(job) in these])

    def expired(self, now: float) -> List[Job]:
        """Remove and return the requests whose deadline has passed."""
        late = [job for job in self._jobs if job.deadline <= now]
        if late:
            self._remove(late)
        return late

    def clear(self) -> List[Job]:
        """Remove and return all requests."""
        everything = list(self._jobs)
        self._remove(everything)
        return everything


def _has_sequences(job: Job) -> bool:
    return any(tensor.lod for tensor in job.inputs)


def _shape(job: Job) -> Tuple[Tuple[str, str, Tuple[int, ...]], ...]:
    """Return the properties that requests of one batch share: names, dtypes, and all dimensions but the first."""
    return tuple((t.name, t.dtype, t.dims[1:]) for t in job.inputs)
