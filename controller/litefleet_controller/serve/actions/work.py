"""Actions that take minutes: each starts a job, which does what the command of its name does.

What is impossible at once (an unknown rollout, a wrong selection, another controller at work) is raised here, not by the job.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import litefleet

from ..auth import Person
from ..jobs import Busy, Job, JobProgress
from ..service import Service
from .decide import acting
from .selection import EVERYTHING, Selection

__all__ = ["approve", "plan", "resume", "retry", "rollback", "rollout"]


def plan(service: Service, person: Person, selection: Selection = EVERYTHING, offline: bool = False) -> Job:
    """Start making a plan; its result is the plan.  Raises: ConfigError, UsageError, Busy."""
    project = selection.opened(service)
    asked = {**selection.asked(), **({"offline": True} if offline else {})}
    return _start(service, person, "plan", asked, lambda shown: litefleet.plan(project, shown, offline=offline))


def rollout(
    service: Service,
    person: Person,
    selection: Selection = EVERYTHING,
    supersede: bool = False,
    wait_for_offline: bool = False,
) -> Job:
    """Start a rollout.  Raises: ConfigError, UsageError, Busy while another controller is at work."""
    project = selection.opened(service)
    _check_free(service)
    asked: dict[str, Any] = {**selection.asked(), "supersede": supersede, "wait_for_offline": wait_for_offline}
    return _start(
        service,
        person,
        "rollout",
        asked,
        lambda shown: litefleet.rollout(
            project, wait_for_offline=wait_for_offline, supersede=supersede, progress=shown
        ),
    )


def resume(service: Service, person: Person, rollout_id: str, wait_for_offline: bool = False) -> Job:
    """Continue a rollout that was paused, or left.  Raises: UsageError, Busy."""
    return _continue(service, person, "resume", litefleet.resume, rollout_id, wait_for_offline)


def approve(service: Service, person: Person, rollout_id: str, wait_for_offline: bool = False) -> Job:
    """Start the next wave of a rollout that waits for approval.  Raises: UsageError, Busy."""
    return _continue(service, person, "approve", litefleet.approve, rollout_id, wait_for_offline)


def retry(service: Service, person: Person, rollout_id: str, wait_for_offline: bool = False) -> Job:
    """Retry the failed devices of a rollout.  Raises: UsageError, Busy."""
    return _continue(service, person, "retry", litefleet.retry, rollout_id, wait_for_offline)


def rollback(
    service: Service,
    person: Person,
    to: str = "previous",
    rollout_id: str = "",
    wave: int = 0,
    selection: Selection = EVERYTHING,
) -> Job:
    """Start a rollback; `preview_of_rollback` shows it first.  Raises: UsageError, StillOpen, Busy."""
    project = selection.opened(service)
    litefleet.plan_rollback(project, to=to, rollout_id=rollout_id, wave=wave)  # what cannot be is said at once
    _check_free(service)
    asked = {**selection.asked(), "to": to, "rollout": rollout_id, "wave": wave}
    return _start(
        service,
        person,
        "rollback",
        asked,
        lambda shown: litefleet.rollback(project, to=to, rollout_id=rollout_id, wave=wave, progress=shown),
    )


def _continue(
    service: Service,
    person: Person,
    kind: str,
    work: Callable[..., litefleet.RunReport],
    rollout_id: str,
    wait_for_offline: bool,
) -> Job:
    project = service.project()
    litefleet.status(project, rollout_id)  # an unknown rollout is said at once
    _check_free(service)
    asked = {"rollout": rollout_id, "wait_for_offline": wait_for_offline}
    return _start(
        service,
        person,
        kind,
        asked,
        lambda shown: work(project, rollout_id, wait_for_offline=wait_for_offline, progress=shown),
    )


def _check_free(service: Service) -> None:
    """Raise Busy while a controller runs this fleet; the fleet's lock decides in the end."""
    config = service.config()
    with service.state() as state:
        holder = state.holder(config.fleet)
    if holder is not None:
        raise Busy(f"fleet '{config.fleet}' is run by {holder}: wait for it, or pause its rollout")


def _start(
    service: Service,
    person: Person,
    kind: str,
    asked: dict[str, Any],
    work: Callable[[JobProgress], litefleet.RunReport | litefleet.Plan],
) -> Job:
    def by_person(shown: JobProgress) -> litefleet.RunReport | litefleet.Plan:
        with acting(person):
            return work(shown)

    return service.jobs.start(kind, person.actor, asked, by_person)
