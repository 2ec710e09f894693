"""Small rollout values for the tests of plans and reports."""

from __future__ import annotations

from typing import Any

from litefleet_agent.findings import Finding
from litefleet_controller.rollout import DeviceRow, DeviceState, Policy
from litefleet_controller.rollout_engine.plan import Plan, PlannedDevice, make_plan

OLD, NEW, FILE = "a" * 64, "b" * 64, "c" * 64
NOW = 1_795_433_400.0  # 2026-11-23 11:30 UTC


def row(device: str, state: DeviceState = DeviceState.PENDING, part: str = "Cortex-A72", **more: Any) -> DeviceRow:
    values: dict[str, Any] = {"libc": "glibc 2.36", "runtime": "built", "release": NEW, "artifact": FILE, "before": OLD}
    values.update({"wave": 0, "position": 0} | more)
    return DeviceRow(device, values.pop("model", "cls"), state=state, part=part, **values)


def planned(device: str, state: DeviceState = DeviceState.PENDING, *findings: Finding, **more: Any) -> PlannedDevice:
    part = more.pop("part", "Cortex-A72")
    values: dict[str, Any] = {"why": f"{part}: the ARM file of cls", "bytes_to_send": 571_000, "runs": OLD} | more
    reachable = state is not DeviceState.OFFLINE
    if not reachable or state is DeviceState.BLOCKED or state is DeviceState.UNCHANGED:
        values["bytes_to_send"] = 0
    return PlannedDevice(row(device, state, part), reachable, findings=findings, **values)


def plan_of(*devices: PlannedDevice, policy: Policy | None = None) -> Plan:
    return make_plan(
        devices, policy or Policy(), lambda name: frozenset(), fleet="hall", created_at="2026-11-23T11:30:00Z"
    )
