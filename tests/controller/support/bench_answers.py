"""Answers to a bench as a device gives them, for the tests beside this file."""

from __future__ import annotations

import math
from typing import Any

from litefleet_agent.findings import Finding, decide
from litefleet_controller.bench.bench import measurements_of
from litefleet_controller.bench.figures import BenchFigures
from litefleet_controller.devices.outcome import DeviceOutcome, RunReport

FIRST, SECOND = "6557c180" + "a" * 56, "7098e20b" + "b" * 56


def latency(p50: float = 2.0, runs: int = 5000) -> dict[str, Any]:
    return {
        "min": p50 * 0.9, "p50": p50, "p90": p50 * 1.3, "p99": p50 * 1.8, "p999": p50 * 3, "max": p50 * 4,
        "mean": p50 * 1.1, "runs": runs,
    }  # fmt: skip


def series(points: int = 60, p50: float = 2.0) -> dict[str, Any]:
    """A minute of a device that becomes hot; the fifth point was not seen."""
    columns: dict[str, Any] = {
        "t": [float(i) for i in range(points)],
        "runs": [400] * points,
        "p50": [p50 + math.sin(i) * 0.1 for i in range(points)],
        "max": [p50 * 2 + math.cos(i) for i in range(points)],
        "rss": [84_000_000 + i * 1000 for i in range(points)],
        "temperature": [48.0 + i / 4 for i in range(points)],
        "frequency": [1800 if i < points // 2 else 1200 for i in range(points)],
        "available": [900_000_000 - i * 10_000 for i in range(points)],
        "others": [0.05] * points,
    }
    for name in ("p50", "max"):
        columns[name][4:5] = [None] * len(columns[name][4:5])
    return columns


def start(total_ms: float) -> dict[str, Any]:
    parts = {"process_ms": 0.1, "import_ms": 0.6, "load_ms": 0.2, "first_run_ms": 0.1}
    return {"total_ms": total_ms, "read_bytes": 5_000_000, **{name: total_ms * share for name, share in parts.items()}}


def release(identity: str = FIRST, p50: float = 2.0, **more: Any) -> dict[str, Any]:
    reported = {
        "release": identity,
        "right": True,
        "cases": 2,
        "cases_left_out": 0,
        "runtime_version": "v2.13-rc",
        "numpy_version": "1.26.4",
        "threads_set_by": "environment",
        "cold": {"first": start(400.0), "again": [start(120.0), start(110.0), start(130.0)]},
        "warm": latency(p50),
        "whole": latency(p50 * 1.1),
        "runs_per_s": 1000 / p50,
        "cores": 1.0,
        "others": 0.05,
        "memory": {"before_import": 14_000_000, "after_load": 76_000_000, "peak": 85_000_000, "pss": 76_000_000},
        "growth": {"per_1000_runs": 2000.0, "per_hour": 3_600_000.0},
        "heat": {"first": 48.0, "last": 63.0, "highest": 63.0, "per_minute": 15.0},
        "series": series(p50=p50),
    }
    return {**reported, **more}


def cell(workers: int, threads: int = 0, rate: float = 500.0, identity: str = FIRST) -> dict[str, Any]:
    return {
        "release": identity, "workers": workers, "threads": threads, "seconds": 2.0, "runs": int(rate * 2),
        "runs_per_s": rate, "cores": float(workers), "latency": latency(), "worker_p50": {"fastest": 1.9, "slowest": 2.1},
        "rss_bytes": 85_000_000, "pss_bytes": 60_000_000 * workers,
    }  # fmt: skip


def answer(**more: Any) -> dict[str, Any]:
    reported = {
        "model": "cls",
        "verdict": "verified",
        "findings": [],
        "notes": ["Other programs used 15 % of the CPU meanwhile: alone, it is quicker."],
        "seconds": 10.0,
        "took_s": 12.5,
        "low_priority": False,
        "cpus": 4,
        "releases": [release()],
        "comparison": {},
        "cells": [cell(1, 1), cell(4, 1, 1500.0), cell(1, 4, 700.0)],
    }
    return {**reported, **more}


def two() -> dict[str, Any]:
    comparison = {"ratio": 1.12, "low": 1.1, "high": 1.14, "difference_ms": 0.24, "pairs": 60}
    cells = [cell(1), cell(1, 0, 450.0, SECOND), cell(4, 0, 1500.0), cell(4, 0, 1400.0, SECOND)]
    return answer(releases=[release(), release(SECOND, 2.24)], comparison=comparison, cells=cells)


def bare() -> dict[str, Any]:
    """What a device tells whose kernel tells nothing, and that was stopped early."""
    reported = {"release": FIRST, "right": True, "warm": latency(), "whole": latency(), "runs_per_s": 480.0}
    return {"model": "cls", "seconds": 10.0, "releases": [reported]}


def measured(told: dict[str, Any], device: str = "cam-01", *findings: Finding) -> DeviceOutcome:
    figures = BenchFigures.model_validate(told)
    first = figures.first.release if figures.first else ""
    return DeviceOutcome(
        device,
        "cls",
        decide(findings),
        findings,
        {"arch": "aarch64"},
        measurements_of(figures),
        {"measure": 12.5},
        first,
    )


def report(*outcomes: DeviceOutcome) -> RunReport:
    return RunReport("bench", "2026-11-27T07:00:00Z", 23.4, outcomes)
