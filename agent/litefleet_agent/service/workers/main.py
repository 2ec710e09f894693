"""A worker process: one release's model, loaded and proven, that answers the daemon's frames until the daemon lets go.

Paddle-Lite prints to stdout and stderr as it likes; the frames have a socket of their own.

    daemon -> worker   {"op":"load",...}, first; then {"id":n,"op":"probe"}
                       or {"id":n,"op":"run","requests":[{"inputs":[...]},...]} + bodies
    worker -> daemon   {"event":"stage","words":...}; {"event":"ready",...} or {"event":"failed","findings":[...]};
                       {"re":n,"result":{...}} + bodies
"""

import gc
import os
import signal
import socket
import time
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

from ...findings import Finding, finding
from ...findings.model_file import altered, read_nb_file
from ...formats.nb import NbError, Tensor
from ...formats.npz import Array
from ...protocol import Link
from ...verification.child_process import die_with_parent
from ...verification.paddlelite import Engine, EngineError
from ...verification.verify import engine_finding
from ..messages import Refusal, screen_inputs, size_of, tensors_of, tensors_to
from .batching import all_finite, apart, first_size, joinable, together
from .plan import served_model
from .warmup import Kind, Rehearsal, infer

__all__ = ["main"]

Outcome = Union[List[Array], Refusal]


def main(fd: int, parent_pid: int) -> int:
    """Serve over the socket `fd` and return the exit code: 0 when the daemon let go, 3 when the release does not pass."""
    os.set_inheritable(fd, False)
    for number in (signal.SIGTERM, signal.SIGINT):  # systemd and terminals signal the whole group; the daemon decides
        signal.signal(number, signal.SIG_IGN)
    die_with_parent(parent_pid)
    link = Link(socket.socket(fileno=fd))
    try:
        code = _serve(link)
    except OSError:  # the daemon is gone
        code = 0
    # Destructors of a half-broken runtime may crash after the work is done; nothing here needs them.
    os._exit(code)


def _serve(link: Link) -> int:
    first = link.read()
    if first is None:
        return 0
    worker = _Worker(link, first[0])
    findings = worker.start()
    if findings:
        link.send({"event": "failed", "findings": [found.to_dict() for found in findings[:64]]})
        return 3
    while True:
        frame = link.read()
        if frame is None:
            return 0
        worker.answer(*frame)


class _Worker:
    """One model, and what it is asked."""

    def __init__(self, link: Link, job: Dict[str, Any]) -> None:
        self.link, self.job = link, job
        self._stage = "starting"

    def stage(self, words: str) -> None:
        self._stage = words
        self.link.stage(words)

    # --- the start

    def start(self) -> List[Finding]:
        """Load the model and run its goldens; return what keeps it from serving, or tell that it is ready."""
        try:
            return self._start()
        except NbError as error:
            return [finding(error.finding_code, str(error))]
        except EngineError as error:
            return [engine_finding(error.kind, str(error), self._stage)]
        except OSError as error:
            if error.filename != self.job["nb"]:
                raise
            return [finding("LF900", "%s cannot be read: %s" % (error.filename, error.strerror))]
        except Exception as error:  # the binding raises what it likes, and the daemon wants a sentence
            return [finding("LF900", "While %s: %s: %s" % (self._stage, type(error).__name__, str(error)[:1000]))]

    def _start(self) -> List[Finding]:
        job = self.job
        self.stage("reading the model's file")
        model = read_nb_file(job["nb"])
        changed = altered(model, job["nb_sha256"])
        if changed:
            return changed
        self.model = served_model(model, job["name"], job["release"])
        names = [t.name for t in model.inputs], [t.name for t in model.outputs]
        how = job["threads"], job["power_mode"], job["input_sizes"], job["memory_limit"]
        self.engine = Engine(job["runtime"], job["nb"], names[0], names[1], *how)
        self.stage("importing Paddle-Lite")
        self.engine.bring_in()
        self.stage("loading the model")
        load_ms = self.engine.load()
        self.rehearsal = Rehearsal(self.engine, model, job["tolerance"])
        if not self.rehearsal.play(job["golden"], self.stage):
            return self.rehearsal.findings or [finding("LF900", "The goldens could not be run.")]
        self.stage("waiting for requests")
        self.link.send(self._ready(load_ms))
        gc.freeze()  # what is there by now stays: looking through it again and again would only hold up requests
        return []

    def _ready(self, load_ms: float) -> Dict[str, Any]:
        return {
            "event": "ready",
            "load_ms": round(load_ms, 3),
            "runtime_version": self.engine.runtime_version,
            "numpy_version": self.engine.numpy_version,
            "threads_set_by": self.engine.threads_set_by,
            "power_mode": self.engine.power_mode_set,
            "batches": self.rehearsal.batches,
            "golden": self.rehearsal.figures,
        }

    # --- requests

    def answer(self, header: Dict[str, Any], body: bytes) -> None:
        """Answer one frame."""
        if header["op"] == "probe":
            self._probe(header["id"])
        else:
            self._run(header["id"], header["requests"], body)

    def _probe(self, number: int) -> None:
        try:
            found, took_ms = self.rehearsal.probe()
        except Exception as error:  # as above
            found, took_ms = [finding("LF900", "A golden could not be run: %s" % str(error)[:1000])], 0.0
        told = {"ok": not found, "ms": round(took_ms, 3), "findings": [f.to_dict() for f in found[:64]]}
        self.link.send({"re": number, "result": told})

    def _run(self, number: int, requests: List[Dict[str, Any]], body: bytes) -> None:
        begun = time.perf_counter()
        at, taken = 0, []
        for request in requests:
            tensors = tensors_of(request["inputs"])
            size = sum(size_of(tensor) for tensor in tensors)
            taken.append(self._take(tensors, _part(body, at, size)))
            at += size
        outcomes = self._outcomes(taken)
        took_ms = (time.perf_counter() - begun) * 1e3
        told: List[Dict[str, Any]] = []
        parts: List[bytes] = []
        for outcome in outcomes:
            if isinstance(outcome, Refusal):
                told.append({"error": outcome.to_dict()})
            else:
                told.append({"outputs": tensors_to(self._described(outcome))})
                parts += [value.data for value in outcome]
        result = {"ms": round(took_ms, 3), "loads": self.engine.loads, "requests": told}
        self.link.send({"re": number, "result": result}, parts)

    def _take(self, tensors: Tuple[Tensor, ...], data: bytes) -> Union[Dict[str, Array], Refusal]:
        """Return a request's inputs, or why Paddle-Lite must not see them: what does not fit may end this process."""
        try:
            screen_inputs(self.model, tensors, len(data))
        except Refusal as refusal:
            return refusal
        inputs, at = {}, 0
        for tensor in tensors:
            size = size_of(tensor)
            value = inputs[tensor.name] = Array(tensor.dtype, tensor.dims, _part(data, at, size))
            at += size
            if not all_finite(value, self.engine.numpy):
                return Refusal("%s: %s holds NaN or Inf" % (self.model.name, tensor.name), "bad-input")
        return inputs

    def _outcomes(self, taken: Sequence[Union[Dict[str, Array], Refusal]]) -> List[Outcome]:
        """Return what becomes of each request: those that are sound run together, or one by one if that fails."""
        sound = [inputs for inputs in taken if not isinstance(inputs, Refusal)]
        done = self._batch(sound)
        if done is None:
            done = [self._single(inputs) for inputs in sound]
        rest = iter(done)
        return [given if isinstance(given, Refusal) else next(rest) for given in taken]

    def _batch(self, sound: List[Dict[str, Array]]) -> Optional[List[Outcome]]:
        if len(sound) < 2 or not self.rehearsal.batches or not joinable(sound):
            return None
        try:
            outputs = infer(self.engine, together(sound))
            parts = apart(outputs, [first_size(inputs) or 0 for inputs in sound])
        except Exception:  # one of them may be to blame: each on its own
            return None
        return [self._checked(part) for part in parts]

    def _single(self, inputs: Dict[str, Array]) -> Outcome:
        try:
            return self._checked(infer(self.engine, inputs))
        except Exception as error:  # the binding raises what it likes
            seen = "%s could not run the request: %s" % (self.model.name, str(error)[:1000])
            return Refusal(seen, "crashed", finding("LF900", seen))

    def _checked(self, outputs: List[Array]) -> Outcome:
        """Return the outputs, or a refusal: what no caller should take for an answer."""
        kinds = self.rehearsal.kinds
        if len(outputs) != len(kinds) or not all(map(_is, outputs, kinds)):
            given = _kinds([(value.dtype, value.shape) for value in outputs])
            seen = "%s gave %s, its goldens have %s" % (self.model.name, given, _kinds(kinds))
            return Refusal(seen, "bad-output", finding("LF407", seen))
        for tensor, value in zip(self.model.outputs, outputs):  # noqa: B905 - 3.7
            if not all_finite(value, self.engine.numpy):
                seen = "%s: the output %s holds NaN or Inf" % (self.model.name, tensor.name)
                return Refusal(seen, "bad-output", finding("LF404", seen))
        return outputs

    def _described(self, outputs: List[Array]) -> Tuple[Tensor, ...]:
        pairs = zip(self.model.outputs, outputs)  # noqa: B905 - 3.7
        return tuple(Tensor(tensor.name, value.dtype, value.shape) for tensor, value in pairs)


def _part(data: bytes, at: int, size: int) -> bytes:
    """Return some of the data, all of it without a copy."""
    return data if size == len(data) else data[at : at + size]


def _is(value: Array, kind: Kind) -> bool:
    dtype, dims = kind
    same = value.dtype == dtype and len(value.shape) == len(dims)
    return same and all(want in (-1, size) for want, size in zip(dims, value.shape))  # noqa: B905 - 3.7


def _kinds(kinds: Sequence[Kind]) -> str:
    said = [dtype + " " + " x ".join("?" if dim < 0 else str(dim) for dim in dims) for dtype, dims in kinds]
    return ", ".join(said) or "nothing"
