"""Decides which releases this device accepts: whose signature, which fleet, no older than what it has, not past its expiry.

trust/allowed_signers   the trusted signers, in ssh-keygen's form; without it no signature is required.  Its first line may be a
                        comment, `# litefleet-signers {"fleet": ..., "number": ...}` (see SignersHeader)
trust/checks            exists since this device has checked a signature: from then on an unchecked one is rejected
trust/accepted.json     {fleet, latest, models: {name: {number, release, expires}}}: what was accepted last; it only grows
seals/<release>.json    the seal that a release came with
"""

import base64
import binascii
import hashlib
import json
import os
import re
from typing import Dict, List, Mapping, NamedTuple, Optional, Tuple

from ..findings import Finding, finding
from ..formats.checked import each, mapping, shown, text, whole
from ..formats.files import read_regular
from .signature import RELEASE, TRUST, Outcome, check_signature
from .store import Manifest, Store, StoreError, write_small

_MAX_SIGNERS = 64 << 10  # bytes
_MAX_ACCEPTED = 1 << 20  # bytes
_MAX_NUMBER = (1 << 53) - 1  # a JSON number that every reader keeps exactly
_FIRST_BELIEVED = 1704067200  # 2024-01-01: a clock before it was never set
_MAX_AHEAD_S = 31 * 86400  # a seal issued so far ahead of a believed clock shows that one of two clocks is wrong
_CHECKS = ("trust", "checks")
_HEADER = "# litefleet-signers "
_KEY_TYPE = re.compile(r"(?:sk-)?(?:ssh|ecdsa)-[a-z0-9@.-]+\Z")


class Seal(NamedTuple):
    """What a controller signs about a release."""

    schema: int
    release: str
    model: str
    fleet: str
    number: int  # grows with each rollout of the model
    issued: int  # seconds since the epoch
    expires: int

    @classmethod
    def parse(cls, value: object) -> "Seal":
        """Read the JSON form.  Raises StoreError "bad-request"."""
        try:
            data = mapping(value, "the seal")
            if set(data) != set(cls._fields) or data["schema"] != 1:
                raise ValueError("a sealed release needs a seal of schema 1 and a signature")
            words = {key: text(data[key], 128, "the seal's %s" % key, 1) for key in ("release", "model", "fleet")}
            if not all(map(str.isprintable, words.values())):
                raise ValueError("the seal's release, model and fleet must be printable texts")
            numbers = [
                whole(data[key], 0, _MAX_NUMBER, "the seal's %s" % key) for key in ("number", "issued", "expires")
            ]
        except ValueError as error:
            raise StoreError(str(error), "bad-request") from None
        seal = cls(1, words["release"], words["model"], words["fleet"], *numbers)
        if seal.issued > seal.expires:
            raise StoreError("the seal expires before it was issued", "bad-request")
        return seal


class _AcceptedRelease(NamedTuple):
    number: int
    release: str
    expires: int


class _Accepted(NamedTuple):
    """What accepted.json holds."""

    fleet: str  # "" before the first sealed release
    latest: int  # the latest time that this device has seen, in seconds since the epoch
    models: Dict[str, _AcceptedRelease]

    def to_dict(self) -> Dict[str, object]:
        return dict(self._asdict(), models={name: entry._asdict() for name, entry in self.models.items()})


class SignersHeader(NamedTuple):
    """What a list of signers says of itself, in JSON behind `# litefleet-signers ` in its first line.

    ssh-keygen and older agents take the line for a comment.  A list without it is that of an older controller.
    """

    fleet: str = ""  # "" for any
    number: int = -1  # grows with each list of a fleet; -1 for a list without a header
    unchecked: str = (
        "accept"  # what a device without ssh-keygen does with a signature: "accept" it with a note, or "refuse"
    )
    reset: int = (
        -1
    )  # seconds since the epoch: the latest time that the device has seen is set to it, and its numbers are cleared
    digest: str = ""  # of the lines below, by which a controller notices that they were edited

    @classmethod
    def of(cls, listed: str) -> "SignersHeader":
        """Read the header of a list, the default one for a list without.  Raises ValueError for one that is not well formed."""
        line = listed.split("\n", 1)[0]
        if not line.startswith(_HEADER):
            return cls()
        try:
            data = mapping(json.loads(line[len(_HEADER) :]), "the header of allowed_signers")
        except RecursionError:
            raise ValueError("the header of allowed_signers is nested too deeply") from None
        unchecked = text(data.get("unchecked", "accept"), 20, "unchecked")
        if unchecked not in ("accept", "refuse"):
            raise ValueError("unchecked must be accept or refuse, not %s" % shown(unchecked))
        return cls(
            text(data.get("fleet", ""), 128, "fleet"),
            whole(data.get("number"), 0, _MAX_NUMBER, "number"),
            unchecked,
            whole(data["reset"], 0, _MAX_NUMBER, "reset") if "reset" in data else -1,
            text(data.get("digest", ""), 64, "digest"),
        )

    def line(self) -> str:
        """Return the header as the first line of a list, its newline included."""
        fields = {name: value for name, value in self._asdict().items() if value not in ("", -1)}
        return _HEADER + json.dumps(fields, sort_keys=True) + "\n"


class Examined(NamedTuple):
    """A release that may be accepted: what is remembered once it is (None: nothing new), its seal, and notes."""

    state: Optional[_Accepted]
    findings: List[Finding]
    checked: bool = False  # its signature was checked and is good


class TrustStatus(NamedTuple):
    """What a device trusts and has accepted."""

    signers: str  # SHA-256 of the trusted signers' text, "" for none
    fleet: str = ""
    latest: int = 0  # seconds since the epoch
    numbers: Mapping[str, int] = {}  # by model
    problem: str = ""  # why the files cannot be read

    def to_dict(self) -> Dict[str, object]:
        """Return the JSON form; `problem` only where there is one."""
        data = dict(self._asdict(), numbers=dict(self.numbers))
        if not self.problem:
            del data["problem"]
        return data


def seal_payload(seal: Mapping[str, object]) -> bytes:
    """Return the bytes of a seal that are signed: its canonical JSON."""
    return json.dumps(seal, sort_keys=True, separators=(",", ":")).encode("utf-8")


def receive(
    store: Store,
    document: object,
    signed: object,
    now: float,
    program: Optional[str] = None,
    again: bool = False,
) -> Tuple[str, List[Finding]]:
    """Store the release of this manifest if this device accepts it; return its id and notes.

    `again` requests another verification: a release that was accepted and verified here needs no seal for that.  Raises
    StoreError as `accept` and `Store.write_release` do.
    """
    notes: List[Finding] = []
    manifest = Manifest.parse(document)

    def admit(identity: str) -> None:
        known = os.path.isfile(store.path("releases", identity + ".json"))
        if again and known and store.verified(identity) is not None:
            return
        notes.extend(accept(store, identity, manifest.model, signed, now, program))

    return store.write_release(manifest.document, admit), notes


def accept(
    store: Store, identity: str, model: str, signed: object, now: float, program: Optional[str] = None
) -> List[Finding]:
    """Accept the release `identity` under its seal, record that durably, and return notes.

    Raises StoreError as `examine` does; then nothing has changed.
    """
    examined = examine(store, identity, model, signed, now, program)
    if examined.state is not None:
        fields = mapping(signed)
        stored = {"seal": fields["seal"], "signature": fields.get("signature", "")}
        write_small(store, ("seals", identity + ".json"), seal_payload(stored))
        write_small(store, ("trust", "accepted.json"), seal_payload(examined.state.to_dict()))
    if examined.checked:
        _remember_check(store)
    return examined.findings


def _remember_check(store: Store) -> None:
    """Record that this device checks signatures, so that it never again accepts an unchecked one."""
    if not os.path.lexists(store.path(*_CHECKS)):
        write_small(store, _CHECKS, b"")


def examine(
    store: Store, identity: str, model: str, signed: object, now: float, program: Optional[str] = None
) -> Examined:
    """Check whether the release `identity` of `model` may be accepted; changes nothing.

    `now` is the clock in seconds since the epoch.  Raises StoreError: "unsigned", "bad-signature", "foreign", "too-old",
    "expired", "bad-request".
    """
    trusted = signers(store)
    if signed is None:
        if trusted:
            raise StoreError("this device trusts certain signers; the release of %s has no seal" % model, "unsigned")
        return Examined(None, [])
    seal, signature = _read_signed(signed)
    if (seal.release, seal.model) != (identity, model):
        message = "the seal is for release %s of %s, not for %s of %s"
        raise StoreError(message % (seal.release[:12], seal.model, identity[:12], model), "foreign")
    if not trusted:
        return Examined(_advance(_read_accepted(store), seal, now), [])
    fleet = SignersHeader.of(trusted).fleet
    if fleet not in ("", seal.fleet):
        message = "this device trusts the signers of the fleet %s; the release is sealed for %s"
        raise StoreError(message % (fleet, seal.fleet), "foreign")
    notes = _check_signature(store, trusted, seal, signature, program)
    return Examined(_advance(_read_accepted(store), seal, now), notes, checked=not notes)


def _read_signed(signed: object) -> Tuple[Seal, str]:
    """Return the seal and its signature; "bad-request" when they are not well formed."""
    fields = signed if isinstance(signed, dict) else {}
    signature = fields.get("signature", "")
    if not isinstance(fields.get("seal"), dict) or not isinstance(signature, str):
        raise StoreError("a sealed release needs a seal of schema 1 and a signature", "bad-request")
    return Seal.parse(fields["seal"]), signature


def _check_signature(store: Store, trusted: str, seal: Seal, signature: str, program: Optional[str]) -> List[Finding]:
    if not signature:
        raise StoreError("this device trusts certain signers; the seal of %s is not signed" % seal.model, "unsigned")
    payload = seal_payload(seal._asdict())
    checked = check_signature(payload, signature, RELEASE, trusted, store.path("work"), program)
    if checked.outcome is Outcome.UNAVAILABLE and not _must_check(store, trusted):
        return [finding("LF611", "The signature of %s was not checked here: %s." % (seal.model, checked.why))]
    if checked.outcome is not Outcome.GOOD:
        raise StoreError("the signature of %s's seal is rejected: %s" % (seal.model, checked.why), "bad-signature")
    return []


def _must_check(store: Store, trusted: str) -> bool:
    """Whether a signature that this device cannot check is rejected: the list says so, or it has checked one before."""
    return SignersHeader.of(trusted).unchecked == "refuse" or os.path.lexists(store.path(*_CHECKS))


def _advance(accepted: _Accepted, seal: Seal, now: float) -> _Accepted:
    """Return the state after `seal` is accepted; StoreError when it may not be."""
    if accepted.fleet not in ("", seal.fleet):
        message = "this device belongs to the fleet %s; the release is sealed for %s"
        raise StoreError(message % (accepted.fleet, seal.fleet), "foreign")
    before = accepted.models.get(seal.model, _AcceptedRelease(-1, "", 0))
    if seal.number < before.number:
        message = "the release of %s has the number %d; this device has already accepted %d"
        raise StoreError(message % (seal.model, seal.number, before.number), "too-old")
    if seal.number == before.number and seal.release != before.release:
        message = "this device has already accepted another release of %s under the number %d: %s"
        raise StoreError(message % (seal.model, seal.number, before.release[:12]), "too-old")
    clock = int(now) if now >= _FIRST_BELIEVED else 0
    _require_past(seal.issued, clock, "the seal of %s was issued" % seal.model)
    time = max(clock, accepted.latest)
    if time > seal.expires:
        source = "this device's clock" if time == clock else "the latest time that this device has seen"
        message = "the seal of %s ended at %d; %s is %d (seconds since 1970)"
        raise StoreError(message % (seal.model, seal.expires, source, time), "expired")
    models = dict(accepted.models)
    models[seal.model] = _AcceptedRelease(seal.number, seal.release, seal.expires)
    return _Accepted(seal.fleet, max(time, seal.issued), models)


def _require_past(moment: int, clock: int, event: str) -> None:
    """Raise StoreError "expired" for a moment over 31 days ahead of this device's clock, unless the clock was never set (0)."""
    if clock and moment > clock + _MAX_AHEAD_S:
        message = (
            "%s at %d, %d days ahead of this device's clock (%d): correct the controller's clock, or this device's"
        )
        raise StoreError(message % (event, moment, (moment - clock) // 86400, clock), "expired")


def _read_accepted(store: Store) -> _Accepted:
    """Return what was accepted last; a damaged record is an error, for an empty one would let old releases in."""
    path = store.path("trust", "accepted.json")
    data = _read(path, _MAX_ACCEPTED)
    if data is None:
        return _Accepted("", 0, {})
    try:
        value = mapping(json.loads(data.decode("utf-8")))
        models = each(value["models"], _accepted_release, 1 << 20)
        return _Accepted(text(value["fleet"], 1000), whole(value["latest"]), models)
    except (ValueError, KeyError, RecursionError):
        message = "%s is damaged, so that old releases cannot be recognised; remove it to begin again"
        raise StoreError(message % path, "damaged") from None


def _accepted_release(value: object, path: str) -> _AcceptedRelease:
    entry = mapping(value, path)
    number = whole(entry["number"], -_MAX_NUMBER, _MAX_NUMBER, path)
    return _AcceptedRelease(number, text(entry["release"], 1000, path), whole(entry["expires"], 0, _MAX_NUMBER, path))


def signers(store: Store) -> str:
    """Return the trusted signers as ssh-keygen reads them, "" when none were ever set.  Raises StoreError "damaged"."""
    path = store.path("trust", "allowed_signers")
    data = _read(path, _MAX_SIGNERS)
    if data is None:
        return ""
    try:
        return check_signers(data.decode("utf-8"))
    except (UnicodeDecodeError, StoreError):
        raise StoreError("%s is damaged: no release is accepted until it is written again" % path, "damaged") from None


def describe(store: Store) -> TrustStatus:
    """Return what this device trusts and has accepted; files that cannot be read are its `problem`."""
    try:
        trusted, accepted = signers(store), _read_accepted(store)
    except StoreError as error:
        return TrustStatus("", problem=str(error))
    numbers = {name: entry.number for name, entry in accepted.models.items()}
    digest = hashlib.sha256(trusted.encode("utf-8")).hexdigest() if trusted else ""
    return TrustStatus(digest, accepted.fleet, accepted.latest, numbers)


def set_signers(store: Store, given: object, signature: object = "", program: Optional[str] = None) -> bool:
    """Trust the signers of the list `given`; return False when they are trusted already.

    The first list is accepted from any session; a later one must be signed by a signer of the one before, be for the same
    fleet, and have a greater number, where the one before has any.  Only a signed list may reset what was accepted.
    Raises StoreError: "bad-request", "bad-signature", "foreign", "too-old", "expired".
    """
    listed = check_signers(given)
    before = signers(store)
    if before == listed:
        return False
    header = SignersHeader.of(listed)
    accepted = _accepted_or_empty(store)
    if header.fleet and accepted.fleet not in ("", header.fleet):
        message = "this device belongs to the fleet %s; the list of signers is for %s"
        raise StoreError(message % (accepted.fleet, header.fleet), "foreign")
    if before:
        _require_rotation(store, before, listed, signature, program)
        _require_successor(SignersHeader.of(before), header)
        _reset(store, accepted, header)
        _remember_check(store)
    write_small(store, ("trust", "allowed_signers"), listed.encode("utf-8"))
    return True


def _accepted_or_empty(store: Store) -> _Accepted:
    """Return what was accepted, nothing for a damaged record: a signed list with `reset` repairs it."""
    try:
        return _read_accepted(store)
    except StoreError:
        return _Accepted("", 0, {})


def _require_successor(before: SignersHeader, after: SignersHeader) -> None:
    """Raise StoreError for a list that is older than the present one, or another fleet's."""
    if before.number >= 0 and after.number <= before.number:
        number = "the number %d" % after.number if after.number >= 0 else "no number"
        message = (
            "the list of signers has %s; this device has accepted %d already: run `litefleet trust` on the new list"
        )
        raise StoreError(message % (number, before.number), "too-old")
    if before.fleet and after.fleet != before.fleet:
        message = "this device trusts the signers of the fleet %s; the list is for %s"
        raise StoreError(message % (before.fleet, after.fleet or "none"), "foreign")


def _reset(store: Store, accepted: _Accepted, header: SignersHeader) -> None:
    """Do what a list with `reset` asks for: written before the list itself, so that a power cut between is made up for."""
    if header.reset < 0:
        return
    now = store.clock.wall()
    _require_past(header.reset, int(now) if now >= _FIRST_BELIEVED else 0, "the list of signers resets the time")
    fresh = _Accepted(accepted.fleet or header.fleet, header.reset, {})
    write_small(store, ("trust", "accepted.json"), seal_payload(fresh.to_dict()))


def _require_rotation(store: Store, before: str, listed: str, signature: object, program: Optional[str]) -> None:
    if not isinstance(signature, str) or not signature:
        message = "this device trusts other signers, and the new list is not signed by one of them"
        raise StoreError(message, "bad-signature")
    checked = check_signature(listed.encode("utf-8"), signature, TRUST, before, store.path("work"), program)
    if (
        checked.outcome is not Outcome.GOOD
    ):  # not checked is not enough here: the list decides about every later release
        raise StoreError("the new list of signers is rejected: %s" % checked.why, "bad-signature")


def check_signers(given: object) -> str:
    """Return a list of signers unchanged; "bad-request" when ssh-keygen could not use it, which would lock the device."""
    if not isinstance(given, str) or "\0" in given or len(given.encode("utf-8", "replace")) > _MAX_SIGNERS:
        raise StoreError("allowed_signers is not a text of at most %d bytes" % _MAX_SIGNERS, "bad-request")
    lines = [(n, line.strip()) for n, line in enumerate(given.splitlines(), 1)]
    lines = [(n, line) for n, line in lines if line and not line.startswith("#")]
    if not lines:
        raise StoreError("allowed_signers names no key", "bad-request")
    for number, line in lines:
        if not _has_key(line):
            raise StoreError("line %d of allowed_signers is not: NAME [OPTIONS] KEYTYPE KEY" % number, "bad-request")
    try:
        SignersHeader.of(given)
    except ValueError as error:
        raise StoreError("the first line of allowed_signers: %s" % error, "bad-request") from None
    return given


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
    """Return a file's bytes, None when it does not exist; any other failure is an error, never taken for absent."""
    try:
        data = read_regular(path, limit + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError("%s cannot be read: %s" % (path, error.strerror), "damaged") from error
    if len(data) > limit:
        raise StoreError("%s is over %d bytes" % (path, limit), "damaged")
    return data
