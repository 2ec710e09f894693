"""The command `notify`: what receivers were told and are still to be told, a test, and another try."""

from __future__ import annotations

import json
import time
from contextlib import closing
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from ..catalogue.language import in_lang
from ..common.errors import RunError, UsageError
from ..project import Options
from .common import DeviceOptions, JsonOption, command, in_words, say, show

if TYPE_CHECKING:
    from ..config import Config
    from ..state import Notice


class _Action(StrEnum):
    LIST = "list"
    TEST = "test"
    RETRY = "retry"
    SEND = "send"


@command
def notify(
    action: Annotated[
        _Action,
        typer.Argument(
            help="list notices, send a test, retry dead notices, or send what is due, as a timer does while no rollout runs."
        ),
    ],
    options: DeviceOptions,
    names: Annotated[
        list[str] | None,
        typer.Argument(help="For test: receivers, default all; for retry: IDs of notices, default all."),
    ] = None,
    last: Annotated[int, typer.Option("--last", min=1, max=100_000, help="With list: at most this many notices.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """Show what the receivers of `notify:` were told and what waits; test a receiver; send dead notices again."""
    from ..config import load_config

    settings = load_config(options.config)
    if action is _Action.LIST:
        _list(settings, last, as_json)
        return
    if as_json:
        raise UsageError("--json goes with `litefleet notify list`")
    if not settings.notify:
        raise UsageError("litefleet.yaml names no receiver: write one under `notify:`")
    if action is _Action.TEST:
        _test(settings, names or list(settings.notify))
        return
    if action is _Action.RETRY:
        _retry(settings, names or [])
    _send(options)


def _list(settings: Config, last: int, as_json: bool) -> None:
    from ..project.project import open_state

    with closing(open_state(settings)) as state:
        outbox = state.outbox(settings.fleet)
        found, counts = outbox.notices(limit=last), outbox.counts()
    receivers = {**dict.fromkeys(settings.notify), **dict.fromkeys(receiver for receiver, _ in counts)}
    by_receiver = {
        name: {one: counts.get((name, one), 0) for one in ("waiting", "dead", "delivered")} for name in receivers
    }
    if as_json:
        content = {"schema": 1, "receivers": by_receiver, "notices": [_notice_dict(notice) for notice in found]}
        show(json.dumps(content, indent=2, ensure_ascii=False))
        return
    lines = [_notice_line(notice) for notice in found]
    for name, numbers in by_receiver.items():
        known = "" if name in settings.notify else in_words(" (no longer in litefleet.yaml)")
        lines.append(f"{name}{known}: " + ", ".join(f"{count} {_state_word(one)}" for one, count in numbers.items()))
    show("\n".join(lines) or in_words("litefleet.yaml names no receiver: write one under `notify:`"))


def _notice_dict(notice: Notice) -> dict[str, object]:
    from ..common.text import json_ready

    content = json_ready(dict(notice.content))
    return {
        "id": notice.id,
        "at": notice.at,
        "receiver": notice.receiver,
        "event": notice.event,
        "rollout": notice.rollout,
        "state": notice.state,
        "attempts": notice.attempts,
        "next_at": notice.next_at if notice.state == "waiting" else None,
        "error": notice.error,
        "content": content,
    }


def _notice_line(notice: Notice) -> str:
    at = datetime.fromtimestamp(notice.at, UTC).isoformat(sep=" ", timespec="seconds").removesuffix("+00:00")
    what = f"{at}  {notice.receiver}  {notice.event} {notice.rollout}".rstrip()
    state = _state_word(notice.state)
    why = f": {in_words(notice.error)}" if notice.error else ""
    return f"{what}  {state}{why}\n    {notice.id}"


def _state_word(state: str) -> str:
    return in_lang(state, {"waiting": "等待中", "dead": "失败", "delivered": "已送达"}.get(state, state))


def _test(settings: Config, names: list[str]) -> None:
    from ..notify import DeliveryError, send_now, test_notice

    unknown = [name for name in names if name not in settings.notify]
    if unknown:
        raise UsageError(
            f"litefleet.yaml names no receiver {unknown[0][:60]!r}. Available: {', '.join(settings.notify)}."
        )
    failed = 0
    for name in names:
        try:
            send_now(settings.notify[name], test_notice(settings.fleet, name, time.time()))
        except DeliveryError as error:
            failed += 1
            say(f"{name}: {error}")
        else:
            say(f"{name}: the test was delivered")
    raise typer.Exit(1 if failed else 0)


def _retry(settings: Config, ids: list[str]) -> None:
    from ..project.project import open_state

    with closing(open_state(settings)) as state:
        found = state.outbox(settings.fleet).retry(ids)
    if ids and not found:
        raise UsageError("no dead notice has such an ID: `litefleet notify list` shows the IDs")
    say(f"dead notices to be sent again: {found}")


def _send(options: Options) -> None:
    """Deliver what is due, and say what is left."""
    from ..notify import Dispatcher
    from ..notify.dispatch import SEND_S
    from ..project.project import open_project

    project = open_project(options)
    dispatcher = Dispatcher(project.config, project.inventory)
    dispatcher.start()
    left = dispatcher.close(SEND_S)
    if left:
        told = "; ".join(f"{name}: {reason}" for name, reason in left.items())
        raise RunError(f"not everything was delivered: {told}. `litefleet notify list` shows what is left")
