"""Real Paddle-Lite computes the same, bit for bit, when it is confined; with threads, and on older kernels."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.agent.sandbox.site import AGENT, HERE
from tests.agent.support.real_paddlelite import SHAPES
from tests.conftest import lite_environment, raw_nb

pytestmark = [pytest.mark.toolchain, pytest.mark.any_python]  # it runs in Paddle-Lite's own interpreter

# As a worker would: confined first, then numpy and Paddle-Lite are imported, then the model is loaded and run.
_MODEL = """
import hashlib, json, os, sys
job = json.loads(sys.argv[1])
sandbox = None
if job["policy"] is not None:
    sys.path.insert(0, job["agent"])
    from litefleet_agent.sandbox import Policy, confine
    policy = {name: tuple(value) if isinstance(value, list) else value for name, value in job["policy"].items()}
    sandbox = confine(Policy(**policy)).to_dict()
import numpy
from paddlelite.lite import MobileConfig, create_paddle_predictor
config = MobileConfig()
config.set_model_from_file(job["nb"])
predictor = create_paddle_predictor(config)
digests = set()
for seed in (0, 1, 0):
    predictor.get_input(0).from_numpy(numpy.random.RandomState(seed).rand(*job["shape"]).astype("float32"))
    predictor.run()
    digests.add(hashlib.sha256(numpy.ascontiguousarray(predictor.get_output(0).numpy()).tobytes()).hexdigest())
print(json.dumps({"sandbox": sandbox, "digests": sorted(digests), "threads": len(os.listdir("/proc/self/task"))}))
"""


def run(model: str, threads: int, policy: dict[str, Any] | None, without: str = "") -> dict[str, Any]:
    job = {"nb": str(raw_nb(model, "x86")), "shape": SHAPES[model], "policy": policy, "agent": str(AGENT)}
    python = str(lite_environment())
    argv = [python, str(HERE / "older_kernel.py"), without, python, "-I", "-c", _MODEL, json.dumps(job)]
    env = dict(os.environ, OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads), OPENBLAS_NUM_THREADS="1")
    ended = subprocess.run(argv, capture_output=True, text=True, env=env, timeout=100, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
    told: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return told


def policy_of(model: str, **more: Any) -> dict[str, Any]:
    return dict({"reads": [str(raw_nb(model, "x86"))], "data_bytes": 1 << 30}, **more)


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("model", ["cls", "det", "rec"])
def test_outputs_are_the_same_bits(model: str, threads: int) -> None:
    free, confined = run(model, threads, None), run(model, threads, policy_of(model))
    assert len(free["digests"]) == 2  # of two inputs: it computes something
    assert confined["digests"] == free["digests"]
    assert confined["threads"] == free["threads"]
    assert confined["sandbox"]["missing"] == []
    if (model, threads) == ("det", 4):  # the one whose kernels start threads
        assert confined["threads"] == 4


@pytest.mark.parametrize("without", ["landlock", "seccomp", "landlock,seccomp", "systemd"])
def test_older_kernels_run_it_too(without: str, tmp_path: Path) -> None:
    free = run("cls", 1, None)
    confined = run("cls", 1, policy_of("cls", work=str(tmp_path)), without)
    assert confined["digests"] == free["digests"]
    assert len(confined["sandbox"]["missing"]) == {"landlock,seccomp": 2}.get(without, 1)


def test_a_model_that_may_not_be_read_is_a_plain_refusal(tmp_path: Path) -> None:
    """Proves that the runs above were confined: another model's file lies outside of what they may read."""
    with pytest.raises(AssertionError, match=r"(?i)model|open|permission|check"):
        run("cls", 1, {"reads": [str(tmp_path)]})
