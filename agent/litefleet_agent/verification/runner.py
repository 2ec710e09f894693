"""The one-shot verification job.  Runs only in a child: reads a JSON job on stdin, leaves result.json in a folder.

Paddle-Lite prints to stdout and stderr as it likes, so neither carries anything of ours.
"""

import hashlib
import json
import os
import sys
import time
from typing import Any, Dict, List

from ..formats.npz import Array, read_npz
from ..releases.atomic import write_atomic
from .child_process import die_with_parent, peak_rss
from .paddlelite import PaddleLite, PaddleLiteError

__all__ = ["RESULT", "STAGE", "main"]

RESULT = "result.json"
STAGE = "stage"  # what the child was at when it died, in words
_KEPT_RUNS = 3  # differing runs of one case whose bytes are kept


def main() -> int:
    """Do the job that stdin describes; 0 when result.json holds figures, 3 when it holds an error."""
    job = json.load(sys.stdin)
    die_with_parent(job["parent"])
    try:
        result = _Run(job).run()
        code = 0
    except PaddleLiteError as err:
        result, code = _error(err.kind, str(err)), 3
    except Exception as err:  # the binding raises what it likes, and the parent wants a sentence
        result, code = _error("unexpected", "%s: %s" % (type(err).__name__, err)), 3
    write_atomic(os.path.join(job["work"], RESULT), [json.dumps(result).encode("ascii")], durable=False)
    sys.stdout.flush()
    # Destructors of a half-broken runtime may crash after the work is done; nothing here needs them.
    os._exit(code)


def _error(kind: str, text: str) -> Dict[str, Any]:
    return {"error": {"kind": kind, "text": text[:2000]}}


class _Run:
    """One model, loaded once, run for every case."""

    def __init__(self, job: Dict[str, Any]) -> None:
        self.job = job
        self.paddlelite = PaddleLite(job["runtime"], job["nb"], job["input_names"], job["output_names"], job["threads"])

    def run(self) -> Dict[str, Any]:
        """Return the figures of all cases.  Raises EngineError."""
        self._stage("importing Paddle-Lite")
        self.paddlelite.import_runtime()
        self._stage("loading the model")
        load_ms = self.paddlelite.load()
        cases = [self._case(number, path) for number, path in enumerate(self.job["inputs"])]
        return {
            "load_ms": load_ms,
            "cases": cases,
            "peak_rss_bytes": peak_rss(os.getpid()),
            "runtime_version": self.paddlelite.runtime_version,
            "numpy_version": self.paddlelite.numpy_version,
            "output_names": self.paddlelite.loaded_output_names,
            "threads": self.job["threads"],
            "threads_set_by": self.paddlelite.threads_set_by,
        }

    def _stage(self, words: str) -> None:
        write_atomic(os.path.join(self.job["work"], STAGE), [words.encode("utf-8")], durable=False)

    def _case(self, number: int, path: str) -> Dict[str, Any]:
        self._stage("setting the inputs of case %d" % (number + 1))
        arrays = read_npz(path)
        inputs = {name: arrays[name] for name in self.job["input_names"]}
        self.paddlelite.select_predictor(inputs)
        self.paddlelite.set_inputs(inputs, check=True)
        self._stage("running case %d" % (number + 1))
        runs: List[Dict[str, Any]] = []
        seen: Dict[str, bool] = {}
        for turn in range(-self.job["warmup"], self.job["runs"]):
            self.paddlelite.set_inputs(inputs)  # again each time: kernels may work in place
            begun = time.perf_counter()
            self.paddlelite.run()
            ms = (time.perf_counter() - begun) * 1e3
            if turn >= 0:
                runs.append({"ms": ms, "outputs": self._store_outputs(number, turn, self.paddlelite.outputs(), seen)})
        return {"runs": runs}

    def _store_outputs(
        self, number: int, turn: int, values: List[Array], seen: Dict[str, bool]
    ) -> List[Dict[str, Any]]:
        kept = []
        for index, value in enumerate(values):
            digest = hashlib.sha256(value.data).hexdigest()
            entry: Dict[str, Any] = {"dtype": value.dtype, "shape": list(value.shape), "sha256": digest, "file": ""}
            key = "%d %s" % (index, digest)
            if key not in seen and sum(k.startswith("%d " % index) for k in seen) <= _KEPT_RUNS:
                seen[key] = True
                entry["file"] = "case%d-run%d-out%d.bin" % (number, turn, index)
                write_atomic(os.path.join(self.job["work"], entry["file"]), [value.data], durable=False)
            kept.append(entry)
        return kept
