"""`litefleet infer` on real devices: answers, comparisons, a device that runs another release, and what can't be asked."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from litefleet_agent.findings import Verdict
from litefleet_controller.common.errors import UsageError
from litefleet_controller.demo import EmbeddedFleet
from litefleet_controller.devices.progress import QuietProgress
from litefleet_controller.infer.infer import InferChoice, run_inference
from litefleet_controller.infer.report import InferenceReport
from litefleet_controller.project import Options

from tests.e2e.conftest import Project

Fleets = Callable[..., EmbeddedFleet]
Projects = Callable[..., Project]


def inputs(folder: Path, *seeds: int) -> list[Path]:
    paths = []
    for seed in seeds:
        paths.append(folder / f"in{seed}.npz")
        np.savez(paths[-1], x=np.random.RandomState(seed).rand(1, 3, 48, 192).astype("float32"))
    return paths


async def infer(job: Project, files: list[Path], limit: str = "", **choice: object) -> InferenceReport:
    options = Options(job.folder / "litefleet.yaml", None, limit)
    return await run_inference(options, files, InferChoice(**choice), lambda total: QuietProgress())  # type: ignore[arg-type]


def another(source: Path, folder: Path) -> Path:
    """Return a copy of a model in which one weight is another."""
    copy = folder / "another"
    shutil.copytree(source, copy)
    params = bytearray((copy / "inference.pdiparams").read_bytes())
    params[-4:] = struct.pack("<f", struct.unpack("<f", params[-4:])[0] + 1.0)
    (copy / "inference.pdiparams").write_bytes(params)
    return copy


async def test_devices_answer_and_the_one_with_another_release_is_found(
    fleet: Fleets, project: Projects, models: dict[str, Path], tmp_path: Path
) -> None:
    files = inputs(tmp_path, 0, 1)
    async with fleet("a", "b", "odd") as devices:
        job = project(devices)
        assert (await job.run()).exit_code == 0
        made = await infer(job, files, reference=True, out=tmp_path / "out")
        assert (made.exit_code, made.majority) == (0, {"in0": "a", "in1": "a"})
        assert made.reference_engine == "Paddle-Lite 2.13rc0"  # the project's goldens are made by it
        for answer in made.answers:
            assert (answer.by, answer.precision, answer.outcome.round_trips) == ("one-shot", "fp32", 2)
            assert max(answer.cases[0].outputs["softmax_0.tmp_0"][0]) == pytest.approx(0.56828862, abs=1e-5)
        kept = np.load(tmp_path / "out" / "b-cls-in0.npz")["softmax_0.tmp_0"]
        np.testing.assert_array_equal(kept, made.answers[1].cases[0].outputs["softmax_0.tmp_0"])
        assert sorted(Path(p).name for p in made.files) == sorted(
            f"{d}-cls-in{n}.npz" for d in ("a", "b", "odd") for n in (0, 1)
        )

        good = yaml.safe_load((job.folder / "litefleet.yaml").read_text())
        job.config(models={"cls": {**good["models"]["cls"], "source": str(another(models["cls"], tmp_path))}})
        assert (await job.run(limit="odd")).exit_code == 0  # it computes what its own model should
        job.config(models=good["models"])
        made = await infer(job, files)
        assert {a.device: a.outcome.verdict for a in made.answers} == {
            "a": Verdict.VERIFIED,
            "b": Verdict.VERIFIED,
            "odd": Verdict.WRONG,
        }
        assert (made.exit_code, [f.code for f in made.answers[2].outcome.findings]) == (1, ["LF403"])
        assert len({a.outcome.release for a in made.answers}) == 2
        first = made.answers[0].outcome.release
        by_id = await infer(job, files, limit="odd", release=first)  # it still has the one before
        assert (by_id.exit_code, by_id.answers[0].outcome.release) == (0, first)


async def test_what_was_never_rolled_out_can_not_be_asked(fleet: Fleets, project: Projects, tmp_path: Path) -> None:
    async with fleet("a") as devices:
        job = project(devices)
        made = await infer(job, inputs(tmp_path, 0))
        outcome = made.answers[0].outcome
        assert (outcome.verdict, outcome.findings[0].code, made.exit_code) == (Verdict.FAILED, "LF619", 1)
        assert outcome.sentence == "no release of cls is current on this device, which runs nothing: roll it out first"
        root = devices.devices["a"].root
        assert sorted(p.name for p in root.iterdir()) == ["agent"]  # asking has changed nothing


async def test_a_device_of_another_model_is_left_out(fleet: Fleets, project: Projects, tmp_path: Path) -> None:
    async with fleet("a", model="cls") as devices:
        job = project(devices)
        config = yaml.safe_load((job.folder / "litefleet.yaml").read_text())["models"]
        job.config(models={**config, "other": config["cls"]})
        with pytest.raises(UsageError, match="which model\\? Name one with -m: cls, other"):
            await infer(job, inputs(tmp_path, 0))
        with pytest.raises(UsageError, match="none of the chosen devices has the model other"):
            await infer(job, inputs(tmp_path, 0), model="other")


async def test_the_command_line(fleet: Fleets, project: Projects, tmp_path: Path) -> None:
    files = inputs(tmp_path, 0)

    def run(*args: object) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "litefleet_controller", "infer", *map(str, args)]
        return subprocess.run(argv, cwd=tmp_path / "project", capture_output=True, text=True, timeout=100, check=False)

    async with fleet("a", "b") as devices:
        assert (await project(devices).run()).exit_code == 0
        done = run(*files, "--limit", "a")
        assert done.returncode == 0, done.stderr
        assert "softmax_0.tmp_0 [1 x 2]: 0.568289, 0.431711" in done.stdout
        assert "1 of 1 device answered correctly" in done.stdout
        done = run(*files, "--json")
        reported = json.loads(done.stdout)
        assert (done.returncode, reported["exit_code"], [d["device"] for d in reported["devices"]]) == (
            0,
            0,
            ["a", "b"],
        )
        np.save(tmp_path / "bad.npy", np.zeros((1, 1, 48, 192), "float32"))
        done = run(tmp_path / "bad.npy")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == "litefleet: bad: x is 1 x 1 x 48 x 192, and the model's is ? x 3 x ? x ? (?: any)\n"
        (tmp_path / "file").touch()
        done = run(*files, "--out", tmp_path / "file" / "below")
        assert (done.returncode, "--out: " in done.stderr) == (2, True)
        assert run().returncode == 2
