"""The public API does the whole job on a real fleet, as a program of a user's would."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import litefleet
import numpy as np
from litefleet_controller.demo import EmbeddedFleet

from .conftest import Project


async def test_open_plan_roll_out_verify_infer_and_status(
    fleet: Callable[..., EmbeddedFleet], project: Callable[..., Project]
) -> None:
    async with fleet("cam-1", "cam-2") as running:
        folder = project(running).folder
        opened = litefleet.open_project(folder / "litefleet.yaml", accept_new_host_keys=True)
        assert [device.name for device in opened.devices] == ["cam-1", "cam-2"]

        plan = await asyncio.to_thread(litefleet.plan, opened)
        assert [(device.row.device, device.effect) for device in plan.devices] == [
            ("cam-1", "changes"),
            ("cam-2", "changes"),
        ]

        report = await asyncio.to_thread(litefleet.rollout, opened)
        assert report.exit_code == 0
        assert {o.device: (o.verdict, o.activated) for o in report.outcomes} == {
            name: (litefleet.Verdict.VERIFIED, True) for name in ("cam-1", "cam-2")
        }

        found = litefleet.status(opened)
        assert found.rollout.state == "done"
        assert {row.release for row in found.rows} == {outcome.release for outcome in report.outcomes}
        assert len(found.outcomes) == 2

        one = litefleet.open_project(folder / "litefleet.yaml", limit="cam-1")
        assert (await asyncio.to_thread(litefleet.verify, one)).exit_code == 0

        async with litefleet.Inference(one) as inference:
            door = litefleet.Case("door", {"x": np.zeros((1, 3, 48, 192), "float32")})
            (answer,) = await inference.run("cls", [door])
        assert answer.device == "cam-1"
        (output,) = answer.cases[0].outputs.values()
        assert output.shape == (1, 2)
        assert abs(float(output.sum()) - 1) < 1e-4
