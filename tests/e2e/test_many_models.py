"""Several models on one device in one conversation, and goldens that the user brings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from litefleet_agent.findings import Verdict
from litefleet_controller.demo import EmbeddedFleet

from tests.e2e.conftest import Project

Fleets = Callable[..., EmbeddedFleet]
Projects = Callable[..., Project]
DIMS = {"cls": [1, 3, 48, 192], "det": [1, 3, 96, 96], "rec": [1, 3, 48, 320]}


def configure(job: Project, models: dict[str, object]) -> None:
    """Write other models into the project's litefleet.yaml."""
    path = job.folder / "litefleet.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "models": models}))


def entry(source: Path, model: str) -> dict[str, object]:
    """What litefleet.yaml says of one model."""
    return {"source": str(source), "inputs": {"x": DIMS[model]}, "golden": {"engine": "paddlelite"}}


async def test_three_models_in_one_conversation_and_a_broken_one_stops_none(
    fleet: Fleets, project: Projects, models: dict[str, Path], tmp_path: Path
) -> None:
    async with fleet("a") as devices:
        job = project(devices)
        wanted = {name: entry(models[name], name) for name in ("cls", "det", "rec")}
        configure(job, {"absent": entry(tmp_path / "no-such-model", "cls"), **wanted})
        report = await job.run()
        ended = {o.model: o.verdict for o in report.outcomes}
        root = devices.devices["a"].root
        assert ended.pop("absent") is Verdict.REFUSED, report.to_dict()
        assert ended == dict.fromkeys(wanted, Verdict.VERIFIED), report.to_dict()
        assert sorted(p.name for p in (root / "models").iterdir() if (p / "current").exists()) == sorted(wanted)
        broken = next(o for o in report.outcomes if o.model == "absent")
        assert "no-such-model" in broken.sentence
        again = await job.run()
    assert {o.model for o in again.outcomes if o.unchanged} == set(wanted)
    # One connection, one round trip: it counts with the first model, and not again with each of the others.
    assert sum(o.round_trips for o in again.outcomes) == 1
    sent = [o.sent_bytes for o in report.outcomes if o.model in wanted]
    biggest = max(p.stat().st_size for p in job.folder.rglob("blobs/*"))
    assert all(100_000 < size < biggest + 4_000_000 for size in sent), sent


async def goldens(job: Project) -> list[Path]:
    """Let litefleet make goldens of the classifier, and return the files."""
    report = await job.run()
    assert report.outcomes[0].verdict is Verdict.VERIFIED, report.to_dict()
    return sorted((job.folder / ".litefleet" / "goldens").rglob("*.npz"))


def change(path: Path, out: Path, edit: Callable[[dict[str, np.ndarray]], object]) -> Path:
    """Write `path` again with `edit` done to its arrays."""
    with np.load(path) as loaded:
        arrays = dict(loaded)
    edit(arrays)
    np.savez(out, **arrays)
    return out


def mirror(arrays: dict[str, np.ndarray]) -> None:
    """Turn every output around: the same range, other values."""
    for name in arrays:
        if name != "x":
            arrays[name] = arrays[name][..., ::-1].copy()


def shorten(arrays: dict[str, np.ndarray]) -> None:
    """Leave one of the three colours."""
    arrays["x"] = arrays["x"][:, :1]


@pytest.mark.parametrize(
    ("edit", "verdict", "code", "words"),
    [
        (lambda arrays: None, Verdict.VERIFIED, "", ""),
        (mirror, Verdict.WRONG, "LF403", "at rank 1 class 0 stands where the reference has class 1"),
        (shorten, Verdict.REFUSED, "LF412", "input 'x' has dims [1, 1, 48, 192]; the model's are"),
    ],
    ids=["right", "wrong values", "wrong dims"],
)
async def test_a_golden_that_the_user_brings(
    fleet: Fleets, project: Projects, models: dict[str, Path], edit: Callable[..., None], verdict: Verdict, code: str,
    words: str,
) -> None:  # fmt: skip
    async with fleet("a") as devices:
        job = project(devices)
        made = await goldens(job)
        assert len(made) >= 2
        files = [change(path, job.folder / f"mine-{i}.npz", edit) for i, path in enumerate(made)]
        model = {**entry(models["cls"], "cls"), "golden": {"files": [f.name for f in files]}}
        del model["inputs"]
        configure(job, {"cls": model})
        outcome = (await job.run()).outcomes[0]
    assert outcome.verdict is verdict, outcome.to_dict()
    assert [f.code for f in outcome.findings][:1] == ([code] if code else [])
    assert words in outcome.sentence
