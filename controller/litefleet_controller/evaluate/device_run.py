"""Runs one data set on one device in bounded batches: a run that was cut continues, inputs that are there are not sent."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from litefleet_agent.findings import Finding, finding

from ..devices.visit import DeviceSession
from ..infer.cases import agent_too_old
from ..infer.infer import Sending, infer_request
from ..infer.outputs import read_answers, reported_findings, split_not_kept
from .journal import Journal
from .metrics import Record
from .samples import LabelledCase, Task, batches

# Bytes of inputs and of outputs of one batch.
_INPUT_BYTES, _OUTPUT_BYTES = 16 << 20, 32 << 20
MOST = 256  # samples of one batch


@dataclass
class _Batch:
    """The result of some samples: their records, or why there are none; those whose inputs the device does not keep."""

    records: dict[int, Record] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    largest: int = 0  # bytes of the largest answer
    not_kept: list[LabelledCase] = field(default_factory=list)


@dataclass
class DeviceRun:
    """One model's data set on one device."""

    session: DeviceSession
    task: Task
    release: str
    journal: Journal
    limit_s: float
    busy: asyncio.Semaphore
    may_be_kept: bool = True  # whether an earlier measurement may have left inputs on the device

    async def run(self, again: bool) -> tuple[list[Record], tuple[Finding, ...]]:
        """Return all records, or why there are none.  RequestRejected and TransportError are left to the session."""
        total = len(self.task.data.samples)
        known = await asyncio.to_thread(self.journal.read, total)
        if again and len(known) == total:
            self.journal.clear()
            known = {}
        missing = [n for n in range(total) if n not in known]
        most = 1  # the first answer shows how large the outputs are
        while missing:
            self.session.session_factory.report(self.session.device.name, f"evaluate {len(known):,} of {total:,}")
            async with self.busy:
                batch = await asyncio.to_thread(next, batches(self.task, missing, most, _INPUT_BYTES))
                done = await self._batch(batch)
                if done.findings:
                    return [], done.findings
                await asyncio.to_thread(self.journal.add, done.records)
            known |= done.records
            missing = missing[len(batch) :]
            most = max(1, min(MOST, _OUTPUT_BYTES // max(done.largest, 1)))
        return [known[n] for n in range(total)], ()

    async def _batch(self, batch: Sequence[LabelledCase]) -> _Batch:
        """Run a batch; inputs that the device keeps are named, the others are sent, to be kept where the agent can."""
        if refused := agent_too_old(self.session.hello, [one.case for one in batch]):
            return _Batch(findings=refused)
        if self.session.hello.get("kept_inputs") is not True:
            return await self._ask(batch, Sending.SENT)
        if not self.may_be_kept:
            return await self._ask(batch, Sending.KEPT)
        named = await self._ask(batch, Sending.NAMED)
        self.may_be_kept = len(named.not_kept) < len(batch)  # else the rest of this measurement sends its data
        if named.findings or not named.not_kept:
            return named
        sent = await self._ask(named.not_kept, Sending.KEPT)
        return _Batch(named.records | sent.records, sent.findings, max(named.largest, sent.largest))

    async def _ask(self, batch: Sequence[LabelledCase], sending: Sending) -> _Batch:
        cases = [one.case for one in batch]
        request = infer_request(self.task.model, cases, self.task.inputs, self.release, self.limit_s, sending)
        (answer,) = await self.session.exchange(request, limit_s=120.0 + self.limit_s * len(batch))
        result: Mapping[str, object] = answer.result
        lacking = frozenset[int]()
        if found := reported_findings(result):
            return _Batch(findings=found)
        if sending is Sending.NAMED:
            result, lacking = split_not_kept(result, len(batch))
        run = [one for place, one in enumerate(batch) if place not in lacking]
        answers, failures = read_answers(result, answer.body, [one.case.name for one in run])
        if failures:
            return _Batch(findings=failures)
        try:
            records = {one.number: self.task.record(one, a.outputs) for one, a in zip(run, answers, strict=True)}
        except ValueError as error:
            return _Batch(findings=(finding("LF407", f"{error}."),))
        largest = max((sum(array.nbytes for array in a.outputs.values()) for a in answers), default=0)
        return _Batch(records, (), largest, [batch[place] for place in sorted(lacking)])
