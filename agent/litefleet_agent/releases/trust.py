"""Which releases this device accepts: whose signature, which fleet, no older than what it has, and not past its expiry.

trust/allowed_signers   the trusted signers, in ssh-keygen's form; without it no signature is asked for
trust/accepted.json     {fleet, latest, models: {name: {number, release, expires}}}: what was accepted last; it only grows
seals/<release>.json    the seal that a release came with
"""

import base64
import binascii
import hashlib
import json
import os
import re
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from ..findings import Finding, finding
from .signature import RELEASE, TRUST, Outcome, check_signature
from .store import Store, StoreError, write_small

__all__ = [
    "Examined",
    "accept",
    "check_signers",
    "describe",
    "examine",
    "receive",
    "seal_payload",
    "set_signers",
    "signers",
]

_MAX_SIGNERS = 64 << 10  # bytes
_MAX_ACCEPTED = 1 << 20  # bytes
_MAX_NUMBER = 1 << 53
_FIRST_BELIEVED = 1704067200  # 2024-01-01: a clock before it was never set
_KEYS = {"schema", "release", "model", "fleet", "number", "issued", "expires"}
_KEY_TYPE = re.compile(r"(?:sk-)?(?:ssh|ecdsa)-[a-z0-9@.-]+\Z")

Accepted = Dict[str, Any]  # as accepted.json holds it


class Examined(NamedTuple):
    """A release that may be accepted: what is remembered once it is (None: nothing new), and notes."""

    state: Optional[Accepted]
    findings: List[Finding]


def seal_payload(seal: Dict[str, Any]) -> bytes:
    """Return the bytes of a seal that are signed: its canonical JSON."""
    return json.dumps(seal, sort_keys=True, separators=(",", ":")).encode("utf-8")


def receive(
    store: Store,
    manifest: Dict[str, Any],
    signed: Any,
    now: float,
    program: Optional[str] = None,
    again: bool = False,
) -> Tuple[str, List[Finding]]:
    """Keep a release that this device accepts; return its id and notes.

    `again` asks for another look at a release that is to be proven anew: one that was accepted and proven here needs no
    seal for that.  Raises StoreError as `accept` and `Store.write_release` do.
    """
    notes: List[Finding] = []

    def admit(identity: str) -> None:
        if (
            again
            and store.verified(identity) is not None
            and os.path.isfile(store.path("releases", identity + ".json"))
        ):
            return
        notes.extend(accept(store, identity, manifest["model"]["name"], signed, now, program))

    return store.write_release(manifest, admit), notes


def accept(
    store: Store, identity: str, model: str, signed: Any, now: float, program: Optional[str] = None
) -> List[Finding]:
    """Accept the release `identity` under its seal, remember that durably, and return notes.

    Raises StoreError as `examine` does; then nothing has changed.
    """
    examined = examine(store, identity, model, signed, now, program)
    if examined.state is not None:
        kept = {"seal": signed["seal"], "signature": signed.get("signature", "")}
        write_small(store, ("seals", identity + ".json"), seal_payload(kept))
        write_small(store, ("trust", "accepted.json"), seal_payload(examined.state))
    return examined.findings


def examine(
    store: Store, identity: str, model: str, signed: Any, now: float, program: Optional[str] = None
) -> Examined:
    """Say whether the release `identity` of `model` may be accepted; changes nothing.

    `now` is the clock in seconds since the epoch.  Raises StoreError: "unsigned", "bad-signature", "foreign", "too-old",
    "expired", "bad-request".
    """
    trusted = signers(store)
    if signed is None:
        if trusted:
            raise StoreError("this device trusts certain signers; the release of %s has no seal" % model, "unsigned")
        return Examined(None, [])
    seal, signature = _read_signed(signed)
    if (seal["release"], seal["model"]) != (identity, model):
        message = "the seal is for release %s of %s, not for %s of %s"
        raise StoreError(message % (seal["release"][:12], seal["model"][:128], identity[:12], model), "foreign")
    notes = _check_signature(store, trusted, seal, signature, program) if trusted else []
    return Examined(_advance(_read_accepted(store), seal, now), notes)


def _read_signed(signed: Any) -> Tuple[Dict[str, Any], str]:
    """Return the seal and its signature; "bad-request" when they are not well formed."""
    seal = signed.get("seal") if isinstance(signed, dict) else None
    signature = signed.get("signature", "") if isinstance(signed, dict) else None
    if not isinstance(seal, dict) or not isinstance(signature, str) or set(seal) != _KEYS or seal["schema"] != 1:
        raise StoreError("a sealed release needs a seal of schema 1 and a signature", "bad-request")
    for key in ("release", "model", "fleet"):
        if not isinstance(seal[key], str) or not 0 < len(seal[key]) <= 128 or not seal[key].isprintable():
            raise StoreError("the seal's %s is not a short text" % key, "bad-request")
    for key in ("number", "issued", "expires"):
        if type(seal[key]) is not int or not 0 <= seal[key] < _MAX_NUMBER:
            raise StoreError("the seal's %s is not a whole number in bounds" % key, "bad-request")
    if seal["issued"] > seal["expires"]:
        raise StoreError("the seal expires before it was issued", "bad-request")
    return seal, signature


def _check_signature(
    store: Store, trusted: str, seal: Dict[str, Any], signature: str, program: Optional[str]
) -> List[Finding]:
    if not signature:
        raise StoreError("this device trusts certain signers; the seal of %s is not signed" % seal["model"], "unsigned")
    checked = check_signature(seal_payload(seal), signature, RELEASE, trusted, store.path("work"), program)
    if checked.outcome is Outcome.BAD:
        raise StoreError("the signature of %s's seal is refused: %s" % (seal["model"], checked.why), "bad-signature")
    if checked.outcome is Outcome.UNKNOWN:
        return [finding("LF611", "The signature of %s was not checked here: %s." % (seal["model"], checked.why))]
    return []


def _advance(accepted: Accepted, seal: Dict[str, Any], now: float) -> Accepted:
    """Return what is remembered once `seal` is accepted; StoreError when it may not be."""
    if accepted["fleet"] not in ("", seal["fleet"]):
        message = "this device belongs to the fleet %s; the release is sealed for %s"
        raise StoreError(message % (accepted["fleet"], seal["fleet"]), "foreign")
    before = accepted["models"].get(seal["model"], {"number": -1, "release": ""})
    if seal["number"] < before["number"]:
        message = "the release of %s has the number %d; this device has already accepted %d"
        raise StoreError(message % (seal["model"], seal["number"], before["number"]), "too-old")
    if seal["number"] == before["number"] and seal["release"] != before["release"]:
        message = "this device has already accepted another release of %s under the number %d: %s"
        raise StoreError(message % (seal["model"], seal["number"], before["release"][:12]), "too-old")
    clock = int(now) if now >= _FIRST_BELIEVED else 0
    time = max(clock, accepted["latest"])
    if time > seal["expires"]:
        source = "this device's clock" if time == clock else "the latest time that this device has seen"
        message = "the seal of %s ended at %d; %s is %d (seconds since 1970)"
        raise StoreError(message % (seal["model"], seal["expires"], source, time), "expired")
    entry = {key: seal[key] for key in ("number", "release", "expires")}
    models = dict(accepted["models"], **{seal["model"]: entry})
    return {"fleet": seal["fleet"], "latest": max(time, seal["issued"]), "models": models}


def _read_accepted(store: Store) -> Accepted:
    """Return what was accepted last; a damaged record stops everything, for an empty one would let old releases in."""
    path = store.path("trust", "accepted.json")
    data = _read(path, _MAX_ACCEPTED)
    if data is None:
        return {"fleet": "", "latest": 0, "models": {}}
    try:
        value = json.loads(data.decode("utf-8"))
        models = {
            str(name): {"number": int(e["number"]), "release": str(e["release"]), "expires": int(e["expires"])}
            for name, e in value["models"].items()
        }
        return {"fleet": str(value["fleet"]), "latest": int(value["latest"]), "models": models}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        message = "%s is damaged, so that an old release can't be told from a new one; remove it to begin anew"
        raise StoreError(message % path, "damaged") from None


def signers(store: Store) -> str:
    """Return the trusted signers as ssh-keygen reads them, "" when nobody ever set any."""
    path = store.path("trust", "allowed_signers")
    data = _read(path, _MAX_SIGNERS)
    if data is None:
        return ""
    try:
        return check_signers(data.decode("utf-8"))
    except (UnicodeDecodeError, StoreError):
        raise StoreError("%s is damaged: no release is accepted until it is written anew" % path, "damaged") from None


def describe(store: Store) -> Dict[str, Any]:
    """Return {signers: SHA-256 of the trusted signers' text or "", fleet, latest, numbers: {model: number}}."""
    try:
        text, accepted = signers(store), _read_accepted(store)
    except StoreError as error:
        return {"signers": "", "fleet": "", "latest": 0, "numbers": {}, "problem": str(error)}
    return {
        "signers": hashlib.sha256(text.encode("utf-8")).hexdigest() if text else "",
        "fleet": accepted["fleet"],
        "latest": accepted["latest"],
        "numbers": {name: entry["number"] for name, entry in accepted["models"].items()},
    }


def set_signers(store: Store, text: Any, signature: Any = "", program: Optional[str] = None) -> bool:
    """Trust the signers of `text`; return False when they are trusted already.

    The first ones are taken from whoever has the login; others must be signed by one of those.  Raises StoreError:
    "bad-request", "bad-signature".
    """
    text = check_signers(text)
    before = signers(store)
    if before == text:
        return False
    if before:
        _need_rotation(store, before, text, signature, program)
    write_small(store, ("trust", "allowed_signers"), text.encode("utf-8"))
    return True


def _need_rotation(store: Store, before: str, text: str, signature: Any, program: Optional[str]) -> None:
    if not isinstance(signature, str) or not signature:
        message = "this device trusts other signers, and the new list is not signed by one of them"
        raise StoreError(message, "bad-signature")
    checked = check_signature(text.encode("utf-8"), signature, TRUST, before, store.path("work"), program)
    if checked.outcome is not Outcome.GOOD:  # not checked is not enough here: the list decides over all that follows
        raise StoreError("the new list of signers is refused: %s" % checked.why, "bad-signature")


def check_signers(text: Any) -> str:
    """Return a list of signers as it is; "bad-request" when ssh-keygen could not use it, which would lock the device."""
    if not isinstance(text, str) or "\0" in text or len(text.encode("utf-8", "replace")) > _MAX_SIGNERS:
        raise StoreError("allowed_signers is not a text of at most %d bytes" % _MAX_SIGNERS, "bad-request")
    lines = [(n, line.strip()) for n, line in enumerate(text.splitlines(), 1)]
    lines = [(n, line) for n, line in lines if line and not line.startswith("#")]
    if not lines:
        raise StoreError("allowed_signers names no key", "bad-request")
    for number, line in lines:
        if not _has_key(line):
            raise StoreError("line %d of allowed_signers is not: NAME [OPTIONS] KEYTYPE KEY" % number, "bad-request")
    return text


def _has_key(line: str) -> bool:
    words = line.split()
    for place, kind in enumerate(words[1:-1], 1):
        if _KEY_TYPE.match(kind):
            key = words[place + 1]
            try:
                blob = base64.b64decode(key, validate=True)
            except (binascii.Error, ValueError):
                return False
            return blob[4 : 4 + len(kind)] == kind.encode()
    return False


def _read(path: str, limit: int) -> Optional[bytes]:
    """Return a file's bytes, None when it is not there; what can't be read is an error, never taken for absent."""
    try:
        with open(path, "rb") as file:
            data = file.read(limit + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError("%s can't be read: %s" % (path, error.strerror), "damaged") from error
    if len(data) > limit:
        raise StoreError("%s is over %d bytes" % (path, limit), "damaged")
    return data
