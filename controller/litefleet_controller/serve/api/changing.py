"""The operations that change something: decisions on rollouts, jobs, host keys, forgotten devices."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from .. import actions
from ..actions import Selection
from ..auth import Role
from ..jobs import Job
from . import schemas
from .operation import PREFIX, Call, Reply, operation
from .paging import Paged, page
from .problems import ProblemError
from .reading import known_rollout


@operation("POST", "/plan", Role.OPERATE, Job, status=202, usage=404)
def plan(call: Call, body: schemas.PlanBody) -> Reply:
    """Start making a plan: what a rollout would do to each device, in which wave, and why.  Its result is the plan."""
    return _begun(actions.plan(call.service, call.person, _selection(body), body.offline))


@operation("POST", "/rollouts", Role.OPERATE, Job, status=202, usage=404)
def start(call: Call, body: schemas.RolloutBody) -> Reply:
    """Start a rollout: deliver each device's file wave by wave, verify it there, activate it under a lease, confirm."""
    job = actions.rollout(call.service, call.person, _selection(body), body.supersede, body.wait_for_offline)
    return _begun(job)


@operation("POST", "/rollouts/{rollout}/pause", Role.OPERATE, schemas.Said, usage=409)
def pause(call: Call, rollout: str) -> Reply:
    """Pause a rollout: it starts no further device and finishes those under way."""
    known_rollout(call, rollout)
    return Reply({"message": actions.pause(call.service, call.person, rollout)})


@operation("POST", "/rollouts/{rollout}/abort", Role.OPERATE, schemas.Said, usage=409)
def abort(call: Call, rollout: str) -> Reply:
    """End a rollout: it finishes the devices under way and skips the others."""
    known_rollout(call, rollout)
    return Reply({"message": actions.abort(call.service, call.person, rollout)})


@operation("POST", "/rollouts/{rollout}/resume", Role.OPERATE, Job, status=202, usage=409)
def resume(call: Call, rollout: str, body: schemas.ContinueBody) -> Reply:
    """Continue a rollout that was paused, or whose controller ended without finishing it."""
    known_rollout(call, rollout)
    return _begun(actions.resume(call.service, call.person, rollout, body.wait_for_offline))


@operation("POST", "/rollouts/{rollout}/approve", Role.OPERATE, Job, status=202, usage=409)
def approve(call: Call, rollout: str, body: schemas.ContinueBody) -> Reply:
    """Start the next wave of a rollout that waits for approval, and continue it."""
    known_rollout(call, rollout)
    return _begun(actions.approve(call.service, call.person, rollout, body.wait_for_offline))


@operation("POST", "/rollouts/{rollout}/retry", Role.OPERATE, Job, status=202, usage=409)
def retry(call: Call, rollout: str, body: schemas.ContinueBody) -> Reply:
    """Retry the failed devices of a rollout."""
    known_rollout(call, rollout)
    return _begun(actions.retry(call.service, call.person, rollout, body.wait_for_offline))


@operation("POST", "/rollback", Role.OPERATE, Job, status=202, usage=404)
def rollback(call: Call, body: schemas.RollbackBody) -> Reply:
    """Revert what a rollout switched on, device by device, and end that rollout; GET /rollback shows it first."""
    if body.rollout:
        known_rollout(call, body.rollout)
    selection = _selection(body)
    return _begun(actions.rollback(call.service, call.person, body.to, body.rollout, body.wave, selection))


@operation("POST", "/devices/{name}/host-key", Role.ADMIN, schemas.Accepted, usage=404)
def accept_key(call: Call, name: str, body: schemas.KeyBody) -> Reply:
    """Trust the SSH host key with this fingerprint, which a person compared; 409 where the device shows another one."""
    rest = actions.accept_key(call.service, call.person, name, body.fingerprint)
    return Reply({"device": name, "fingerprint": body.fingerprint, "elsewhere": list(rest)})


@operation("DELETE", "/devices/{name}", Role.ADMIN, schemas.Said, usage=404)
def forget(call: Call, name: str) -> Reply:
    """Delete what the state stores of a device that is gone; its rows in rollouts and the audit log stay."""
    actions.forget(call.service, call.person, name)
    return Reply({"message": f"{name} is forgotten."})


class JobsQuery(Paged):
    """Which jobs."""

    state: str = Field(
        default="", max_length=20, description="only jobs in this state: running, done, failed, stopped, lost"
    )


@operation("GET", "/jobs", Role.VIEW, schemas.JobList)
def jobs(call: Call, query: JobsQuery) -> Reply:
    """List the jobs, the newest first; they are kept for a week."""
    found = [job for job in call.service.jobs.all() if not query.state or job.state == query.state]
    shown, headers = page(call.request, query, found, lambda job: job.id)
    return Reply({"schema": 1, "jobs": [job.to_dict() for job in shown]}, headers=headers)


@operation("GET", "/jobs/{job}", Role.VIEW, Job)
def one_job(call: Call, job: str) -> Reply:
    """Return a job: its state, its progress, and how it ended."""
    return Reply(_known(call.service.jobs.get(job), job).to_dict())


@operation("GET", "/jobs/{job}/result", Role.VIEW, schemas.Result)
def result(call: Call, job: str) -> Reply:
    """Return what a job came to: the document that its command shows with `--json`; 404 while there is none."""
    found = call.service.jobs.result(job)
    if found is None:
        known = _known(call.service.jobs.get(job), job)
        raise ProblemError(404, f"{known.id} is {known.state}: it has no result{'' if known.over else ' yet'}.")
    return Reply(found)


@operation("POST", "/jobs/{job}/stop", Role.OPERATE, Job)
def stop(call: Call, job: str) -> Reply:
    """Ask a job to stop, as Ctrl-C does: leases are given back, nothing is lost, and `resume` continues."""
    return Reply(_known(call.service.jobs.stop(job), job).to_dict())


def _known(job: Job | None, ident: str) -> Job:
    if job is None:
        raise ProblemError(404, f"There is no job {ident[:40]}: GET /api/v1/jobs lists them.")
    return job


def _selection(body: schemas.SelectionBody) -> Selection:
    return Selection(body.select, tuple(body.models))


def _begun(job: Job) -> Reply:
    headers: dict[str, Any] = {"Location": f"{PREFIX}/jobs/{job.id}"}
    return Reply(job.to_dict(), 202, headers)
