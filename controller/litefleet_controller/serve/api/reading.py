"""The operations that read: devices, models, rollouts, histories, the audit log, reports, findings, host keys."""

from __future__ import annotations

import json
import time
from dataclasses import asdict

import litefleet
from litefleet_agent.findings import CATALOGUE
from pydantic import Field

from ... import __version__
from ...catalogue.articles import article
from ...catalogue.language import current_lang
from ...common.errors import UsageError
from ...common.text import sanitize
from ...devices.outcome import document
from ...operations.device_records import story_of
from ...operations.find import find_rollout, read_status_in_brief
from ...operations.model_records import evaluations_before, model_records, model_story, release_ids, releases_named
from ...project.run_fleet import find_report, kept_reports
from ...reports.status_text import history_dict, rollout_rows_dict, rollouts_dict, status_document, summary_document
from ...rollout import DeviceRow
from .. import actions
from ..actions import EVERYTHING, Selection
from ..auth import Role
from ..queries.records import Wanted, records_page
from ..queries.rollouts import Place, RowsWanted, rollouts_after, rows_after
from ..queries.roster import Roster
from . import schemas
from .operation import Call, Reply, operation
from .paging import Paged, Query, gone, last_of, next_page, page
from .problems import ProblemError

_MOST_REPORTS = 2000


@operation("GET", "/me", Role.VIEW, schemas.Me)
def me(call: Call) -> Reply:
    """Return who asks, and which server answers."""
    person = call.person
    found = {"name": person.name, "role": person.role.value, "fleet": call.service.config().fleet}
    return Reply({**found, "litefleet": __version__})


class DevicesQuery(Paged):
    """Filters, as the options of `litefleet devices`."""

    select: str = Field(default="", max_length=2000, description="devices as `--limit` selects them")
    model: str = Field(default="", max_length=80, description="only this model")
    version: str = Field(default="", max_length=80, description="only devices that run this version or release")
    state: str = Field(
        default="",
        max_length=40,
        description="only devices in this state of their latest rollout, or with this verdict",
    )
    drift: bool = Field(default=False, description="only devices that drifted")
    silent: float | None = Field(
        default=None, ge=0, le=1e9, description="only devices not reached for this many seconds"
    )


@operation("GET", "/devices", Role.VIEW, schemas.Devices, usage=404)
def devices(call: Call, query: DevicesQuery) -> Reply:
    """List what runs on each device, since when, its verdict, drift and last contact; one entry for each model."""
    selection, roster = Selection(query.select, (query.model,) if query.model else ()), call.service.roster()
    project = selection.to_read(call.service)
    if selection != EVERYTHING:
        roster = Roster.of(project, roster.drift)
    before = None if query.silent is None else time.time() - query.silent
    wanted = Wanted(query.version, query.state, query.drift, before)
    device, _, model = last_of(query).partition("\0")
    after = (device, model) if query.cursor else None
    with call.service.state() as state:
        found = records_page(state, project, roster, wanted, after, query.limit)
    if found is None:
        raise gone()
    shown, more = found
    headers = next_page(call.request, f"{shown[-1].device}\0{shown[-1].model}") if more else {}
    return Reply({"schema": 1, "command": "devices", "devices": [r.to_dict() for r in shown]}, headers=headers)


@operation("GET", "/models", Role.VIEW, schemas.Models)
def models(call: Call, query: Paged) -> Reply:
    """List the models with their releases and versions; GET /devices?model=NAME lists the devices that run one."""
    with call.service.state() as state:
        found = model_records(state, call.service.config())
    shown, headers = page(call.request, query, found, lambda record: record.name)
    return Reply({"schema": 1, "command": "models", "models": [r.to_dict() for r in shown]}, headers=headers)


@operation("GET", "/models/{model}", Role.VIEW, schemas.OneModel, usage=404)
def model(call: Call, model: str) -> Reply:
    """Return one model: its releases, its golden and what that can tell, measured accuracy, what the files need."""
    with call.service.state() as state:
        return Reply(model_story(state, call.service.config(), model).to_dict())


@operation("GET", "/models/{model}/releases", Role.VIEW, schemas.Releases, usage=404)
def model_releases(call: Call, model: str, query: Paged) -> Reply:
    """List all stored releases of a model, the newest first."""
    with call.service.state() as state:
        known_model(call, model)
        ids, headers = page(call.request, query, release_ids(state, model), str)
        found = releases_named(state, ids)
    content = {"schema": 1, "command": "model", "model": model, "releases": [one.to_dict() for one in found]}
    return Reply(content, headers=headers)


class EvaluationsQuery(Paged):
    """A page of evaluations."""

    limit: int = Field(default=20, ge=1, le=100, description="entries of a page, at most; a page may have fewer")


@operation("GET", "/models/{model}/evaluations", Role.VIEW, schemas.Evaluations, usage=404)
def model_evaluations(call: Call, model: str, query: EvaluationsQuery) -> Reply:
    """List all kept evaluations of a model, the latest first."""
    known_model(call, model)
    found, older = evaluations_before(call.service.config(), model, last_of(query), query.limit)
    headers = next_page(call.request, older) if older else {}
    content = {"schema": 1, "command": "model", "model": model, "evaluations": [one.to_dict() for one in found]}
    return Reply(content, headers=headers)


class LastQuery(Query):
    """How much of a time line."""

    last: int = Field(default=40, ge=1, le=10_000, description="entries of the time line, at most")


@operation("GET", "/devices/{name}", Role.VIEW, schemas.Device, usage=404)
def device(call: Call, name: str, query: LastQuery) -> Reply:
    """Return one device: facts, releases, why it failed, and its time line."""
    with call.service.state() as state:
        drift = call.service.roster().drift
        return Reply(story_of(state, call.service.project(), drift, name, query.last).to_dict())


@operation("GET", "/devices/{name}/stored", Role.VIEW, schemas.Stored, usage=404)
def stored(call: Call, name: str) -> Reply:
    """Return what the state stores of a device: what DELETE /devices/{name} deletes."""
    return Reply({"device": name, "stored": dict(actions.what_is_stored(call.service, name))})


@operation("GET", "/devices/{name}/host-key", Role.ADMIN, schemas.HostKey, usage=404)
def host_key(call: Call, name: str) -> Reply:
    """Contact a device, and return the SSH host key that it shows now; nothing changes."""
    shown = actions.shown_key(call.service, name)
    return Reply(
        {
            "device": name,
            "fingerprint": shown.fingerprint,
            "algorithm": str(shown.key.get_algorithm()),
            "trusted": list(shown.old),
            "is_trusted": shown.known,
            "text": shown.text(),
        }
    )


class HistoryQuery(Query):
    """Which entries of the devices' own histories."""

    select: str = Field(default="", max_length=2000, description="devices as `--limit` selects them")
    since: float = Field(default=0.0, ge=0, le=1e12, description="seconds since the epoch, by the device's clock")
    limit: int = Field(default=100, ge=1, le=1000, description="entries, at most; the latest ones")


@operation("GET", "/history", Role.VIEW, schemas.History, usage=404)
def history(call: Call, query: HistoryQuery) -> Reply:
    """List what devices recorded between contacts, the oldest first."""
    project = Selection(query.select).to_read(call.service)
    return Reply(history_dict(litefleet.history(project, since=query.since, last=query.limit)))


class AuditQuery(Query):
    """Which entries of the audit log."""

    who: str = Field(default="", max_length=200, description="a part of the author's name")
    action: str = Field(default="", max_length=200, description="a part of the action")
    rollout: str = Field(default="", max_length=80, description="the rollout that an entry is about")
    since: float = Field(default=0.0, ge=0, le=1e12, description="seconds since the epoch")
    limit: int = Field(default=50, ge=1, le=1000, description="entries, at most; the latest ones")


@operation("GET", "/audit", Role.VIEW, schemas.Audit)
def audit(call: Call, query: AuditQuery) -> Reply:
    """List who did what, when, and from which files, the oldest first."""
    entries = litefleet.audit(
        call.service.options.config,
        last=query.limit,
        who=query.who,
        action=query.action,
        rollout_id=query.rollout,
        since=query.since,
    )
    return Reply({"schema": 1, "broken": "", "entries": [asdict(entry) for entry in entries]})


@operation("GET", "/rollouts", Role.VIEW, schemas.Rollouts)
def rollouts(call: Call, query: Paged) -> Reply:
    """List the rollouts, the newest first."""
    with call.service.state() as state:
        found = rollouts_after(state, call.service.config().fleet, last_of(query), query.limit)
    if found is None:
        raise gone()
    shown, more = found
    return Reply(rollouts_dict(shown), headers=next_page(call.request, shown[-1].id) if more else {})


@operation("GET", "/rollouts/{rollout}", Role.VIEW, schemas.Status, usage=404)
def rollout(call: Call, rollout: str) -> Reply:
    """Return where a rollout stands, with all its devices; "latest" is the latest.

    Of a large fleet that are many megabytes: its summary and its devices in pages are quick.
    """
    found = litefleet.status(call.service.options.config, "" if rollout == "latest" else rollout)
    return Reply(status_document(found, time.time()))


@operation("GET", "/rollouts/{rollout}/summary", Role.VIEW, schemas.RolloutSummary, usage=404)
def rollout_summary(call: Call, rollout: str) -> Reply:
    """Return where a rollout stands, without what there is of each device: quick however large the fleet is."""
    with call.service.state() as state:
        found = read_status_in_brief(state, call.service.config().fleet, "" if rollout == "latest" else rollout)
    return Reply(summary_document(found, time.time()))


class RowsQuery(Paged):
    """Which devices of a rollout."""

    state: str = Field(default="", max_length=40, description="only devices in this state, or with this verdict")
    wave: int = Field(default=0, ge=0, le=100_000, description="only this wave, counted from 1")
    q: str = Field(default="", max_length=200, description="only devices with this text in their names")


@operation("GET", "/rollouts/{rollout}/devices", Role.VIEW, schemas.RolloutDevices, usage=404)
def rollout_devices(call: Call, rollout: str, query: RowsQuery) -> Reply:
    """List the devices of a rollout in the order of their waves, each with its last outcome; one entry for each model."""
    after = _place(last_of(query)) if query.cursor else None
    with call.service.state() as state:
        one = find_rollout(state, call.service.config().fleet, "" if rollout == "latest" else rollout)
        wanted = RowsWanted(query.state, query.wave, query.q)
        rows, outcomes, more = rows_after(state, one.id, wanted, after, query.limit)
        versions = state.versions()
    headers = next_page(call.request, json.dumps(_place_of(rows[-1]))) if more else {}
    return Reply(rollout_rows_dict(one.id, rows, outcomes, versions), headers=headers)


def _place_of(row: DeviceRow) -> Place:
    return (row.wave, row.position, row.device, row.model)


def _place(cursor: str) -> Place:
    """Return the place that a cursor names.  Raises: ProblemError 404 for anything else."""
    try:
        wave, position, device, model = json.loads(cursor)
    except (TypeError, ValueError):
        raise gone() from None
    numbers = all(isinstance(value, int) and 0 <= value < 1 << 31 for value in (wave, position))
    if not numbers or not isinstance(device, str) or not isinstance(model, str):
        raise gone()
    return (wave, position, device, model)


class RollbackQuery(Query):
    """What would be reverted."""

    to: str = Field(default="previous", max_length=64, description="previous, nothing, a version, an ID of a release")
    rollout: str = Field(default="", max_length=80, description="the rollout to revert; the latest by default")
    wave: int = Field(default=0, ge=0, le=100_000, description="only this wave of it, counted from 1")
    select: str = Field(default="", max_length=2000, description="devices as `--limit` selects them")


@operation("GET", "/rollback", Role.VIEW, schemas.Rollback, usage=404)
def rollback_preview(call: Call, query: RollbackQuery) -> Reply:
    """Return what POST /rollback with the same arguments would do; no device is contacted."""
    selection = Selection(query.select)
    preview = actions.preview_of_rollback(call.service, query.to, query.rollout, query.wave, selection)
    return Reply({**preview.to_dict(), "text": preview.text()})


class ReportsQuery(Paged):
    """Which kept reports."""

    command: str = Field(
        default="", max_length=40, description="only reports of this command: rollout, verify, reconcile …"
    )


@operation("GET", "/reports", Role.VIEW, schemas.Reports)
def reports(call: Call, query: ReportsQuery) -> Reply:
    """List the kept reports, the newest first."""
    found = kept_reports(call.service.config(), _MOST_REPORTS, query.command)
    shown, headers = page(call.request, query, found, lambda kept: kept.path.stem)
    return Reply({"schema": 1, "command": "reports", "reports": [kept.to_dict() for kept in shown]}, headers=headers)


@operation("GET", "/reports/{name}", Role.VIEW, schemas.Result, usage=404)
def report(call: Call, name: str) -> Reply:
    """Return a kept report by its name, or the ID of its rollout: the document of its command."""
    if not name.replace("-", "").replace("_", "").isalnum():  # a name is no path
        raise ProblemError(404, f"There is no report {name[:60]}: GET /api/v1/reports lists them.")
    return Reply(document(find_report(call.service.options.config, name).to_dict()))


@operation("GET", "/findings", Role.VIEW, schemas.Articles)
def findings(call: Call) -> Reply:
    """List the catalogue of findings, in the request's language."""
    return Reply({"findings": [article(code, current_lang()).to_dict() for code in CATALOGUE]})


@operation("GET", "/findings/{code}", Role.VIEW, schemas.Article)
def finding(call: Call, code: str) -> Reply:
    """Return a finding's article: the symptoms, the cause, the steps to take, how it is detected."""
    if code not in CATALOGUE:
        raise ProblemError(404, f"There is no finding {code[:20]}: GET /api/v1/findings lists them.")
    return Reply(article(code, current_lang()).to_dict())


def known_model(call: Call, name: str) -> None:
    """Raise ProblemError 404 for a model that neither litefleet.yaml nor the state knows."""
    with call.service.state() as state:
        if name not in call.service.config().models and not release_ids(state, name):
            known = "GET /api/v1/models lists them"
            raise ProblemError(
                404, f"There is no model {sanitize(name, 60)} in litefleet.yaml or among the releases: {known}."
            )


def known_rollout(call: Call, rollout_id: str) -> None:
    """Raise ProblemError 404 for a rollout that the fleet never had."""
    try:
        with call.service.state() as state:
            find_rollout(state, call.service.config().fleet, rollout_id)
    except UsageError as error:
        raise ProblemError(404, str(error)) from error
