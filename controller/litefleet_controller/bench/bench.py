"""`litefleet bench`: measures the selected devices, a few at a time, and returns the report."""

from __future__ import annotations

from collections.abc import Callable

from litefleet_inventory import Device

from ..common.errors import UsageError
from ..devices.outcome import DeviceOutcome, Interrupted, RunReport
from ..devices.progress import Progress
from ..project import Options
from ..project.project import open_project
from ..project.run_fleet import Stopwatch, fan_out, save_report
from .choice import BenchChoice
from .session import ParallelLimits, bench_device

__all__ = ["run_bench"]


async def run_bench(
    options: Options, choice: BenchChoice, at_once: int, progress_for: Callable[[int], Progress]
) -> RunReport:
    """Measure at most `at_once` devices at a time; nothing on them is changed, and the report is kept.

    Raises: ConfigError and UsageError before any device is asked; Interrupted after Ctrl-C.
    """
    project = open_project(options)
    if (choice.release or choice.against not in ("", "previous")) and len(project.models) > 1:
        raise UsageError("a release belongs to one model: name that with --model")
    wanted = {device.name: project.models_of(device) for device in project.devices}
    devices = [device for device in project.devices if wanted[device.name]]
    if not devices:
        raise UsageError("none of the selected devices has one of these models in the inventory")
    watch, limits = Stopwatch(), ParallelLimits()
    with progress_for(len(devices)) as progress:
        session_factory = project.session_factory(progress)

        async def work(device: Device) -> list[DeviceOutcome]:
            return await bench_device(
                device, wanted[device.name], choice, session_factory, limits, bool(options.models)
            )

        outcomes, interrupted = await fan_out(project, devices, work, progress, at_once)
    report = RunReport("bench", watch.stamp, watch.seconds, outcomes)
    save_report(project.config, report)
    if interrupted:
        raise Interrupted(report)
    return report
