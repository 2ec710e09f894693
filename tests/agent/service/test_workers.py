"""Workers of the service: real Paddle-Lite behind the daemon's handle, and a fake one for what it can't be made to do."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from litefleet_agent.facts.present import memory
from litefleet_agent.formats.engine_settings import EngineSettings, NNAdapterSettings
from litefleet_agent.formats.files import Tree
from litefleet_agent.formats.npz import Array, read_npz
from litefleet_agent.releases.store import Store, StoreError, release_id
from litefleet_agent.sandbox import describe_kernel
from litefleet_agent.service.messages import Job, Rejection, Response, SentTensor
from litefleet_agent.service.settings import Settings
from litefleet_agent.service.workers.batching import all_finite, are_batchable, join_inputs, split_outputs
from litefleet_agent.service.workers.handle import State
from litefleet_agent.service.workers.one_shot import OneShotError, run_one_shot
from litefleet_agent.service.workers.plan import WorkerPlan, plan_of
from litefleet_agent.service.workers.process import environment

from tests.agent.support.real_paddlelite import archive_of
from tests.agent.support.worker_fixtures import AGENT, TOY, Owner, fake, golden_jobs, job_of, plan, toy_job
from tests.conftest import environment as interpreter

Nb = Callable
Goldens = dict
toolchain = pytest.mark.toolchain
OTHER_MODELS = [pytest.param(name, marks=pytest.mark.any_python) for name in ("rec", "det")]


@pytest.fixture
def own() -> Iterator[Callable[..., Owner]]:
    owners: list[Owner] = []

    def make(plan: object) -> Owner:
        owners.append(Owner(plan))
        return owners[-1]

    yield make
    for owner in owners:
        owner.close()


def floats(answer: Response) -> np.ndarray:
    return np.frombuffer(answer.body, "<f4").reshape(answer.outputs[0].dims)


def reference(path: Path) -> np.ndarray:
    held = dict(np.load(path))
    held.pop("x")
    return next(iter(held.values()))


# --- the real Paddle-Lite


@toolchain
@pytest.mark.parametrize("name", ["cls", *OTHER_MODELS])
def test_a_real_model_answers_as_the_reference_does_alone_and_in_a_batch(name, nb_files, goldens, lite_python, own):
    owner = own(plan(nb_files(name, "x86"), goldens[name], lite_python, name)).ready()
    assert owner.facts.batches is True
    assert owner.facts.runtime_version == "v2.13-rc"
    assert owner.facts.load_ms > 0
    assert owner.facts.golden["cases"] == 2
    assert owner.facts.golden["outputs"][0]["max_abs"] < 1e-5
    jobs = golden_jobs(goldens[name])
    alone = [owner.run(job)[0] for job in jobs]
    for answer, path in zip(alone, goldens[name]):  # noqa: B905 - 3.7
        assert answer.release == "a" * 64
        assert [t.name for t in answer.outputs] == [t.name for t in owner.worker.plan.model.outputs]
        np.testing.assert_allclose(floats(answer), reference(path), atol=1e-5)
    for answer, one in zip(owner.run(*jobs), alone):  # noqa: B905 - 3.7
        np.testing.assert_allclose(floats(answer), floats(one), atol=1e-5)
    ok, findings, ms = owner.probe()
    assert (ok, findings) == (True, [])
    assert ms > 0
    assert owner.worker.rss_bytes() > 20 << 20
    assert owner.worker.state is State.READY


@toolchain
def test_what_does_not_fit_is_refused_alone_and_the_worker_lives(nb_files, goldens, lite_python, own):
    owner = own(plan(nb_files("cls", "x86"), goldens["cls"], lite_python)).ready()
    pid = owner.worker.pid
    good = read_npz(goldens["cls"][0])["x"]
    nan = bytearray(good.data)
    nan[400:404] = struct.pack("<f", float("nan"))
    infinite = bytearray(good.data)
    infinite[-4:] = struct.pack("<f", float("-inf"))
    bad = [
        (job_of(Array("float32", good.shape, bytes(nan))), "NaN or Inf"),
        (job_of(Array("float32", good.shape, bytes(infinite))), "NaN or Inf"),
        (job_of(Array("float64", good.shape, bytes(2 * len(good.data)))), "convert it first"),
        (job_of(Array("float32", (1, 1, 144, 192), good.data)), "x is ? x 3 x ? x ?, and 1 x 1 x 144 x 192 was sent"),
        (job_of(Array("float32", (3, 48, 192), good.data)), "was sent"),
        (job_of(good, "z"), "its inputs are 'x'; the request has 'z'"),
    ]
    for job, words in bad:
        (refused,) = owner.run(job)
        assert isinstance(refused, Rejection)
        assert refused.code == "bad-input"
        assert words in str(refused)
    results = owner.run(job_of(good), bad[0][0], job_of(good))
    assert [type(r) for r in results] == [Response, Rejection, Response]
    np.testing.assert_allclose(floats(results[2]), reference(goldens["cls"][0]), atol=1e-5)
    other = Array("float32", (1, 3, 48, 96), good.data[: len(good.data) // 2])
    assert [type(r) for r in owner.run(job_of(good), job_of(other))] == [Response, Response]  # no batch: one by one
    assert owner.worker.pid == pid
    assert owner.worker.runs == 8


LITE = """
import numpy
class Tensor:
    value = numpy.zeros((1, 2), "f4")
    def from_numpy(self, value): self.value = value
    def numpy(self): return self.value
    def shape(self): return list(self.value.shape)
class Predictor:
    def __init__(self): self.x, self.y = Tensor(), Tensor()
    def get_input_names(self): return ["x"]
    def get_output_names(self): return ["softmax_0.tmp_0"]
    def get_input(self, index): return self.x
    def get_output(self, index): return self.y
    def run(self):
        x = self.x.value
        rows = self.y.value = x.reshape(len(x), -1)[:, :2].copy()
        for row in rows:
            if row[0] == 5: row[1] = numpy.nan
            if row[0] == 6: raise RuntimeError("no such number")
            if row[0] == 7: self.y.value = rows[None]
class MobileConfig:
    def set_model_from_file(self, path): pass
def create_paddle_predictor(config): return Predictor()
"""


@toolchain
def test_outputs_that_are_no_answers_are_refused_each_alone(nb_files, own, tmp_path):
    package = tmp_path / "runtime" / "paddlelite"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "lite.py").write_text(LITE)
    paths = []
    for number in (1, 2):
        x = np.arange(3 * 48 * 192, dtype="f4").reshape(1, 3, 48, 192) / 50000 + number
        paths.append(tmp_path / f"{number}.npz")
        np.savez(paths[-1], x=x, y=x.reshape(1, -1)[:, :2])
    how = plan(nb_files("cls", "x86"), paths, Path(sys.executable))
    owner = own(replace(how, runtime=str(tmp_path / "runtime"))).ready()
    assert owner.facts.batches is True

    def asked(first: float) -> Job:
        x = np.full((1, 3, 48, 192), 0.5, "f4")
        x[0, 0, 0, 0] = first
        return job_of(Array("float32", x.shape, x.tobytes()))

    good, nan = owner.run(asked(1), asked(5))
    assert (nan.code, nan.finding.code) == ("bad-output", "LF404")
    assert "softmax_0.tmp_0 holds NaN or Inf" in str(nan)
    assert list(floats(good)[0]) == [1, 0.5]
    good, failed = owner.run(asked(2), asked(6))  # the batch fails: each on its own
    assert (failed.code, failed.finding.code) == ("crashed", "LF423")
    assert "no such number" in str(failed)
    assert list(floats(good)[0]) == [2, 0.5]
    good, other = owner.run(asked(3), asked(7))
    assert (other.code, other.finding.code) == ("bad-output", "LF407")
    assert "cls gave float32 1 x 1 x 2, its goldens have float32 ? x 2" in str(other)
    assert list(floats(good)[0]) == [3, 0.5]


@toolchain
@pytest.mark.parametrize("name", ["cls", OTHER_MODELS[1], pytest.param("rec", marks=pytest.mark.long)])
def test_sizes_that_change_give_what_a_fresh_process_gives(name, nb_files, goldens, lite_python, own):
    how = plan(nb_files(name, "x86"), goldens[name], lite_python, name)
    height = 160 if name == "det" else 48
    random = np.random.RandomState(3)
    jobs = [
        job_of(Array("float32", shape, random.rand(*shape).astype("f4").tobytes()))
        for shape in ((n, 3, height, width) for n, width in ((1, 192), (1, 128), (2, 128), (1, 96), (1, 160)))
    ]
    fresh = [floats(run_one_shot(how, [(job.inputs, job.body)], 30)[0]) for job in jobs]
    for kept, loads in ((1, 10), (3, 7)):
        owner = own(replace(how, input_sizes=kept)).ready()
        for index in (0, 1, 2, 0, 3, 1, 4, 0, 2, 3):
            (answer,) = owner.run(jobs[index])
            np.testing.assert_allclose(floats(answer), fresh[index], atol=1e-5)
        assert (owner.ends, owner.worker.runs) == ([], 10)
        assert owner.worker.loads == loads - (name == "cls")  # whose goldens have the first size already


@toolchain
def test_without_numpy_too(nb_files, goldens, own):
    python = interpreter("lite-2.13rc0-bare", "3.10", "paddlelite==2.13rc0")
    owner = own(plan(nb_files("cls", "x86"), goldens["cls"], python)).ready()
    assert (owner.facts.numpy_version, owner.facts.batches) == ("", True)
    jobs = golden_jobs(goldens["cls"])
    for answer, path in zip(owner.run(*jobs), goldens["cls"]):  # noqa: B905 - 3.7
        np.testing.assert_allclose(floats(answer), reference(path), atol=1e-5)
    shape = (1, 3, 48, 192)
    (refused,) = owner.run(job_of(Array("float32", shape, struct.pack("<f", float("nan")) * 27648)))
    assert refused.code == "bad-input"


@toolchain
def test_the_engine_of_the_proof_serves_and_a_release_archive_is_served_natively(
    nb_files, goldens, own, lite_python, tmp_path
):
    how = plan(nb_files("cls", "x86"), goldens["cls"], lite_python)
    archive = archive_of(lite_python, tmp_path)
    jobs = golden_jobs(goldens["cls"])
    answers = []
    for changes, numpy in (({}, True), ({"wanted": "native"}, False), ({"runtime": str(archive)}, False)):
        owner = own(replace(how, threads=1, **changes)).ready()
        assert (owner.facts.numpy_version != "", owner.facts.runtime_version) == (numpy, "v2.13-rc")
        answers.append([answer.body for answer in owner.run(*jobs)])
    assert answers[0] == answers[1] == answers[2]


@toolchain
def test_with_numpy_2_the_native_engine_serves(nb_files, goldens, own):
    python = interpreter("lite-2.13rc0-numpy2", "3.10", "paddlelite==2.13rc0", "numpy>=2")
    owner = own(plan(nb_files("cls", "x86"), goldens["cls"], python)).ready()
    for answer, path in zip(owner.run(*golden_jobs(goldens["cls"])), goldens["cls"]):  # noqa: B905 - 3.7
        np.testing.assert_allclose(floats(answer), reference(path), atol=1e-5)


@toolchain
@pytest.mark.parametrize("name", ["cls", *OTHER_MODELS])
def test_a_file_for_arm_never_becomes_ready(name, nb_files, goldens, lite_python, own):
    owner = own(plan(nb_files(name, "arm"), goldens[name], lite_python, name))
    findings, _ = owner.ended()
    assert owner.facts is None
    assert owner.worker.state is State.DEAD
    assert findings[0].severity.value == "error"
    if name != "det":
        assert "died with SIGSEGV" in findings[0].observed
        assert "while running case 1" in findings[0].observed


@toolchain
def test_a_wrong_golden_never_becomes_ready(nb_files, goldens, lite_python, own, tmp_path):
    held = dict(np.load(goldens["cls"][0]))
    held["softmax_0.tmp_0"] = held["softmax_0.tmp_0"][:, ::-1]
    np.savez(tmp_path / "wrong.npz", **held)
    owner = own(plan(nb_files("cls", "x86"), [tmp_path / "wrong.npz"], lite_python))
    findings, _ = owner.ended()
    assert ([f.code for f in findings], owner.facts) == (["LF403"], None)


@toolchain
def test_a_file_that_changed_since_it_was_sent_is_not_loaded(nb_files, goldens, lite_python, own):
    owner = own(plan(nb_files("cls", "x86"), goldens["cls"], lite_python, nb_sha256="0" * 64))
    findings, _ = owner.ended()
    assert ([f.code for f in findings], owner.facts) == (["LF602"], None)


@toolchain
def test_one_golden_alone_proves_no_batches(nb_files, goldens, lite_python, own):
    asked = EngineSettings(nnadapter=NNAdapterSettings(("rockchip_npu",)))
    owner = own(plan(nb_files("cls", "x86"), goldens["cls"][:1], lite_python, engine=asked)).ready()
    assert owner.facts.batches is False
    assert [(one.name, one.state) for one in owner.facts.settings] == [("NNAdapter devices", "passed")]
    first, second = owner.run(*golden_jobs(goldens["cls"]))
    np.testing.assert_allclose(floats(second), reference(goldens["cls"][1]), atol=1e-5)
    assert len(first.outputs) == 1


@toolchain
def test_a_signal_in_a_run_is_told_with_its_jobs(nb_files, goldens, lite_python, own):
    owner = own(plan(nb_files("det", "x86"), goldens["det"], lite_python, "det")).ready()
    big = Array("float32", (1, 3, 960, 960), bytes(4 * 3 * 960 * 960))
    job = job_of(big)
    owner.worker.run([job], 30)
    os.kill(owner.worker.pid, signal.SIGSEGV)
    findings, jobs = owner.ended()
    assert (findings[0].code, jobs) == ("LF401", [job])
    assert "while running 1 requests, died with SIGSEGV" in findings[0].observed
    assert not os.path.exists(f"/proc/{owner.worker.pid}")


@toolchain
def test_a_model_over_its_memory_limit_is_not_started(nb_files, goldens, lite_python, own):
    owner = own(plan(nb_files("rec", "x86"), goldens["rec"], lite_python, "rec", memory_limit_bytes=48 << 20))
    findings, _ = owner.ended()
    assert ([f.code for f in findings], owner.facts) == (["LF411"], None), (findings, owner.worker.stderr_tail)


@toolchain
def test_once_answers_in_order_and_leaves_nothing(nb_files, goldens, lite_python):
    how = plan(nb_files("cls", "x86"), goldens["cls"], lite_python)
    jobs = golden_jobs(goldens["cls"])
    requests = [(jobs[0].inputs, jobs[0].body), (jobs[0].inputs, b""), (jobs[1].inputs, jobs[1].body)]
    ticks: list[int] = []
    first, refused, last = run_one_shot(how, requests, 30, on_tick=lambda: ticks.append(1))
    np.testing.assert_allclose(floats(first), reference(goldens["cls"][0]), atol=1e-5)
    np.testing.assert_allclose(floats(last), reference(goldens["cls"][1]), atol=1e-5)
    assert refused.code == "bad-input"
    assert ticks
    with pytest.raises(OneShotError) as raised:
        run_one_shot(replace(how, nb="/none"), requests, 30)
    assert raised.value.findings[0].code == "LF115"
    assert "/none cannot be read: No such file or directory" in str(raised.value)


# --- a fake one


def test_frames_go_to_and_fro(own):
    owner = own(fake("ready(); serve()")).ready()
    assert owner.facts.runtime_version == "fake"
    first, second = owner.run(toy_job(1, 2), toy_job(3, 4, 5, 6))
    assert (first.body, second.body) == (struct.pack("<2f", 1, 2), struct.pack("<4f", 3, 4, 5, 6))
    assert (first.outputs[0].name, second.outputs[0].dims) == ("y", (2, 2))
    assert owner.answers[0][2] == 1.5
    assert owner.probe()[0] is True
    assert owner.answers[-1][:2] == ([], [])  # free again


def test_the_next_batch_is_taken_while_one_runs_and_no_more(own):
    owner = own(fake("ready(); serve(lambda *f: [time.sleep(0.2), answer(*f)])")).ready()
    jobs = [toy_job(number, 0) for number in range(4)]
    owner.worker.run(jobs[:2], 30)
    assert owner.worker.accepts_more is True
    owner.worker.run(jobs[2:], 30)
    assert owner.worker.accepts_more is False
    with pytest.raises(RuntimeError, match="busy"):
        owner.worker.run([toy_job(1, 2)], 30)
    with pytest.raises(RuntimeError, match="busy"):
        owner.worker.probe(30, lambda *told: None)
    owner.worker.stop()
    owner.until(lambda: owner.worker.state is State.DEAD)
    assert [told[0] for told in owner.answers] == [jobs[:2], jobs[2:]]
    assert [result.body[:4] for told in owner.answers for result in told[1]] == [
        struct.pack("<f", number) for number in range(4)
    ]
    assert owner.ends == []


def test_what_was_not_begun_is_no_part_of_a_death_and_has_its_own_time(own):
    slow = "ready(); serve(lambda h, b: [time.sleep(600 if h['id'] == 2 else 0.4), answer(h, b)])"
    owner = own(fake(slow)).ready()
    jobs = [toy_job(number, 0) for number in range(3)]
    owner.worker.run(jobs[:1], 30)
    owner.worker.run(jobs[1:2], 0.5)  # from when it is begun
    owner.until(lambda: owner.answers)
    owner.worker.run(jobs[2:], 30)
    findings, died = owner.ended(10)
    assert ([f.code for f in findings], died, owner.worker.not_started) == (["LF408"], jobs[1:2], jobs[2:])


def test_tens_of_megabytes_pass_without_waiting(own):
    owner = own(fake("ready(); serve()")).ready()
    items = 8 << 20
    job = Job("toy", (SentTensor("x", "float32", (items // 2, 2)),), os.urandom(4 * items), 0, 0)
    begun = time.monotonic()
    owner.worker.run([job], 60)
    assert time.monotonic() - begun < 1.0
    owner.until(lambda: owner.answers)
    assert owner.answers[0][1][0].body == job.body


def test_noise_on_stdout_and_stderr_disturbs_nothing(own):
    body = """
def loud(header, body):
    os.write(1, b"LFF1" * 100000); os.write(2, b"x" * 300000 + b"the last words")
    answer(header, body)
os.write(1, b"hello" * 50000)
ready(); serve(loud)
"""
    owner = own(fake(body)).ready()
    for number in range(3):
        assert owner.run(toy_job(number, 0))[0].body == struct.pack("<2f", number, 0)
    owner.until(lambda: owner.worker.stderr_tail.endswith("the last words"))
    assert len(owner.worker.stderr_tail) <= 8192


def test_a_hang_is_ended_and_its_job_told(own):
    owner = own(fake("ready(); serve(lambda *frame: time.sleep(600))")).ready()
    job = toy_job(1, 2)
    owner.worker.run([job], 0.3)
    findings, jobs = owner.ended(10)
    assert ([f.code for f in findings], jobs) == (["LF408"], [job])
    assert "running 1 requests after 0.3 s" in findings[0].observed


def test_a_start_that_hangs_is_ended(own):
    owner = own(fake("time.sleep(600)", start_limit_s=0.5))
    findings, _ = owner.ended(10)
    assert [f.code for f in findings] == ["LF408"]


def test_a_stopped_process_is_ended_too(own):
    owner = own(fake("ready(); serve()")).ready()
    os.kill(owner.worker.pid, signal.SIGSTOP)
    owner.worker.probe(0.2, lambda *told: owner.probes.append(told))
    findings, _ = owner.ended(10)
    assert ([f.code for f in findings], owner.probes) == (["LF408"], [])


@pytest.mark.parametrize(
    ("act", "words"),
    [
        ("link.write([b'garbage' * 9])", "expected a frame"),
        ("link.write([b'LFF1' + b'\\xff' * 12])", "too large"),
        ("link.send({'re': header['id'], 'result': {'ms': 1, 'requests': []}})", "does not cover each"),
        ("link.send({'re': header['id'], 'result': 7})", "does not cover each"),
        (
            "link.send({'re': header['id'] + 1, 'result': {'ms': 1, 'requests': [{'error': {}}]}})",
            "an unexpected frame",
        ),
        ("link.send({'event': 'ready'})", "an unexpected frame"),
        ("answer(header, body + b'more')", "a body of 12 bytes; expected 8"),
        ("header['requests'][0]['inputs'][0]['dims'] = [-1]; answer(header, body)", "describes the output y wrongly"),
        ("header['requests'][0]['inputs'][0]['dims'] = [1 << 30, 1 << 30]; answer(header, body)", "expected "),
        ("header['requests'][0]['inputs'] = []; answer(header, b'')", "does not have the 1 outputs"),
        ("link.send({'re': header['id'], 'result': {'requests': [{'error': 5}]}})", "without a reason"),
    ],
)
def test_a_worker_that_sends_nonsense_is_ended(act, words, own):
    owner = own(fake(f"def act(header, body):\n    {act}\nready(); serve(act)")).ready()
    job = toy_job(1, 2)
    owner.worker.run([job], 30)
    findings, jobs = owner.ended(10)
    assert ([f.code for f in findings], jobs, owner.answers) == (["LF900"], [job], [])
    assert words in findings[0].observed


@pytest.mark.parametrize(
    ("act", "code", "words"),
    [
        ("sys.exit(0)", "LF900", "ended early with exit code 0"),
        ("sys.exit(7)", "LF423", "exit code 7"),
        ("os.kill(os.getpid(), signal.SIGABRT)", "LF402", "died with SIGABRT"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "LF411", "died with SIGKILL"),
        ("os.close(int(sys.argv[1])); time.sleep(600)", "LF411", "SIGKILL"),
    ],
)
def test_how_it_ended_is_told(act, code, words, own):
    owner = own(fake("ready(); serve(lambda *frame: [ACT])".replace("ACT", act.replace("; ", ", ")))).ready()
    owner.worker.run([toy_job(1, 2)], 30)
    findings, jobs = owner.ended(10)
    assert ([f.code for f in findings], len(jobs)) == ([code], 1)
    assert words in findings[0].observed
    assert owner.worker.state is State.DEAD


def test_a_golden_that_no_longer_comes_out_right(own):
    owner = own(fake("ready(); serve(probe=False)")).ready()
    assert owner.probe() == (False, [], 2.0)
    assert owner.worker.state is State.READY


def test_growth_since_the_hundredth_run_wears_it(own):
    grow = "ready(); kept = []; serve(lambda *f: [kept.append(b'x' * (1 << 18)), answer(*f)])"
    owner = own(fake(grow, growth_limit_bytes=8 << 20)).ready()
    job = toy_job(1, 2)
    for _ in range(110):
        owner.run(job)
    assert not owner.worker.recycle_reason
    for _ in range(40):
        owner.run(job)
    assert owner.worker.recycle_reason.code == "LF419"
    assert re.search(
        r"grew from \d+ to \d+ MiB between its run 100 and its run 1\d\d", owner.worker.recycle_reason.observed
    )


def test_memory_over_the_limit_wears_it_and_far_over_it_ends_it(own):
    take = "ready(); kept = []; serve(lambda h, b: [kept.append(b'x' * %d), answer(h, b)])"
    owner = own(fake(take % (26 << 20), memory_limit_bytes=32 << 20)).ready()
    owner.run(toy_job(1, 2))
    assert (owner.worker.recycle_reason.code, owner.worker.state) == ("LF411", State.READY)
    hog = "def hog(h, b):\n    kept = b'x' * (90 << 20)\n    time.sleep(600)\nready(); serve(hog)"
    other = own(fake(hog, memory_limit_bytes=64 << 20)).ready()
    other.worker.run([toy_job(1, 2)], 30)
    findings, jobs = other.ended(10)
    assert ([f.code for f in findings], len(jobs)) == (["LF411"], 1)
    assert "its limit is 64 MiB" in findings[0].observed


def test_stop_is_quiet_and_waits_for_what_runs(own):
    owner = own(fake("ready(); serve(lambda *f: [time.sleep(0.3), answer(*f)])")).ready()
    owner.worker.run([toy_job(1, 2)], 30)
    owner.worker.stop()
    owner.until(lambda: owner.worker.state is State.DEAD, 10)
    assert (len(owner.answers), owner.ends) == (1, [])
    deaf = own(fake("ready(); time.sleep(600)")).ready()
    deaf.worker.stop()
    assert deaf.worker.state is State.ENDING
    deaf.until(lambda: deaf.worker.state is State.DEAD, 10)
    assert deaf.ends == []


def test_its_children_end_with_it(own, tmp_path):
    body = (
        "import subprocess; p = subprocess.Popen(['sleep', '600']); open(%r, 'w').write(str(p.pid)); ready(); serve()"
    )
    owner = own(fake(body % str(tmp_path / "pid"))).ready()
    child = int((tmp_path / "pid").read_text())
    os.kill(owner.worker.pid, signal.SIGKILL)
    owner.ended(10)
    owner.until(lambda: not _runs(child), 5)


def test_a_program_that_is_not_there_is_told(own):
    owner = own(replace(fake(""), argv=("/nonexistent/python",)))
    assert owner.ends == []  # never from within the call
    findings, _ = owner.ended(5)
    assert "No such file or directory" in findings[0].observed
    assert owner.worker.pid == 0


@toolchain
def test_it_ends_with_its_parent(nb_files, goldens, lite_python, tmp_path):
    parent = f"""
import sys, time
sys.path[:0] = [{str(AGENT)!r}, {str(AGENT.parent)!r}]
from pathlib import Path
from tests.agent.support.worker_fixtures import Owner, plan
owner = Owner(plan(Path(sys.argv[1]), [Path(sys.argv[2])], Path(sys.argv[3]))).ready()
print(owner.worker.pid, flush=True)
time.sleep(600)
"""
    argv = [sys.executable, "-c", parent, str(nb_files("cls", "x86")), str(goldens["cls"][0]), str(lite_python)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE)
    try:
        pid = int(process.stdout.readline())
        assert _runs(pid)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    end = time.monotonic() + 10
    while _runs(pid) and time.monotonic() < end:
        time.sleep(0.02)
    assert not _runs(pid)


def _runs(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


# --- plans and pure parts


def test_once_tells_of_a_hang_and_of_what_came_after():
    hang = fake("ready(); serve(lambda *f: time.sleep(600))")
    request = (toy_job(1, 2).inputs, toy_job(1, 2).body)
    first, second = run_one_shot(hang, [request, request], 0.2)
    assert (first.code, first.finding.code, second.code) == ("timed-out", "LF408", "crashed")


def test_the_environment_says_threads_and_nothing_of_the_daemons():
    env = environment(fake("", threads=3), {"NOTIFY_SOCKET": "/x", "LISTEN_FDS": "1", "HOME": "/h"})
    assert env == {"HOME": "/h", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "3", "MKL_NUM_THREADS": "3"}
    assert "OMP_NUM_THREADS" not in environment(fake(""), {})


def stored_release(folder: Path, nb: Path, golden: Path, **more: object) -> tuple[Store, str]:
    store = Store(str(folder / "root"))
    store.lock()
    blobs = [nb.read_bytes(), golden.read_bytes()]
    shas = [hashlib.sha256(data).hexdigest() for data in blobs]
    for sha, data in zip(shas, blobs):  # noqa: B905 - 3.7
        store.put(sha, len(data), [data])
    verify = {"tolerance": {"max_abs": 0.1}, "threads": 2}
    manifest = {"model": {"name": "cls", "nb": shas[0]}, "golden": [shas[1]], "runtime": "system", "verify": verify}
    return store, store.write_release({**manifest, **more})


@toolchain
def test_a_plan_has_what_the_release_asks_of_the_engine_unless_the_service_says_otherwise(nb_files, goldens, tmp_path):
    engine = {"threads": 4, "power_mode": "LITE_POWER_LOW", "opencl": {"tune": "CL_TUNE_RAPID", "cache": True}}
    store, identity = stored_release(tmp_path, nb_files("cls", "x86"), goldens["cls"][0], engine=engine)
    made = plan_of(store, identity, Settings())
    assert (made.threads, made.power_mode) == (4, "LITE_POWER_LOW")
    assert made.engine.to_dict() == engine
    assert not made.accelerated  # the file has no such kernels: its sandbox stays as it is
    assert made.cache == store.path("caches", identity)
    assert os.stat(made.cache).st_mode & 0o777 == 0o700
    other = plan_of(store, identity, Settings(threads=1, power_mode="LITE_POWER_HIGH"))
    assert (other.threads, other.power_mode, other.engine.opencl) == (1, "LITE_POWER_HIGH", made.engine.opencl)
    store, identity = stored_release(tmp_path / "b", nb_files("cls", "x86"), goldens["cls"][0], engine={"turbo": 1})
    with pytest.raises(StoreError, match="the release of cls: engine has no field turbo"):
        plan_of(store, identity, Settings())


@toolchain
def test_a_plan_names_what_is_missing(nb_files, goldens, tmp_path):
    store, identity = stored_release(tmp_path, nb_files("cls", "x86"), goldens["cls"][0])
    made = plan_of(store, identity, Settings(power_mode="LITE_POWER_HIGH", memory_limit_bytes=1 << 30))
    assert (made.model.name, made.model.release, made.runtime) == ("cls", identity, "")
    assert (made.threads, made.power_mode, made.tolerance) == (2, "LITE_POWER_HIGH", {"max_abs": 0.1})
    assert (made.memory_limit_bytes, made.growth_limit_bytes) == (1 << 30, 256 << 20)
    assert plan_of(store, identity, Settings(threads=1)).threads == 1
    total = memory(Tree("/")).total
    assert plan_of(store, identity, Settings()).memory_limit_bytes == total - max(total // 8, 32 << 20)
    os.unlink(made.golden[0])
    with pytest.raises(StoreError, match=r"a golden of cls \(.{12}\) is missing on this device"):
        plan_of(store, identity, Settings())
    os.unlink(made.nb)
    with pytest.raises(StoreError, match="the file of cls"):
        plan_of(store, identity, Settings())
    with pytest.raises(StoreError, match="is not on this device"):
        plan_of(store, release_id({}), Settings())


@toolchain
def test_limits_follow_what_the_proof_took_on_this_device(nb_files, goldens, tmp_path):
    """A proof whose runs took 40 s on a slow board is served there; what settings state, and older records, stay."""
    store, identity = stored_release(tmp_path, nb_files("cls", "x86"), goldens["cls"][0])
    assert limits(plan_of(store, identity, Settings())) == (120.0, 30.0)  # no proof is recorded
    measured: dict[str, object] = {"load_ms": 20e3, "latency_ms": {"p50": 38e3, "p90": 39e3, "p99": 40e3}}
    store.record_verification(identity, "f", measured)
    cases = len(store.release(identity).goldens)
    assert limits(plan_of(store, identity, Settings())) == (5 * (20 + (cases + 4) * 40), 200.0)
    assert limits(plan_of(store, identity, Settings(start_limit_s=60, time_limit_s=5))) == (60, 5)
    assert plan_of(store, identity, Settings()).wanted == "binding"  # what an older agent proved
    store.record_verification(identity, "f", dict(measured, engine="native"))
    assert plan_of(store, identity, Settings()).wanted == "native"
    for odd in ({"load_ms": "x", "latency_ms": None}, {"load_ms": 1e300, "latency_ms": {"p99": -1}}, {"load_ms": 30.0}):
        store.record_verification(identity, "f", dict(odd))
        assert limits(plan_of(store, identity, Settings())) == (120.0, 30.0)


def limits(plan: WorkerPlan) -> tuple[float, float]:
    return plan.start_limit_s, plan.run_limit_s


def test_batches_join_and_part():
    one, two = ({"x": Array("float32", (n, 2), struct.pack(f"<{2 * n}f", *range(2 * n)))} for n in (1, 2))
    assert are_batchable([one, two])
    assert not are_batchable([one, {"x": Array("float32", (1, 3), bytes(12))}])
    assert not are_batchable([one, {"x": Array("int32", (1, 2), bytes(8))}])
    assert not are_batchable([{"x": Array("float32", (), bytes(4))}] * 2)
    joined = join_inputs([one, two])["x"]
    assert joined.shape == (3, 2)
    (first,), (second,) = split_outputs([joined], [1, 2])
    assert (first, second) == (one["x"], two["x"])
    with pytest.raises(ValueError, match="gave an output of shape"):
        split_outputs([joined], [1, 1])


@pytest.mark.parametrize("numpy", [None, np])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_numbers_that_are_none_are_found(dtype, numpy):
    def array(*items: float) -> Array:
        return Array(dtype, (len(items),), np.array(items, dtype).tobytes())

    largest = float(np.finfo(dtype).max)
    assert all_finite(array(largest, largest, largest, -1.0), numpy)
    assert not all_finite(array(1.0, float("nan")), numpy)
    assert not all_finite(array(float("inf"), float("-inf")), numpy)
    assert all_finite(Array("int32", (1,), b"\xff" * 4), numpy)
    assert TOY.inputs[0].dtype == "float32"


# --- its confinement


@toolchain
def test_a_worker_is_confined_before_its_model_is_loaded(nb_files, goldens, lite_python, own):
    kernel = describe_kernel()
    owner = own(plan(nb_files("cls", "x86"), goldens["cls"], lite_python, memory_limit_bytes=1 << 30)).ready()
    assert owner.facts.sandbox == owner.worker.sandbox
    told = owner.facts.to_dict()["sandbox"]
    assert (told["landlock"], told["seccomp"]) == (kernel.landlock_abi, kernel.seccomp)
    status = Path(f"/proc/{owner.worker.pid}/status").read_text()
    assert ("Seccomp:\t2" in status) == kernel.seccomp
    assert int(Path(f"/proc/{owner.worker.pid}/oom_score_adj").read_text()) >= 500
    assert "LF" not in str(owner.run(*golden_jobs(goldens["cls"])))


def test_a_worker_that_misreports_its_confinement_is_killed(own):
    owner = own(fake("link.send({'event': 'confined', 'sandbox': {'landlock': 'all'}}); ready(); serve()"))
    (found,), _ = owner.ended()
    assert "no report of its confinement" in found.observed
