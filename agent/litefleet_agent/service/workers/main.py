"""A worker process: loads one release's model, runs its goldens, and answers the daemon until the daemon closes the socket.

Paddle-Lite prints to stdout and stderr; the frames have a socket of their own.

    daemon -> worker   {"op":"load",...}, first; then {"id":n,"op":"probe"}
                       or {"id":n,"op":"run","requests":[{"inputs":[...]},...]} + bodies
    worker -> daemon   {"event":"confined","sandbox":{...}}; {"event":"stage","words":...};
                       {"event":"ready",...} or {"event":"failed","findings":[...]};
                       {"re":n,"result":{...}} + bodies
"""

import gc
import os
import signal
import time
from typing import Dict, List, Optional, Sequence, Tuple, Union

from ...findings import Finding, finding
from ...findings.model_file import altered, read_nb_file
from ...formats.checked import shortened
from ...formats.engine_settings import EngineSettings
from ...formats.nb import NbError
from ...formats.npz import Array
from ...protocol import BlockingStream
from ...releases.archive import keep_bytecode
from ...verification.child_process import code_of_error, die_with_parent, end_process
from ...verification.comparison import ModelComparison
from ...verification.confinement import confine_model
from ...verification.engine import PaddleLiteError
from ...verification.engines import choose_engine
from ...verification.verify import paddlelite_finding
from ..messages import Rejection, SentTensor, size_of, tensors_of, tensors_to, validate_inputs
from .batching import all_finite, are_batchable, first_size, join_inputs, split_outputs
from .plan import LoadRequest, served_model
from .warmup import OutputType, Warmup, infer

RequestResult = Union[List[Array], Rejection]


def main(fd: int, parent_pid: int) -> int:
    """Serve over the socket `fd`; does not return.  Exit code 0: the daemon closed the socket, 3: the release does not pass.

    The kernel kills this process when the process `parent_pid` ends.
    """
    os.set_inheritable(fd, False)
    for number in (signal.SIGTERM, signal.SIGINT):  # systemd and terminals signal the whole group; the daemon decides
        signal.signal(number, signal.SIG_IGN)
    die_with_parent(parent_pid)
    stream = BlockingStream(fd, fd)
    try:
        code = _serve(stream)
    except OSError:  # the daemon is gone
        code = 0
    end_process(code)


def _serve(stream: BlockingStream) -> int:
    first = stream.read()
    if first is None:
        return 0
    job = LoadRequest.from_header(first[0])
    keep_bytecode()
    # Before the model is read, and Paddle-Lite is imported.
    reads = [job.nb] + list(job.golden)
    confined = confine_model(reads, job.runtime, job.memory_limit, job.accelerated, cache=job.cache)
    stream.send({"event": "confined", "sandbox": confined.to_dict()})
    worker = _Worker(stream, job)
    findings = worker.start()
    if findings:
        stream.send({"event": "failed", "findings": [found.to_dict() for found in findings[:64]]})
        return 3
    while True:
        frame = stream.read()
        if frame is None:
            return 0
        worker.answer(*frame)


class _Worker:
    """One model and the daemon's requests to it."""

    def __init__(self, stream: BlockingStream, job: LoadRequest) -> None:
        self.stream, self.job = stream, job
        self._stage = "starting"

    def stage(self, name: str) -> None:
        self._stage = name
        self.stream.stage(name)

    # --- the start

    def start(self) -> List[Finding]:
        """Load the model, run its goldens and report that it is ready; otherwise return the findings that prevent it."""
        try:
            return self._start()
        except NbError as error:
            return [finding(error.finding_code, str(error))]
        except PaddleLiteError as error:
            return [paddlelite_finding(error.kind, str(error), self._stage)]
        except ConnectionError:  # the daemon is gone
            raise
        except OSError as error:
            if error.filename == self.job.nb:
                return [finding("LF115", "%s cannot be read: %s" % (error.filename, error.strerror))]
            return [finding(code_of_error(self._stage), "While %s: %s" % (self._stage, error))]
        except Exception as error:  # the binding raises any type, and the daemon needs a finding
            observed = "While %s: %s: %s" % (self._stage, type(error).__name__, shortened(str(error), 1000))
            return [finding(code_of_error(self._stage), observed)]

    def _start(self) -> List[Finding]:
        job = self.job
        self.stage("reading the model's file")
        model = read_nb_file(job.nb)
        changed = altered(model, job.nb_sha256)
        if changed:
            return changed
        self.model = served_model(model, job.name, job.release)
        outputs = [tensor.name for tensor in model.outputs]
        self.paddlelite = choose_engine(
            job.runtime,
            job.nb,
            model.inputs,
            outputs,
            EngineSettings.parse(job.engine),
            job.input_sizes,
            job.memory_limit,
            job.cache,
            self.stage,
            job.wanted,
        )
        self.stage("importing Paddle-Lite")
        self.paddlelite.import_runtime()
        self.stage("loading the model")
        load_ms = self.paddlelite.load()
        self.warmup = Warmup(self.paddlelite, model, ModelComparison.parse(job.outputs, job.tolerance))
        if not self.warmup.run(job.golden, self.stage):
            return self.warmup.findings or [finding("LF900", "The goldens could not be run.")]
        self.stage("waiting for requests")
        self.stream.send(self._ready(load_ms))
        gc.freeze()  # these objects stay: examining them in every collection would only delay requests
        return []

    def _ready(self, load_ms: float) -> Dict[str, object]:
        return {
            "event": "ready",
            "load_ms": round(load_ms, 3),
            "runtime_version": self.paddlelite.runtime_version,
            "numpy_version": self.paddlelite.numpy_version,
            "threads_set_by": self.paddlelite.threads_set_by,
            "power_mode": self.paddlelite.power_mode_set,
            "settings": [report.to_dict() for report in self.paddlelite.setting_reports()],
            "batches": self.warmup.batches,
            "golden": self.warmup.statistics,
        }

    # --- requests

    def answer(self, header: Dict[str, object], body: bytes) -> None:
        """Answer one frame of the daemon."""
        requests = header.get("requests")
        if header["op"] == "probe":
            self._probe(header["id"])
        elif isinstance(requests, list):
            self._run(header["id"], [tensors_of(request["inputs"]) for request in requests], body)

    def _probe(self, number: object) -> None:
        try:
            found, took_ms = self.warmup.probe()
        except Exception as error:  # as above
            found, took_ms = [finding("LF423", "A golden could not be run: %s" % shortened(str(error), 1000))], 0.0
        result = {"ok": not found, "ms": round(took_ms, 3), "findings": [f.to_dict() for f in found[:64]]}
        self.stream.send({"re": number, "result": result})

    def _run(self, number: object, requests: Sequence[Tuple[SentTensor, ...]], body: bytes) -> None:
        begun = time.perf_counter()
        at, batch = 0, []
        for tensors in requests:
            size = sum(size_of(tensor) for tensor in tensors)
            batch.append(self._read_inputs(tensors, _part(body, at, size)))
            at += size
        outcomes = self._outcomes(batch)
        took_ms = (time.perf_counter() - begun) * 1e3
        results: List[Dict[str, object]] = []
        parts: List[bytes] = []
        for outcome in outcomes:
            if isinstance(outcome, Rejection):
                results.append({"error": outcome.to_dict()})
            else:
                results.append({"outputs": tensors_to(self._described(outcome))})
                parts += [value.data for value in outcome]
        result = {"ms": round(took_ms, 3), "loads": self.paddlelite.loads, "requests": results}
        self.stream.send({"re": number, "result": result}, parts)

    def _read_inputs(self, tensors: Tuple[SentTensor, ...], data: bytes) -> Union[Dict[str, Array], Rejection]:
        """Return a request's inputs, or a rejection of those that Paddle-Lite must not get: they may crash this process."""
        try:
            validate_inputs(self.model, tensors, len(data))
            self._check_sequences(tensors)
        except Rejection as rejection:
            return rejection
        inputs, at = {}, 0
        for tensor in tensors:
            size = size_of(tensor)
            value = inputs[tensor.name] = Array(tensor.dtype, tensor.dims, _part(data, at, size), tensor.lod)
            at += size
            if not all_finite(value, self.paddlelite.numpy):
                return Rejection("%s: %s holds NaN or Inf" % (self.model.name, tensor.name), "bad-input")
        return inputs

    def _check_sequences(self, tensors: Tuple[SentTensor, ...]) -> None:
        """Raise Rejection unless each input has as many levels of sequences as in the goldens: operators end the process."""
        for tensor in tensors:
            wanted = self.warmup.lod_levels.get(tensor.name, 0)
            if len(tensor.lod) != wanted:
                takes = (
                    "sequences (LoD) of %d level%s" % (wanted, "s" * (wanted > 1)) if wanted else "no sequences (LoD)"
                )
                sent = "%d level%s" % (len(tensor.lod), "" if len(tensor.lod) == 1 else "s") if tensor.lod else "none"
                text = "%s: %s takes %s, and the request has %s" % (self.model.name, tensor.name, takes, sent)
                raise Rejection(text, "bad-input")

    def _outcomes(self, batch: Sequence[Union[Dict[str, Array], Rejection]]) -> List[RequestResult]:
        """Return the result of each request: valid ones run together, or one by one if that fails."""
        valid = [inputs for inputs in batch if not isinstance(inputs, Rejection)]
        done = self._batch(valid)
        if done is None:
            done = [self._single(inputs) for inputs in valid]
        rest = iter(done)
        return [given if isinstance(given, Rejection) else next(rest) for given in batch]

    def _batch(self, valid: List[Dict[str, Array]]) -> Optional[List[RequestResult]]:
        if len(valid) < 2 or not self.warmup.batches or not are_batchable(valid):
            return None
        try:
            outputs = infer(self.paddlelite, join_inputs(valid))  # outputs of sequences are never joined
            parts = split_outputs(outputs, [first_size(inputs) or 0 for inputs in valid])
        except Exception:  # one request may be the cause: run each alone
            return None
        return [self._checked(part) for part in parts]

    def _single(self, inputs: Dict[str, Array]) -> RequestResult:
        try:
            return self._checked(infer(self.paddlelite, inputs, self.warmup.lods))
        except Exception as error:  # the binding raises any type
            message = "%s could not run the request: %s" % (self.model.name, shortened(str(error), 1000))
            return Rejection(message, "crashed", finding("LF423", message))

    def _checked(self, outputs: List[Array]) -> RequestResult:
        """Return the outputs, or a rejection of outputs that differ from the goldens' shapes or hold NaN or Inf."""
        output_types = self.warmup.output_types
        if len(outputs) != len(output_types) or not all(map(_is, outputs, output_types)):
            given = _type_names([(value.dtype, value.shape) for value in outputs])
            message = "%s gave %s, its goldens have %s" % (self.model.name, given, _type_names(output_types))
            return Rejection(message, "bad-output", finding("LF407", message))
        for tensor, value in zip(self.model.outputs, outputs):  # noqa: B905 - 3.7
            if not all_finite(value, self.paddlelite.numpy):
                message = "%s: the output %s holds NaN or Inf" % (self.model.name, tensor.name)
                return Rejection(message, "bad-output", finding("LF404", message))
        return outputs

    def _described(self, outputs: List[Array]) -> Tuple[SentTensor, ...]:
        pairs = zip(self.model.outputs, outputs)  # noqa: B905 - 3.7
        return tuple(SentTensor.of(tensor.name, value) for tensor, value in pairs)


def _part(data: bytes, at: int, size: int) -> bytes:
    """Return `size` bytes of the data; all of it without a copy."""
    return data if size == len(data) else data[at : at + size]


def _is(value: Array, output_type: OutputType) -> bool:
    dtype, dims = output_type
    same = value.dtype == dtype and len(value.shape) == len(dims)
    return same and all(want in (-1, size) for want, size in zip(dims, value.shape))  # noqa: B905 - 3.7


def _type_names(output_types: Sequence[OutputType]) -> str:
    names = [dtype + " " + " x ".join("?" if dim < 0 else str(dim) for dim in dims) for dtype, dims in output_types]
    return ", ".join(names) or "nothing"
