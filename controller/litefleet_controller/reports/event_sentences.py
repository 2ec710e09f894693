"""What happened, in full sentences of the reader's language: entries of the audit log, moves in rollouts, a device's own events.

What is stored is a code (the action, the event, the kind) and values: sentences are made where they are shown, so that entries of
earlier versions are in the reader's language too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..catalogue.translate import tr, translated, translated_cell, translated_sentence
from ..common.checked import sequence_or_empty
from ..common.text import LINE_LIMIT, sanitize
from ..operations.device_records import TimelineEntry, audit_text
from ..state import AuditEntry

_NAMED = 5  # of many devices or models
GATES = ("canary", "wave", "total", "cluster", "regression")
Values = Mapping[str, object]


def audit_sentence(entry: AuditEntry) -> str:
    """Return the sentence about an entry of the audit log; it begins with who acted."""
    return action_sentence(entry.who, entry.action, entry.what)


def action_sentence(who: str, action: str, what: Values) -> str:
    """Return the sentence about an action: of a code that this version does not know, the code and what is stored with it."""
    made = _ACTIONS.get(action)
    person = sanitize(who, 80)
    if made is None:
        about = audit_text(AuditEntry(0, 0.0, who, action, dict(what), "", ""))
        said = translated(sanitize(action, 60)) + (f" ({sanitize(about, LINE_LIMIT)})" if about else "")
        return tr("{who}: {action}.", who=person, action=said)
    said = made(person, what)
    reason = reason_sentence(what.get("reason", ""))
    return f"{said} {tr('The reason: {reason}', reason=reason)}" if reason else said


def entry_sentence(entry: TimelineEntry) -> str:
    """Return the sentence about an entry of a device's time line."""
    if entry.source == "audit":
        return action_sentence(entry.by, entry.event, entry.what)
    made = (_MOVES if entry.source == "rollout" else _KINDS).get(entry.event.partition(":")[0])
    said = made() if made is not None else translated_cell(sanitize(entry.event, 60))
    about = translated_sentence(sanitize(entry.text, LINE_LIMIT)) if entry.text else ""
    return f"{said} {about}".strip()


def _text(what: Values, key: str) -> str:
    return sanitize(what.get(key, ""), 200)


def _rollout(what: Values) -> str:
    return _text(what, "rollout") or tr("a rollout")


def reason_sentence(text: object) -> str:
    """Return a stored sentence in the reader's language, cleaned; a gate before it by itself."""
    shown = sanitize(text, LINE_LIMIT) if text else ""
    gate, colon, rest = shown.partition(": ")
    if colon and gate in GATES:
        return tr("{gate} gate: {reason}", gate=translated_cell(gate), reason=translated_sentence(rest))
    return translated_sentence(shown)


def _devices(value: object) -> str:
    """Return how many devices, or their first names."""
    if isinstance(value, int):
        return tr("1 device") if value == 1 else tr("{count} devices", count=f"{value:,}")
    named = [sanitize(name, 80) for name in sequence_or_empty(value)]
    more = [tr("and {count} more", count=len(named) - _NAMED)] if len(named) > _NAMED else []
    return ", ".join(named[:_NAMED] + more)


def _created(who: str, what: Values) -> str:
    models = ", ".join(sanitize(name, 60) for name in sequence_or_empty(what.get("models"))[:_NAMED])
    values = {"who": who, "rollout": _rollout(what), "devices": _devices(what.get("devices", what.get("rows", 0)))}
    kind = what.get("kind")
    if kind == "rollback":
        said = tr("{who} created {rollout}, which takes back a rollout: {devices}.", **values)
    elif kind == "reconcile":
        said = tr("{who} created {rollout}, which brings devices back to their releases: {devices}.", **values)
    else:
        said = tr("{who} created the rollout {rollout}: {devices}.", **values)
    if models:
        said += " " + tr("Models: {models}.", models=models)
    return f"{said} {tr('Chosen by `--limit {limit}`.', limit=_text(what, 'limit'))}" if what.get("limit") else said


def _prepared(who: str, what: Values) -> str:
    return tr(
        "{who} sent files ahead for wave {wave} of {rollout}: to {prepared} of {devices}.",
        who=who,
        wave=_text(what, "prepared_wave"),
        rollout=_rollout(what),
        prepared=_text(what, "prepared"),
        devices=_devices(what.get("devices", 0)),
    )


def _finished(who: str, what: Values) -> str:
    return tr("{who} finished {rollout}.", who=who, rollout=_rollout(what))


def _waved(template: Callable[[str, str, str], str]) -> Callable[[str, Values], str]:
    return lambda who, what: template(who, _rollout(what), _text(what, "wave"))


def _login(who: str, what: Values) -> str:
    values = {"who": who, "address": _text(what, "address"), "role": translated_cell(_text(what, "role"))}
    if what.get("way") == "link":
        return tr("{who} logged in from {address} with the one-time link, as {role}.", **values)
    if what.get("way") == "proxy":
        return tr("{who} logged in from {address} through the reverse proxy, as {role}.", **values)
    return tr("{who} logged in from {address} with a token, as {role}.", **values)


def _left_out(said: str, what: Values) -> str:
    count = what.get("left_out")
    return f"{said} {tr('{count} more were not written.', count=f'{count:,}')}" if isinstance(count, int) else said


def _request_refused(who: str, what: Values) -> str:
    said = tr(
        "{who} sent {method} {path}, which was refused: {why}",
        who=who,
        method=_text(what, "method"),
        path=_text(what, "path"),
        why=translated_sentence(sanitize(what.get("why", ""), LINE_LIMIT)),
    )
    return _left_out(said, what)


def _pruned(who: str, what: Values) -> str:
    names = sequence_or_empty(what.get("rollouts"))
    shown = ", ".join(sanitize(name, 40) for name in names[:_NAMED]) + (" …" if len(names) > _NAMED else "")
    return tr("{who} deleted what was stored of old rollouts: {rollouts}.", who=who, rollouts=shown)


_ACTIONS: Mapping[str, Callable[[str, Values], str]] = {
    "rollout created": _created,
    "start": _waved(lambda who, rollout, wave: tr("{who} started {rollout}.", who=who, rollout=rollout)),
    "pause": _waved(
        lambda who, rollout, wave: tr("{who} paused {rollout} in wave {wave}.", who=who, rollout=rollout, wave=wave)
    ),
    "resume": _waved(
        lambda who, rollout, wave: tr("{who} resumed {rollout} in wave {wave}.", who=who, rollout=rollout, wave=wave)
    ),
    "ask": _waved(
        lambda who, rollout, wave: tr(
            "{who} stopped {rollout} in wave {wave} until a person approves it.", who=who, rollout=rollout, wave=wave
        )
    ),
    "approve": _waved(
        lambda who, rollout, wave: tr("{who} let {rollout} go on, as approved.", who=who, rollout=rollout)
    ),
    "abort": _waved(
        lambda who, rollout, wave: tr("{who} aborted {rollout} in wave {wave}.", who=who, rollout=rollout, wave=wave)
    ),
    "finish": _finished,
    "reopen": _waved(lambda who, rollout, wave: tr("{who} opened {rollout} again.", who=who, rollout=rollout)),
    "supersede": _waved(
        lambda who, rollout, wave: tr("{who} replaced {rollout} by a newer rollout.", who=who, rollout=rollout)
    ),
    "waits": _waved(
        lambda who, rollout, wave: tr("{who} waits in wave {wave} of {rollout}.", who=who, rollout=rollout, wave=wave)
    ),
    "changed": _waved(lambda who, rollout, wave: tr("{who} changed {rollout}.", who=who, rollout=rollout)),
    "prepare": _prepared,
    "asked to pause": _waved(
        lambda who, rollout, wave: tr("{who} asked to pause {rollout}.", who=who, rollout=rollout)
    ),
    "asked to abort": _waved(
        lambda who, rollout, wave: tr("{who} asked to abort {rollout}.", who=who, rollout=rollout)
    ),
    "request cleared": _waved(
        lambda who, rollout, wave: tr("{who} withdrew what was asked of {rollout}.", who=who, rollout=rollout)
    ),
    "taken over": lambda who, what: tr(
        "{who} took the fleet {fleet} over from {other}, which no longer runs.",
        who=who,
        fleet=_text(what, "fleet"),
        other=_text(what, "from"),
    ),
    "state adopted": lambda who, what: tr(
        "{who} stored what the devices of the fleet {fleet} run as confirmed.", who=who, fleet=_text(what, "fleet")
    ),
    "device renamed": lambda who, what: tr(
        "{who} renamed the device {old} to {new}.", who=who, old=_text(what, "from"), new=_text(what, "to")
    ),
    "device forgotten": lambda who, what: tr(
        "{who} deleted what was stored of the device {device}.", who=who, device=_text(what, "device")
    ),
    "host key accepted": lambda who, what: tr(
        "{who} accepted the host key {key} of {device}.", who=who, key=_text(what, "new"), device=_text(what, "device")
    ),
    "pruned": _pruned,
    "logged in": _login,
    "logged out": lambda who, what: tr("{who} logged out.", who=who),
    "login refused": lambda who, what: _left_out(
        tr("{who} sent a token that is not accepted, and was not logged in.", who=who), what
    ),
    "request refused": _request_refused,
}

# Events of a device's row in a rollout (`rollout.DeviceEvent`).
_MOVES: Mapping[str, Callable[[], str]] = {
    "begin": lambda: tr("The controller began to work on the device."),
    "same": lambda: tr("The device runs the release already: nothing was changed."),
    "prove": lambda: tr("The release was verified on the device, beside the one that runs."),
    "switch": lambda: tr("The controller asked the device to switch."),
    "lease": lambda: tr("The device switched, for the time of its lease."),
    "confirm": lambda: tr("The device made the switch final."),
    "fail": lambda: tr("The device failed."),
    "lose": lambda: tr("The device could not be reached."),
    "orphan": lambda: tr("The controller at work on the device had ended: the device waits for its turn again."),
    "give-up": lambda: tr("The device was offline for as long as the rollout waits."),
    "skip": lambda: tr("The device was left out, since the rollout ended."),
    "retry": lambda: tr("A person asked for another try."),
    "roll-back": lambda: tr("The device was taken back to another release."),
}

# Kinds of events in a device's own history; its service writes them.
_KINDS: Mapping[str, Callable[[], str]] = {
    "started": lambda: tr("The device's service started."),
    "stopped": lambda: tr("The device's service stopped serving."),
    "settings": lambda: tr("The service could not use its new settings."),
    "switched": lambda: tr("The service switched to the release."),
    "went-back": lambda: tr("The service went back to the release before."),
    "refused-release": lambda: tr("The service refused the release."),
    "worker-died": lambda: tr("A worker of the service died."),
    "worker-worn": lambda: tr("A worker of the service was replaced."),
    "health": lambda: tr("The service ran a golden input again, and its outputs were not correct."),
    "drift": lambda: tr("The device checked its environment against the one that was verified."),
}
