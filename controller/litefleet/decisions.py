"""The public functions that decide how a stored rollout goes on: resume, approve, retry, pause, abort, roll back."""

from __future__ import annotations

from litefleet_controller.common.errors import UsageError
from litefleet_controller.devices.outcome import RunReport
from litefleet_controller.devices.progress import Progress
from litefleet_controller.devices.steps import WaitPolicy
from litefleet_controller.operations.rollback import RollbackPlan, Target
from litefleet_controller.project import Files
from litefleet_controller.project.project import Project

from .calls import PathLike, options_of, progress_for, run

__all__ = ["abort", "approve", "pause", "plan_rollback", "resume", "retry", "rollback"]


def resume(
    project: Project, rollout_id: str = "", *, wait_for_offline: bool = False, progress: Progress | None = None
) -> RunReport:
    """Continue a rollout that was paused, or whose controller ended without finishing it; the open one if no ID is given.

    Raises: UsageError when there is nothing to resume; ConfigError, StateError; Interrupted, with the report so far.

        report = litefleet.resume(litefleet.open_project(), "r-20261123-0001")
    """
    from litefleet_controller.operations.resume import resume as work

    return run(work(project.options, progress_for(progress), rollout_id, _policy(wait_for_offline)))


def approve(
    project: Project, rollout_id: str = "", *, wait_for_offline: bool = False, progress: Progress | None = None
) -> RunReport:
    """Start the next wave of a rollout that waits for approval, and continue it.

    Raises: UsageError when nothing waits for approval; ConfigError, StateError; Interrupted, with the report so far.

        report = litefleet.approve(litefleet.open_project())
    """
    from litefleet_controller.operations.resume import approve as work

    return run(work(project.options, progress_for(progress), rollout_id, _policy(wait_for_offline)))


def retry(
    project: Project, rollout_id: str = "", *, wait_for_offline: bool = False, progress: Progress | None = None
) -> RunReport:
    """Retry the failed devices of a rollout.

    Raises: UsageError when no device has failed; ConfigError, StateError; Interrupted, with the report so far.

        report = litefleet.retry(litefleet.open_project(), "r-20261123-0001")
    """
    from litefleet_controller.operations.resume import retry as work

    return run(work(project.options, progress_for(progress), rollout_id, _policy(wait_for_offline)))


def pause(project: Project | PathLike, rollout_id: str = "") -> str:
    """Pause a rollout: it starts no further device and finishes those under way.  Return the sentence that reports it.

    `project` may be the path of litefleet.yaml: the inventory is not needed.  A controller at work pauses within a second.
    Raises: UsageError when there is nothing to pause; ConfigError, StateError.

        print(litefleet.pause("litefleet.yaml"))
    """
    from litefleet_controller.operations.resume import pause as work

    return work(options_of(project), rollout_id)


def abort(project: Project | PathLike, rollout_id: str) -> str:
    """End a rollout: it finishes the devices under way and skips the others.  Return the sentence that reports it.

    `project` may be the path of litefleet.yaml: the inventory is not needed.  The ID is required: nothing asks here.
    Raises: UsageError when there is nothing to abort; ConfigError, StateError.

        print(litefleet.abort("litefleet.yaml", "r-20261123-0001"))
    """
    from litefleet_controller.operations.resume import abort as work

    if not rollout_id:
        raise UsageError("abort needs the ID of a rollout: `litefleet status` shows it")
    return work(options_of(project), rollout_id)


def plan_rollback(project: Project, *, to: str = "previous", rollout_id: str = "", wave: int = 0) -> RollbackPlan:
    """Return what `rollback` would do with the same arguments, from what is stored.  No device is contacted.

    Raises: UsageError for a target that cannot be; LitefleetError while another rollout is in the way; StateError.

        print(litefleet.plan_rollback(project, rollout_id="r-20261123-0001").text())
    """
    from litefleet_controller.operations import plan_rollback as work

    return work(project.options, Target(to, rollout_id, wave))


def rollback(
    project: Project, *, to: str = "previous", rollout_id: str = "", wave: int = 0, progress: Progress | None = None
) -> RunReport:
    """Revert what a rollout switched on, device by device, and end that rollout; no file is transferred.

    `to` is "previous", "nothing", or the version or ID of a kept release; `rollout_id` the rollout to revert, by default the
    latest one that switched something on; `wave` only that wave of it, from 1.  Nothing asks: `plan_rollback` shows it first.
    Raises: UsageError, ConfigError, StateError before a device changes; LitefleetError while another rollout is in the way;
    Interrupted, with the report so far.

        report = litefleet.rollback(litefleet.open_project(), rollout_id="r-20261123-0001")
    """
    from litefleet_controller.operations import plan_rollback as preview
    from litefleet_controller.operations import roll_back
    from litefleet_controller.project.check import checked_project

    options, target = project.options, Target(to, rollout_id, wave)
    devices = {row.device for row in preview(options, target).rows}

    async def work() -> RunReport:
        await checked_project(options, Files.KEYS, devices)
        return await roll_back(options, progress_for(progress), target)

    return run(work())


def _policy(wait_for_offline: bool) -> WaitPolicy:
    return WaitPolicy.ALL if wait_for_offline else WaitPolicy.WAVES
