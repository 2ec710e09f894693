"""The public functions on what the state knows: devices, rollouts, histories, the audit log, reports, host keys."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing

from litefleet_controller.config import load_config
from litefleet_controller.devices.outcome import RunReport
from litefleet_controller.operations.device_records import DeviceRecord, DeviceStory
from litefleet_controller.operations.host_key import ShownKey
from litefleet_controller.operations.model_records import ModelRecord, ModelStory
from litefleet_controller.project.project import Project, open_state
from litefleet_controller.rollout import Rollout
from litefleet_controller.state import AuditEntry, HistoryEntry

from .calls import PathLike, options_of, run

__all__ = [
    "accept_key",
    "audit",
    "device",
    "devices",
    "forget",
    "history",
    "known_models",
    "model",
    "report",
    "reports",
    "rollouts",
    "shown_key",
    "what_is_stored",
]


def devices(
    project: Project, *, version: str = "", state: str = "", drift: bool = False, silent_s: float | None = None
) -> tuple[DeviceRecord, ...]:
    """Return what runs on each selected device, since when, its verdict, drift and last contact.  No device is contacted.

    `version` is a version or the beginning of a release's ID, `state` a state of the latest rollout or a verdict; `silent_s`
    chooses devices not reached for that many seconds.
    Raises: ConfigError, StateError.

        failed = litefleet.devices(litefleet.open_project(), state="failed")
    """
    from litefleet_controller.operations.device_records import chosen_records, device_records

    before = None if silent_s is None else time.time() - silent_s
    return chosen_records(device_records(project), version, state, drift, before)


def device(project: Project, name: str, last: int = 40) -> DeviceStory:
    """Return one device's facts, releases, and time line of at most `last` entries; also of one that left the inventory.

    Raises: UsageError for a name that neither the inventory nor the state knows; ConfigError, StateError.

        for entry in litefleet.device(project, "cam-7").timeline:
            print(entry.at, entry.event, entry.text)
    """
    from litefleet_controller.operations.device_records import device_story

    return device_story(project.options, name, last)


def known_models(project: Project | PathLike) -> tuple[ModelRecord, ...]:
    """Return all models of litefleet.yaml and of stored releases: how many releases, and how many devices run each version.

    Raises: ConfigError, StateError.

        unused = [record.name for record in litefleet.known_models("litefleet.yaml") if not record.devices]
    """
    from litefleet_controller.operations.model_records import model_records

    config = load_config(options_of(project).config)
    with closing(open_state(config)) as state:
        return model_records(state, config)


def model(project: Project | PathLike, name: str) -> ModelStory:
    """Return one model's releases, golden and what it can tell, kept evaluations, and files as `inspect` describes them.

    Raises: UsageError for a name that neither litefleet.yaml nor the state knows; ConfigError, StateError.

        for evaluation in litefleet.model("litefleet.yaml", "gate").evaluations:
            print(evaluation.at, evaluation.middle)
    """
    from litefleet_controller.operations.model_records import model_story

    config = load_config(options_of(project).config)
    with closing(open_state(config)) as state:
        return model_story(state, config, name)


def rollouts(project: Project | PathLike, last: int = 100) -> tuple[Rollout, ...]:
    """Return the latest rollouts of the project's fleet, the newest first.

    Raises: ConfigError, StateError.

        open_ones = [rollout for rollout in litefleet.rollouts("litefleet.yaml") if not rollout.state.over]
    """
    config = load_config(options_of(project).config)
    with closing(open_state(config)) as state:
        return state.rollouts(config.fleet, last)


def history(project: Project | PathLike, *, since: float = 0.0, last: int = 100) -> tuple[HistoryEntry, ...]:
    """Return what devices recorded between contacts, as collected at the last contact, the oldest first.

    `since` is seconds since the epoch by the device's clock.
    Raises: ConfigError, StateError.

        entries = litefleet.history(litefleet.open_project(limit="cam-7"), last=20)
    """
    options = options_of(project)
    chosen = sorted(d.name for d in project.devices) if isinstance(project, Project) and options.limit else []
    with closing(open_state(load_config(options.config))) as state:
        return state.history_entries(chosen, since, last)


def audit(
    project: Project | PathLike,
    *,
    last: int = 50,
    who: str = "",
    action: str = "",
    rollout_id: str = "",
    since: float = 0.0,
) -> tuple[AuditEntry, ...]:
    """Return the last entries of the audit log that match, the oldest first: who did what, when, and from which files.

    `who` and `action` are parts of the author's name and of the action; `since` is seconds since the epoch.
    Raises: ConfigError, StateError.

        approvals = litefleet.audit("litefleet.yaml", action="approve")
    """
    from litefleet_controller.operations.audit import AuditFilter, audit_entries

    return audit_entries(options_of(project), last, AuditFilter(who, action, rollout_id, since))


def reports(project: Project | PathLike, *, command: str = "", last: int = 20) -> Mapping[str, RunReport]:
    """Return the latest kept reports by their names, the newest first; `command` chooses those of one command.

    Raises: ConfigError.

        names = list(litefleet.reports("litefleet.yaml", command="verify"))
    """
    from litefleet_controller.project.run_fleet import kept_reports

    kept = kept_reports(load_config(options_of(project).config), last, command)
    return {one.path.stem: one.report for one in kept}


def report(project: Project | PathLike, name: str) -> RunReport:
    """Return a kept report by its name or by the ID of its rollout.

    Raises: UsageError when there is none; ConfigError.

        print(litefleet.report("litefleet.yaml", "r-20261123-0001").counts)
    """
    from litefleet_controller.project.run_fleet import find_report

    return find_report(options_of(project).config, name)


def shown_key(project: Project, name: str) -> ShownKey:
    """Contact a device and return the SSH host key that it shows now, beside those that are trusted.  Nothing changes.

    Raises: UsageError for an unknown device, a revoked key, or one that the inventory pins; LitefleetError (LF501 …) when the
    device cannot be reached.

        key = litefleet.shown_key(project, "cam-7")
        print(key.text())
    """
    from litefleet_controller.operations.host_key import shown_key as work

    return run(work(project.options, name))


def accept_key(project: Project, key: ShownKey) -> Sequence[str]:
    """Trust the key that `shown_key` returned, after a person compared it, and return the old keys that other files still hold.

    Raises: ConfigError, StateError.

        litefleet.accept_key(project, litefleet.shown_key(project, "cam-7"))
    """
    from litefleet_controller.operations.host_key import accept_key as work

    return work(project.options, key)


def what_is_stored(project: Project, name: str) -> Mapping[str, int]:
    """Return how much the state stores of a device, by what it is: what `forget` would delete.

    Raises: UsageError when nothing is stored; ConfigError, StateError.

        print(litefleet.what_is_stored(project, "cam-7"))
    """
    from litefleet_controller.operations.device_records import what_is_stored as work

    return work(project.options, name)[0]


def forget(project: Project, name: str) -> None:
    """Delete what the state stores of a device that is gone; its rows in rollouts and the audit log stay.

    Raises: UsageError when nothing is stored; ConfigError, StateError.

        litefleet.forget(litefleet.open_project(), "cam-7")
    """
    from litefleet_controller.operations.device_records import forget_device

    what_is_stored(project, name)
    forget_device(project.options, name)
