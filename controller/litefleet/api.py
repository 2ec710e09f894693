"""The functions of the public API.  Each does what the command of its name does."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, overload

from litefleet_controller.config import load_config
from litefleet_controller.devices.outcome import RunReport
from litefleet_controller.devices.progress import Progress
from litefleet_controller.devices.steps import WaitPolicy
from litefleet_controller.inspection.model import Inspection, inspect_file
from litefleet_controller.operations.find import RolloutStatus
from litefleet_controller.project import Options
from litefleet_controller.project.project import Project, open_reader
from litefleet_controller.project.project import open_project as _open_project
from litefleet_controller.rollout_engine.plan import Plan

from .calls import PathLike, options_of, progress_for, run, run_checked

if TYPE_CHECKING:
    from .remote import RemoteProject

__all__ = ["evaluate", "inspect", "open_project", "plan", "rollout", "status", "verify"]


@overload
def open_project(
    config: PathLike = ...,
    *,
    inventory: PathLike | None = ...,
    limit: str = ...,
    models: Sequence[str] = ...,
    accept_new_host_keys: bool = ...,
) -> Project: ...
@overload
def open_project(
    config: str, *, token: str, limit: str = ..., models: Sequence[str] = ..., ca_file: PathLike = ...
) -> RemoteProject: ...
def open_project(
    config: PathLike = "litefleet.yaml",
    *,
    inventory: PathLike | None = None,
    limit: str = "",
    models: Sequence[str] = (),
    accept_new_host_keys: bool = False,
    token: str = "",
    ca_file: PathLike = "",
) -> Project | RemoteProject:
    """Read a project's configuration and inventory, and select devices and models.  No device is contacted.

    `limit` selects devices as `--limit` does: names, globs, ranges, groups, `tag:NAME`, `!not`. `models` are names from
    litefleet.yaml; all of them when empty. `accept_new_host_keys` pins the host keys of devices that have no pinned key yet.

    An address, "https://HOST:PORT", with the `token` of a user is the project of that `litefleet serve`: the functions of this
    API are the methods of what is returned. `ca_file` names the authority of its certificate where the system does not know it.

    Raises: ConfigError with every problem of the files; UsageError when nothing is selected or a name is unknown; LitefleetError
    when a server cannot be reached.

        project = litefleet.open_project("litefleet.yaml", limit="hall,!cam-7")
        print([device.name for device in project.devices], project.models)
    """
    if isinstance(config, str) and config.startswith(("http://", "https://")):
        from .remote import open_remote

        return open_remote(config, token, limit, models, str(ca_file))
    chosen = None if inventory is None else Path(inventory)
    return _open_project(Options(Path(config), chosen, limit, tuple(models), accept_new_host_keys))


def plan(project: Project, progress: Progress | None = None, *, offline: bool = False) -> Plan:
    """Probe the project's devices and return the plan of a rollout: for each device its file, wave, bytes to send and reason.

    Nothing on a device changes. An unreachable device is part of the plan (`effect` is "offline"). With `offline`, no device
    is contacted: the plan is made by what the devices reported last.

    Raises: ConfigError, UsageError, StateError.

        for device in litefleet.plan(project).devices:
            print(device.row.device, device.effect, device.bytes_to_send, "bytes:", device.why)
    """
    from litefleet_controller import operations

    options, shown = project.options, progress_for(progress)
    if offline:
        return run(operations.plan_offline(options, shown))
    return run_checked(project, lambda: operations.plan_rollout(options, shown))


def rollout(
    project: Project, *, wait_for_offline: bool = False, supersede: bool = False, progress: Progress | None = None
) -> RunReport:
    """Plan a rollout and run it wave by wave: send, verify on the device, activate under a lease, confirm.

    Returns at the end of the last wave; with `wait_for_offline`, once every offline device was reached (it may take days).
    `supersede` replaces an open rollout that differs or waits for a person. `report.exit_code`: 0 every device runs its planned
    release, 1 at least one failed, 3 a gate stopped the rollout or a person must decide.

    Raises: ConfigError, UsageError, StateError before anything is changed; Interrupted, with the report so far, after Ctrl-C.

        report = litefleet.rollout(litefleet.open_project(limit="canary"))
        failed = [o for o in report.outcomes if o.verdict is not litefleet.Verdict.VERIFIED]
    """
    from litefleet_controller import operations

    wait_policy = WaitPolicy.ALL if wait_for_offline else WaitPolicy.WAVES
    options, shown = project.options, progress_for(progress)
    return run_checked(project, lambda: operations.start_rollout(options, shown, wait_policy, supersede))


def status(project: Project | PathLike, rollout_id: str = "") -> RolloutStatus:
    """Return a rollout of the project's fleet from its state; the latest one if `rollout_id` is empty.

    Raises: UsageError for an unknown rollout; StateError when the state is unusable.

        found = litefleet.status(project)
        print(found.rollout.id, found.rollout.state, found.rollout.reason)
    """
    from litefleet_controller import operations

    config = load_config(options_of(project).config)
    with closing(open_reader(config)) as state:
        return operations.read_status(state, config.fleet, rollout_id)


def verify(project: Project, progress: Progress | None = None) -> RunReport:
    """Verify each device's model on that device against the reference outputs; no release is activated.

    `report.exit_code` is 0 when every device is verified, else 1. The report is kept in the project's store.

    Raises: ConfigError, UsageError before a device is contacted; Interrupted, with the report so far, after Ctrl-C.

        report = litefleet.verify(project)
        print([(o.device, o.measurements.get("latency_ms")) for o in report.outcomes])
    """
    from litefleet_controller.operations.evaluate import verify as run_verify

    return run(run_verify(project.options, progress_for(progress)))


def evaluate(project: Project, progress: Progress | None = None) -> RunReport:
    """Measure each device's accuracy on the labelled data of `golden.dataset`, beside the reference engine's.

    Models without a data set are left out. No release is activated. `accuracy_of(outcome)` gives the scores, from 0 to 1.
    `report.exit_code` is 0 when every device reaches `golden.min` and `golden.drop`, else 1.

    Raises: ConfigError, UsageError before a device is contacted; LitefleetError when the reference engine fails; Interrupted.

        report = litefleet.evaluate(project)
        print([(o.device, litefleet.accuracy_of(o)) for o in report.outcomes])
    """
    from litefleet_controller.operations.evaluate import evaluate as run_evaluation

    return run(run_evaluation(project.options, progress_for(progress)))


def inspect(file: PathLike, arch: str | None = None) -> Inspection:
    """Read a .nb file and describe it; with `arch` ("aarch64", "armv7l", "x86_64" …), check whether it works there.

    The file is read, never run. `inspection.exit_code` is 1 when a finding says that the file does not work on `arch`.

    Raises: UsageError when the file cannot be read, is larger than litefleet reads, or `arch` is unknown.

        inspection = litefleet.inspect("model.nb", "aarch64")
        print(inspection.verdict, [finding.code for finding in inspection.findings])
    """
    return inspect_file(Path(file), arch)
