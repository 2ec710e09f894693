"""The actions: each is shown with what it does, then confirmed by a form; the server checks the role again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from ...catalogue.translate import tr, translated, translated_cell
from ...common.errors import LitefleetError
from ...common.text import sanitize
from .. import actions as do
from ..auth import Person, Role, needs, person_of
from ..service import Service, service_of
from .actions import LABELS, Action, actions_for
from .render import page, segment
from .rollouts import found_rollout

_MOST = 200  # devices of a preview
_NOW: Mapping[str, Callable[[Service, Person, str], object]] = {"pause": do.pause, "abort": do.abort}
_JOBS: Mapping[str, Callable[[Service, Person, str], object]] = {
    "resume": do.resume,
    "approve": do.approve,
    "retry": do.retry,
    "rollback": lambda service, person, ident: do.rollback(service, person, rollout_id=ident),
}


@needs(Role.OPERATE)
async def on_rollout(request: Request) -> Response:
    """Show what an action on a rollout does; with POST, do it."""
    verb, ident = request.path_params["verb"], request.path_params["ident"]
    if verb not in LABELS:
        raise HTTPException(404, "There is no such page.")
    service, person = service_of(request), person_of(request)
    problem = ""
    if request.method == "POST":
        work = _NOW.get(verb) or _JOBS[verb]
        try:
            await run_in_threadpool(work, service, person, ident)
            return RedirectResponse(f"/rollouts/{segment(ident)}", 303)
        except LitefleetError as error:
            problem = str(error)
    return await run_in_threadpool(_confirm_rollout, request, verb, ident, problem)


def _confirm_rollout(request: Request, verb: str, ident: str, problem: str) -> Response:
    service = service_of(request)
    view = found_rollout(service, ident)
    offered = {action.verb: action for action in actions_for(view, person_of(request))}
    action = offered.get(verb) or Action(verb, f"litefleet {verb} {ident}", "")
    lines: list[str] = []
    rows: list[Sequence[str]] = []
    possible = verb in offered
    if verb == "rollback":
        possible, rows, lines = _preview(service, ident)
    elif not possible:
        state = translated(view.rollout.state.value)
        lines.append(tr("This is not possible now: the rollout is {state}.", state=state))
    return page(
        request,
        "confirm.html.j2",
        http=409 if problem else 200,
        title=tr("{action}: {name}", action=action.label, name=sanitize(ident, 60)),
        back=f"/rollouts/{segment(ident)}",
        back_name=ident,
        problem=problem,
        does=action.does,
        lines=lines,
        preview=rows,
        preview_head=[tr("Device"), tr("Model"), tr("From"), tr("To")],
        command=action.command,
        may_act=possible,
        hidden={},
        button=action.label,
        is_grave=action.is_grave,
    )


def _preview(service: Service, ident: str) -> tuple[bool, list[Sequence[str]], list[str]]:
    """Return whether a rollback is possible, its rows, and the sentences about it."""
    try:
        plan = do.preview_of_rollback(service, rollout_id=ident)
    except LitefleetError as error:
        return False, [], [translated(str(error))]
    found = plan.to_dict()["devices"]
    devices = found if isinstance(found, list) else []
    rows: list[Sequence[str]] = [
        (d["device"], d["model"], _name(d, "runs") or "–", _name(d, "to") or tr("stays: nothing ran there before"))
        for d in devices
    ]
    count = sum(1 for d in devices if d["to"])
    lines = [tr("It reverts {count} devices.", count=count) if count != 1 else tr("It reverts 1 device.")]
    if len(rows) > _MOST:
        lines.append(tr("The first {count} of them:", count=_MOST))
    if plan.closes:
        lines.append(tr("The rollout is still open, and ends with this."))
    return bool(count), rows[:_MOST], lines


def _name(device: Mapping[str, object], key: str) -> str:
    version, release = str(device.get(f"{key}_version") or ""), str(device.get(key) or "")
    if key == "to" and release in ("previous", "nothing"):
        return translated_cell("what ran before it" if release == "previous" else release)
    return " ".join(part for part in (version, release[:12] if release != version else "") if part)


@needs(Role.ADMIN)
async def accept_key(request: Request) -> Response:
    """Contact a device, show the key that it has now beside the known ones; with POST, trust the compared one."""
    name = request.path_params["name"]
    return await _on_device(request, name, "accept-key", _key_shown, _accept)


@needs(Role.ADMIN)
async def forget(request: Request) -> Response:
    """Show what is stored of a device; with POST, delete it."""
    return await _on_device(request, request.path_params["name"], "forget", _stored, _forget)


_Shown = tuple[bool, list[str], list[Sequence[str]], dict[str, str]]


async def _on_device(
    request: Request,
    name: str,
    verb: str,
    show: Callable[[Service, str], _Shown],
    act: Callable[[Service, Person, str, Mapping[str, str]], object],
) -> Response:
    service, problem = service_of(request), ""
    if request.method == "POST":
        form = {key: str(value) for key, value in (await request.form(max_fields=10)).items()}
        try:
            await run_in_threadpool(act, service, person_of(request), name, form)
            return RedirectResponse(f"/devices/{segment(name)}" if verb != "forget" else "/", 303)
        except LitefleetError as error:
            problem = str(error)
    return await run_in_threadpool(_confirm_device, request, name, verb, show, problem)


def _confirm_device(
    request: Request, name: str, verb: str, show: Callable[[Service, str], _Shown], problem: str
) -> Response:
    try:
        possible, lines, rows, hidden = show(service_of(request), name)
    except LitefleetError as error:
        possible, lines, rows, hidden = False, [translated(str(error))], [], {}
    shown, label = sanitize(name, 80), tr("Forget") if verb == "forget" else tr("Accept this key")
    title = tr("Forget {name}", name=shown) if verb == "forget" else tr("Accept the host key of {name}", name=shown)
    return page(
        request,
        "confirm.html.j2",
        http=409 if problem else 200,
        title=title,
        back=f"/devices/{segment(name)}",
        back_name=name,
        problem=problem,
        does="",
        lines=lines,
        preview=rows,
        preview_head=[tr("What"), tr("Value")],
        command=f"litefleet {'forget' if verb == 'forget' else 'accept-key'} {name}",
        may_act=possible,
        hidden=hidden,
        button=label,
        is_grave=True,
    )


def _key_shown(service: Service, name: str) -> _Shown:
    key = do.shown_key(service, name)
    rows: list[Sequence[str]] = [(tr("known key"), old) for old in key.old]
    rows.append((tr("key that the device shows"), key.fingerprint))
    if key.known:
        return False, [tr("The device shows a key that is trusted already.")], rows, {}
    line = tr(
        "Compare this fingerprint with the device's own before you accept it: anyone in between may have sent it."
    )
    return True, [line], rows, {"fingerprint": key.fingerprint}


def _accept(service: Service, person: Person, name: str, form: Mapping[str, str]) -> object:
    return do.accept_key(service, person, name, form.get("fingerprint", ""))


def _stored(service: Service, name: str) -> _Shown:
    counts = do.what_is_stored(service, name)
    rows: list[Sequence[str]] = [(translated(what), f"{count:,}") for what, count in counts.items()]
    line = tr(
        "This is deleted; the device's rows in rollouts and the audit log stay. The device itself is not contacted."
    )
    return True, [line], rows, {}


def _forget(service: Service, person: Person, name: str, form: Mapping[str, str]) -> None:
    do.forget(service, person, name)
