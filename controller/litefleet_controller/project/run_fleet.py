"""Probes or verifies the fleet's devices, and keeps the reports of all commands."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from litefleet_agent.formats.files import read_regular
from litefleet_inventory import Device

from .. import __version__
from ..common.errors import UsageError
from ..common.operator import actor
from ..config import Config, load_config
from ..devices.fan_out import run_bounded
from ..devices.outcome import DeviceOutcome, Interrupted, RunReport
from ..devices.progress import Progress
from . import Options
from .project import Project, open_project, open_state

if TYPE_CHECKING:
    from ..build.releases import ReleaseBuilder
    from ..devices.steps import Evaluator

_SEARCHED = 500  # latest kept reports
_MOST_REPORT = 1 << 30  # bytes
ProgressFor = Callable[[int], Progress]


@dataclass(frozen=True)
class Stopwatch:
    """The start of a run."""

    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    clock: float = field(default_factory=time.monotonic)

    @property
    def stamp(self) -> str:
        """The start in ISO 8601, UTC, to the second."""
        return self.started.isoformat(timespec="seconds").replace("+00:00", "Z")

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.clock


# Returns what measures accuracy in a run; ConfigError and UsageError for data that cannot be used.
EvaluatorFor = Callable[[Project, "ReleaseBuilder", Progress], Awaitable["Evaluator | None"]]


async def run_fleet(
    command: str, options: Options, progress_for: ProgressFor, evaluator_for: EvaluatorFor | None = None
) -> RunReport:
    """Run `command` ("probe", "verify" or "evaluate") on the selected devices; no release is activated.

    Raises: ConfigError and UsageError before a device is contacted; Interrupted after Ctrl-C.
    """
    from ..devices.steps import Mode, run_device

    project = open_project(options)
    stage = command != "probe"
    wanted = {d.name: project.models_of(d) if stage else [""] for d in project.devices}
    devices = [device for device in project.devices if wanted[device.name]]
    if not devices:
        raise UsageError("the inventory gives none of these models to a selected device")
    watch = Stopwatch()
    with progress_for(sum(map(len, wanted.values()))) as progress:
        release_builder = project.release_builder(progress)
        session_factory = project.session_factory(progress)
        try:
            evaluator = await evaluator_for(project, release_builder, progress) if evaluator_for is not None else None
            mode = Mode(stage, False, True, project.verify_limit_s, evaluator=evaluator)

            async def work(device: Device) -> list[DeviceOutcome]:
                return await run_device(device, wanted[device.name], mode, session_factory, release_builder)

            outcomes, interrupted = await fan_out(project, devices, work, progress)
        finally:
            await release_builder.close()
    report = save_report(project.config, RunReport(command, watch.stamp, watch.seconds, outcomes))
    if interrupted:
        raise Interrupted(report)
    return report


async def fan_out(
    project: Project,
    devices: Sequence[Device],
    task: Callable[[Device], Awaitable[list[DeviceOutcome]]],
    progress: Progress,
    at_once: int = 0,
) -> tuple[tuple[DeviceOutcome, ...], bool]:
    """Run `task` on devices within the project's limits; `at_once`, if not 0, replaces `ssh.concurrency`.

    Return the outcomes in the devices' order, and whether Ctrl-C interrupted the run.
    """
    most = at_once or project.config.ssh.concurrency
    per_jump = min(most, project.config.rollout.per_jump_host)
    return await run_bounded(devices, task, most, progress.device_done, per_jump)


def save_report(config: Config, report: RunReport, versions: Mapping[str, str] | None = None) -> RunReport:
    """Write the report to the project's store, for `litefleet report`, and return it as it was kept.

    It gets who ran it, the program's version, and the releases' versions: `versions` by release id, by default as stored.
    """
    named = _stored_versions(config) if versions is None else versions
    outcomes = tuple(replace(o, version=o.version or named.get(o.release, "")) for o in report.outcomes)
    by = actor(config.operator)
    report = replace(report, outcomes=outcomes, fleet=config.fleet, by=by, litefleet=__version__)
    folder = reports_folder(config)
    folder.mkdir(parents=True, exist_ok=True)
    stamp = report.started_at.replace("-", "").replace(":", "").removesuffix("Z")
    with (folder / f"{stamp}-{report.command}.json").open("w", encoding="utf-8") as file:
        file.writelines(report.lines())
    return report


def reports_folder(config: Config) -> Path:
    """Return the folder of the kept reports."""
    return config.store / "reports"


def _stored_versions(config: Config) -> Mapping[str, str]:
    """Return the versions that the project's state knows, by release id; none where it has no state yet or it is unusable."""
    from ..state import StateError  # takes 0.2 s to import

    if "://" not in config.state and not Path(config.state or config.store / "state.db").expanduser().is_file():
        return {}
    try:
        with closing(open_state(config)) as state:
            return state.versions()
    except StateError:
        return {}  # the devices' outcomes count: only names for people are lost


class KeptReport(NamedTuple):
    """One report in the project's store."""

    path: Path
    report: RunReport

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form: what a list says of it."""
        one = self.report
        about = {"command": one.command, "started_at": one.started_at, "by": one.by, "counts": one.counts}
        return {"name": self.path.stem, **about, "rollout": one.rollout.get("id", "")}


def kept_reports(config: Config, last: int, command: str = "") -> list[KeptReport]:
    """Return the latest kept reports, the newest first; `command` chooses those of one command.  Unreadable ones are left out."""
    found: list[KeptReport] = []
    for path in sorted(reports_folder(config).glob("*.json"), reverse=True):
        if command and not path.stem.endswith(f"-{command}"):
            continue
        try:
            found.append(KeptReport(path, read_report(path)))
        except UsageError:
            continue
        if len(found) == last:
            break
    return found


def find_report(config_path: Path, wanted: str) -> RunReport:
    """Return a report by its file, its name in the store, or the id of a rollout, whose latest kept report counts.

    Raises: UsageError when there is none.
    """
    path = Path(wanted)
    if path.is_file() or (path.suffix == ".json" and "/" in wanted):
        return read_report(path)
    config = load_config(config_path)
    in_store = reports_folder(config) / f"{path.name.removesuffix('.json')}.json"
    if in_store.is_file():
        return read_report(in_store)
    for kept in kept_reports(config, _SEARCHED):
        if kept.report.rollout.get("id") == wanted:
            return kept.report
    raise UsageError(
        f"{wanted[:80]} is neither a file nor the name of a kept report or its rollout; `litefleet reports` lists them"
    )


def read_report(path: Path) -> RunReport:
    """Return a kept report; UsageError when the file cannot be read or is no report."""
    try:
        return RunReport.from_dict(json.loads(read_regular(path, _MOST_REPORT)))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise UsageError(f"{path} is not a litefleet report (the JSON that --json prints): {error}") from error
