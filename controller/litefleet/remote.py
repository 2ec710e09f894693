"""A project of a `litefleet serve` server, over its HTTP API: `litefleet.open_project("https://host:8470", token=…)`.

It has the functions of this API as methods, with the same arguments and the same results, and raises the same errors with the
same sentences: `project.status()` is what `litefleet.status(project)` is for a project of this machine.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from litefleet_agent.findings import Verdict
from litefleet_controller.common.errors import LitefleetError, UsageError
from litefleet_controller.devices.outcome import DeviceOutcome, Interrupted, RunReport
from litefleet_controller.devices.progress import Progress
from litefleet_controller.operations.device_records import DeviceRecord, DeviceStory, TimelineEntry
from litefleet_controller.operations.find import RolloutStatus
from litefleet_controller.operations.model_records import ModelRecord
from litefleet_controller.rollout import DeviceRow, DeviceState, Policy, Rollout, RolloutState, Wave
from litefleet_controller.state.device_history import HistoryEntry
from litefleet_controller.state.model import AuditEntry

from .connection import Connection

_T = TypeVar("_T")
_EVERY_S = 0.5  # between two looks at a job
_PAGE = 1000


@dataclass(frozen=True)
class RemoteProject:
    """A server's project, with a selection of devices and models.  Each method does what the function of its name does."""

    connection: Connection
    limit: str = ""
    models: tuple[str, ...] = ()
    fleet: str = ""
    person: str = ""  # whom the token belongs to
    role: str = ""

    def plan(self, progress: Progress | None = None, *, offline: bool = False) -> RemotePlan:
        """Return the plan of a rollout, made by the server."""
        return RemotePlan(self._work("/plan", {**self._selection(), "offline": offline}, progress))

    def rollout(
        self, *, wait_for_offline: bool = False, supersede: bool = False, progress: Progress | None = None
    ) -> RunReport:
        """Let the server roll out, and return its report when it is done."""
        body = {**self._selection(), "supersede": supersede, "wait_for_offline": wait_for_offline}
        return RunReport.from_dict(self._work("/rollouts", body, progress))

    def resume(
        self, rollout_id: str = "", *, wait_for_offline: bool = False, progress: Progress | None = None
    ) -> RunReport:
        """Continue a rollout."""
        return self._continue("resume", rollout_id, wait_for_offline, progress)

    def approve(
        self, rollout_id: str = "", *, wait_for_offline: bool = False, progress: Progress | None = None
    ) -> RunReport:
        """Start the next wave of a rollout that waits for approval."""
        return self._continue("approve", rollout_id, wait_for_offline, progress)

    def retry(
        self, rollout_id: str = "", *, wait_for_offline: bool = False, progress: Progress | None = None
    ) -> RunReport:
        """Retry the failed devices of a rollout."""
        return self._continue("retry", rollout_id, wait_for_offline, progress)

    def pause(self, rollout_id: str = "") -> str:
        """Pause a rollout."""
        return str(self._change("POST", f"/rollouts/{self._rollout(rollout_id)}/pause")["message"])

    def abort(self, rollout_id: str) -> str:
        """End a rollout."""
        if not rollout_id:
            raise UsageError("abort needs the ID of a rollout: `litefleet status` shows it")
        return str(self._change("POST", f"/rollouts/{_part(rollout_id)}/abort")["message"])

    def plan_rollback(self, *, to: str = "previous", rollout_id: str = "", wave: int = 0) -> RemoteRollback:
        """Return what `rollback` would do."""
        asked = {"to": to, "rollout": rollout_id, "wave": wave, "select": self.limit}
        return RemoteRollback(self._get("/rollback", asked))

    def rollback(
        self, *, to: str = "previous", rollout_id: str = "", wave: int = 0, progress: Progress | None = None
    ) -> RunReport:
        """Revert what a rollout switched on."""
        body = {**self._selection(), "to": to, "rollout": rollout_id, "wave": wave}
        return RunReport.from_dict(self._work("/rollback", body, progress))

    def status(self, rollout_id: str = "") -> RolloutStatus:
        """Return where a rollout stands; the latest if `rollout_id` is empty."""
        summary = self._summary(rollout_id)
        if "devices" in summary:
            return _status(summary)
        devices: list[dict[str, Any]] = []
        outcomes: list[dict[str, Any]] = []
        for page in self._each_page(f"/rollouts/{_part(summary['rollout']['id'])}/devices", {}, _PAGE):
            devices += page["devices"]
            outcomes += page["outcomes"]
        return _status({**summary, "devices": devices, "outcomes": outcomes})

    def rollouts(self, last: int = 100) -> tuple[Rollout, ...]:
        """Return the latest rollouts, the newest first."""
        return tuple(_rollout(item, ()) for item in self._pages("/rollouts", "rollouts", {}, last))

    def devices(
        self, *, version: str = "", state: str = "", drift: bool = False, silent_s: float | None = None
    ) -> tuple[DeviceRecord, ...]:
        """Return what runs on each selected device."""
        asked: dict[str, Any] = {"select": self.limit, "version": version, "state": state}
        asked |= {"drift": "true"} if drift else {}
        asked |= {} if silent_s is None else {"silent": silent_s}
        found = (_record(item) for item in self._pages("/devices", "devices", asked))
        return tuple(record for record in found if not self.models or record.model in self.models)

    def device(self, name: str, last: int = 40) -> DeviceStory:
        """Return one device's facts, releases and time line."""
        found = self._get(f"/devices/{_part(name)}", {"last": last})
        records, timeline = map(_record, found["models"]), (_made(TimelineEntry, e) for e in found["timeline"])
        return DeviceStory(found["device"], tuple(records), found["facts"], found["host_key"], tuple(timeline))

    def known_models(self) -> tuple[ModelRecord, ...]:
        """Return all models, how many releases each has, and how many devices run each version."""
        return tuple(_made(ModelRecord, item) for item in self._pages("/models", "models", {}))

    def model(self, name: str) -> RemoteModel:
        """Return one model's releases, golden, accuracy and files."""
        return RemoteModel(self._get(f"/models/{_part(name)}"))

    def history(self, *, since: float = 0.0, last: int = 100) -> tuple[HistoryEntry, ...]:
        """Return what devices recorded between contacts."""
        found = self._get("/history", {"select": self.limit, "since": since, "limit": last})
        return tuple(_made(HistoryEntry, item) for item in found["entries"])

    def audit(
        self, *, last: int = 50, who: str = "", action: str = "", rollout_id: str = "", since: float = 0.0
    ) -> tuple[AuditEntry, ...]:
        """Return the last entries of the audit log that match; of the whole fleet."""
        asked = {"who": who, "action": action, "rollout": rollout_id, "since": since, "limit": last}
        return tuple(_made(AuditEntry, item) for item in self._get("/audit", asked)["entries"])

    def reports(self, *, command: str = "", last: int = 20) -> Mapping[str, RunReport]:
        """Return the latest kept reports by their names."""
        listed = self._pages("/reports", "reports", {"command": command}, last)
        return {item["name"]: self.report(item["name"]) for item in listed}

    def report(self, name: str) -> RunReport:
        """Return a kept report."""
        return RunReport.from_dict(self._get(f"/reports/{_part(name)}"))

    def shown_key(self, name: str) -> RemoteKey:
        """Let the server contact a device, and return the SSH host key that it shows."""
        found = self._get(f"/devices/{_part(name)}/host-key")
        return RemoteKey(found["device"], found["fingerprint"], tuple(found["trusted"]), found["text"])

    def accept_key(self, key: RemoteKey) -> Sequence[str]:
        """Let the server trust the key that `shown_key` returned."""
        body = {"fingerprint": key.fingerprint}
        rest: list[str] = self._change("POST", f"/devices/{_part(key.device)}/host-key", body)["elsewhere"]
        return rest

    def what_is_stored(self, name: str) -> Mapping[str, int]:
        """Return what `forget` would delete."""
        stored: dict[str, int] = self._get(f"/devices/{_part(name)}/stored")["stored"]
        return stored

    def forget(self, name: str) -> None:
        """Delete what the state stores of a device."""
        self._change("DELETE", f"/devices/{_part(name)}")

    def _selection(self) -> dict[str, Any]:
        return {"select": self.limit, "models": list(self.models)}

    def _rollout(self, rollout_id: str) -> str:
        return _part(rollout_id or self._summary("")["rollout"]["id"])

    def _summary(self, rollout_id: str) -> dict[str, Any]:
        """Return where a rollout stands: without its devices, unless the server is of a version that has no summary."""
        path = f"/rollouts/{_part(rollout_id or 'latest')}"
        try:
            return self._get(f"{path}/summary")
        except UsageError:  # an older server, or an unknown rollout, of which the second answer says so
            return self._get(path)

    def _get(self, path: str, asked: Mapping[str, Any] | None = None) -> dict[str, Any]:
        query = urlencode({name: value for name, value in (asked or {}).items() if value != ""})
        return self.connection.ask("GET", f"{path}?{query}" if query else path).document

    def _change(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Send a request that acts once, however often the connection breaks."""
        return self.connection.ask(method, path, body, key=secrets.token_urlsafe(16)).document

    def _pages(self, path: str, member: str, asked: Mapping[str, Any], most: int = 1_000_000) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for page in self._each_page(path, asked, min(most, _PAGE)):
            found += page[member]
            if len(found) >= most:
                break
        return found[:most]

    def _each_page(self, path: str, asked: Mapping[str, Any], size: int) -> Iterator[dict[str, Any]]:
        query = urlencode({**{n: v for n, v in asked.items() if v != ""}, "limit": size})
        following = f"{path}?{query}"
        while following:
            answer = self.connection.ask("GET", following)
            yield answer.document
            following = answer.next_page

    def _continue(self, kind: str, rollout_id: str, wait: bool, progress: Progress | None) -> RunReport:
        path = f"/rollouts/{self._rollout(rollout_id)}/{kind}"
        return RunReport.from_dict(self._work(path, {"wait_for_offline": wait}, progress))

    def _work(self, path: str, body: Mapping[str, Any], progress: Progress | None) -> dict[str, Any]:
        """Start a job, wait for its end, and return its result.

        Raises: the error that ended it; Interrupted where somebody stopped it.  Ctrl-C stops it.
        """
        job = self._change("POST", path, body)
        address, said = f"/jobs/{job['id']}", 0
        try:
            while job["state"] == "running":
                time.sleep(_EVERY_S)
                job = self._get(address)
                said = _show(progress, job, said)
        except KeyboardInterrupt:
            self._change("POST", f"{address}/stop")
            raise
        if job["state"] in ("failed", "lost"):
            raise self.connection.error_of(job["error"], job["exit_code"] or 1)
        result = self._get(f"{address}/result")
        if job["state"] == "stopped":
            raise Interrupted(RunReport.from_dict(result))
        return result


@dataclass(frozen=True)
class RemotePlan:
    """A plan that a server made; `document` is what `litefleet plan --json` shows."""

    document: Mapping[str, Any]

    @property
    def devices(self) -> tuple[Mapping[str, Any], ...]:
        """An entry for each model on each device: device, model, what, wave, why, bytes_to_send, findings …"""
        return tuple(self.document["devices"])

    @property
    def counts(self) -> Mapping[str, int]:
        """Entries by what would happen: changes, unchanged, failed, blocked, offline, unknown."""
        return dict(self.document["counts"])

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return dict(self.document)


@dataclass(frozen=True)
class RemoteModel:
    """A model as the server knows it; `document` is what GET /api/v1/models/NAME answers."""

    document: Mapping[str, Any]

    @property
    def releases(self) -> tuple[Mapping[str, Any], ...]:
        """The stored releases, the newest first: id, version, kind, devices, golden_power …"""
        return tuple(self.document["releases"])

    @property
    def evaluations(self) -> tuple[Mapping[str, Any], ...]:
        """The kept evaluations, the latest first: at, lowest, middle, highest, scores …"""
        return tuple(self.document["evaluations"])

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return dict(self.document)


@dataclass(frozen=True)
class RemoteRollback:
    """What a rollback would do; `document` is what `litefleet rollback --dry-run --json` shows."""

    document: Mapping[str, Any]

    def text(self) -> str:
        """Return the preview that a person reads."""
        return str(self.document["text"])

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {name: value for name, value in self.document.items() if name != "text"}


@dataclass(frozen=True)
class RemoteKey:
    """The SSH host key that a device shows to the server; fingerprints are "SHA256:…"."""

    device: str
    fingerprint: str
    old: tuple[str, ...]
    words: str

    @property
    def known(self) -> bool:
        """Whether the shown key is trusted already."""
        return self.fingerprint in self.old

    def text(self) -> str:
        """Return what a person compares."""
        return self.words


def _part(text: str) -> str:
    """Return a part of a path."""
    return quote(text, safe="")


def _show(progress: Progress | None, job: Mapping[str, Any], said: int) -> int:
    """Report a job's new messages, and return how many were reported."""
    if progress is None:
        return said
    for text in job["messages"][said:]:
        progress.message(str(text))
    return len(job["messages"])


def _made(kind: type[_T], data: Mapping[str, Any]) -> _T:
    """Return a dataclass from its JSON form; members that this version does not know are left out."""
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in data.items() if name in known})


def _record(data: Mapping[str, Any]) -> DeviceRecord:
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}
    return _made(DeviceRecord, given)


def _rollout(data: Mapping[str, Any], waves: Sequence[Wave]) -> Rollout:
    """Return a rollout; a list of rollouts says how many waves there are, and nothing of their sizes."""
    given = {
        **data,
        "state": RolloutState(data["state"]),
        "policy": Policy.model_validate(data["policy"]),
        "waves": tuple(waves) or (Wave(0, ""),) * data["waves"],
        "models": tuple(data["models"]),
        "behind": tuple(data["behind"]),
        "wave": data["wave"] - 1,
    }
    return _made(Rollout, given)


def _row(data: Mapping[str, Any], position: int) -> DeviceRow:
    given = {
        **data,
        **data["kind"],
        "wave": data["wave"] - 1,
        "position": position,
        "state": DeviceState(data["state"]),
        "verdict": Verdict(data["verdict"]) if data["verdict"] else None,
        "codes": tuple(data["codes"]),
    }
    return _made(DeviceRow, given)


def _status(data: Mapping[str, Any]) -> RolloutStatus:
    waves = [Wave(wave["size"], wave["spec"]) for wave in data["waves"]]
    return RolloutStatus(
        _rollout(data["rollout"], waves),
        tuple(_row(row, place) for place, row in enumerate(data["devices"])),
        tuple(DeviceOutcome.from_dict(outcome) for outcome in data["outcomes"]),
        data["holder"],
        data["older"],
        {(entry["device"], entry["model"]): entry["seen_at"] for entry in data["failed_running"]},
        {row["release"]: row["version"] for row in data["devices"] if row["version"]},
    )


def open_remote(url: str, token: str, limit: str = "", models: Sequence[str] = (), ca_file: str = "") -> RemoteProject:
    """Return a server's project after it said whom the token belongs to.  Raises: UsageError, LitefleetError with what to do."""
    connection = Connection(url, token, ca_file)
    me = connection.ask("GET", "/me").document
    try:
        return RemoteProject(connection, limit, tuple(models), me["fleet"], me["name"], me["role"])
    except KeyError as error:
        raise LitefleetError(f"{url[:200]} is no litefleet server: its answer has no {error}") from None
