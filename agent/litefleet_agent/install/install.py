"""Installs a bundle file on the device it was carried to: checked whole, accepted, stored, proven, switched on, reported."""

import json
import os
import re
import sys
from typing import Any, Dict, Iterable, List, NamedTuple, Tuple

from ..errors import AgentError
from ..facts import Facts, fingerprint, gather
from ..findings import finding_of_error
from ..releases import trust
from ..releases.activation import activate, lock_and_recover
from ..releases.archive import NAME, name_archive
from ..releases.garbage import Keep, free_space
from ..releases.signature import BUNDLE, Outcome, check_signature
from ..releases.store import Store, StoreError, default_root, explain_os_error, write_small
from . import pending_reports as inbox
from .bundle import Bundle, Offer, damaged

__all__ = ["install", "main"]

_USAGE = "usage: litefleet-agent install FILE [--root ROOT] [--trust ALLOWED_SIGNERS] [--json]\n"
_KEEP = Keep(releases=1000)  # what to keep is the controller's policy: here something goes only for want of room


class _Arguments(NamedTuple):
    file: str
    root: str
    trust: str
    as_json: bool


def main(args: List[str]) -> int:
    """Run `install` with these arguments; return 0 when all is proven and current, 1 otherwise, 2 for wrong usage."""
    given = _parse(args)
    if given is None:
        sys.stderr.write(_USAGE)
        return 2
    os.umask(0o077)
    try:
        text = _read_signers(given.trust) if given.trust else ""
        report = install(Store(given.root), given.file, gather(given.root), text)
    except (AgentError, OSError) as error:
        return _failed(error, given)
    for outcome in report["outcomes"]:
        _report_outcome(outcome)
    if given.as_json:
        print(json.dumps(report, sort_keys=True))
    return 0 if all(o["activated"] for o in report["outcomes"]) else 1


def _parse(args: List[str]) -> Any:
    """Return the arguments, None when they are not of the usage's form."""
    values = {"--root": "", "--trust": ""}
    files, left, as_json = [], list(args), False
    while left:
        word = left.pop(0)
        if word in values and left:
            values[word] = left.pop(0)
        elif word == "--json":
            as_json = True
        elif word.startswith("-"):
            return None
        else:
            files.append(word)
    if len(files) != 1:
        return None
    return _Arguments(files[0], values["--root"] or default_root(), values["--trust"], as_json)


def _read_signers(path: str) -> str:
    with open(path, "rb") as file:
        return trust.check_signers(file.read((64 << 10) + 1).decode("utf-8", "replace"))


def _failed(error: Exception, args: _Arguments) -> int:
    if isinstance(error, OSError):
        error = explain_os_error(error, error.filename or args.file)
    found = _as_finding(error)
    sys.stderr.write("litefleet-agent: %s %s: %s\n  %s\n  %s\n" % (_words(found)))
    if args.as_json:
        print(json.dumps({"kind": "install", "bundle": args.file, "outcomes": [], "error": found}, sort_keys=True))
    return 1


def _words(found: Dict[str, Any]) -> Tuple[str, ...]:
    return tuple(found[key] for key in ("code", "slug", "seen", "why", "do"))


def _as_finding(error: Exception) -> Dict[str, Any]:
    return finding_of_error(getattr(error, "code", ""), str(error)).to_dict()


def _report_outcome(outcome: Dict[str, Any]) -> None:
    state = "is current" if outcome["activated"] else "was not switched on"
    line = "%s: %s, release %s %s\n" % (outcome["model"], outcome["verdict"], outcome["release"][:12], state)
    sys.stderr.write(line)
    for found in outcome["findings"]:
        sys.stderr.write("  %s %s: %s\n    %s\n    %s\n" % _words(found))


# --- the work


def install(store: Store, path: str, facts: Facts, trusted_text: str = "") -> Dict[str, Any]:
    """Install the bundle file at `path` and return the report that was left for the controller.

    `given` is a text of allowed signers that the operator vouches for.  Raises StoreError, with nothing changed, when the
    bundle can't be read, is damaged, not rightly signed, or holds nothing for this device.
    """
    with Bundle(path) as bundle:
        lock_and_recover(store)
        _check_signers(store, bundle, trusted_text)
        offers = _choose(bundle.offers, facts)
        missing = _missing_blobs(store, bundle, offers)
        for sha in missing:
            bundle.check(sha)
        agent = bundle.agent_archive()
        if trusted_text:
            trust.set_signers(store, trusted_text)
        if agent:
            _store_agent(store, bundle.agent, agent)
        outcomes = [_install_one(store, bundle, offer, facts) for offer in offers]
    report = {"kind": "install", "at": int(store.clock.wall()), "bundle": os.path.basename(path), "outcomes": outcomes}
    return inbox.add(store, report)


def _check_signers(store: Store, bundle: Bundle, trusted_text: str) -> None:
    """Check the index's signature where this device, or the operator, trusts certain signers."""
    trusted = trust.signers(store)
    if trusted and trusted_text and trusted_text != trusted:
        message = "this device trusts other signers already; a new list comes from the controller (`litefleet trust`)"
        raise StoreError(message, "bad-signature")
    if trusted or trusted_text:
        _check_index(store, bundle, trusted or trusted_text)
    fleet = trust.describe(store)["fleet"]
    if fleet and fleet != bundle.fleet:
        message = "this device belongs to the fleet %s; the bundle is for %s" % (fleet, bundle.fleet)
        raise StoreError(message, "foreign")


def _check_index(store: Store, bundle: Bundle, trusted: str) -> None:
    if not bundle.signature:
        raise StoreError("this device trusts certain signers; the bundle is not signed", "unsigned")
    checked = check_signature(bundle.index_bytes, bundle.signature, BUNDLE, trusted, store.path("work"))
    if checked.outcome is not Outcome.GOOD:  # there is no controller here that could have checked it instead
        raise StoreError("the bundle's signature is refused: %s" % checked.why, "bad-signature")


def _store_agent(store: Store, sha: str, data: bytes) -> None:
    """Keep the agent that came along, for what it does when the device starts; a device that runs one already has a link."""
    path = store.path("agent", sha + ".pyz")
    if not os.path.exists(path):
        write_small(store, ("agent", sha + ".pyz"), data)
    if not os.path.lexists(store.path("agent", NAME)):
        name_archive(store.root, path)


def _missing_blobs(store: Store, bundle: Bundle, offers: Iterable[Offer]) -> List[str]:
    """Return the hashes of what the offers need and the device lacks."""
    wanted: Dict[str, None] = {}
    for offer in offers:
        wanted.update(dict.fromkeys(sha for sha in offer.blobs if not store.check_blob(sha)))
        if offer.runtime != "system" and offer.runtime not in store.runtimes():
            if offer.runtime not in bundle.runtimes:
                raise damaged("its index does not name the runtime %s" % offer.runtime[:12])
            wanted[bundle.runtimes[offer.runtime][0]] = None
    return list(wanted)


def _install_one(store: Store, bundle: Bundle, offer: Offer, facts: Facts) -> Dict[str, Any]:
    """Bring one release to run; what goes wrong with it is its outcome and leaves the others alone."""
    from ..verification.release import verify_release

    outcome = {
        "model": offer.model,
        "release": offer.identity,
        "artifact": offer.manifest["model"]["nb"],
        "verdict": "failed",
        "findings": [],
        "measurements": {},
        "activated": False,
    }
    try:
        trust.examine(store, offer.identity, offer.model, offer.signed, store.clock.wall())
        _store(store, bundle, offer)
        notes = trust.receive(store, offer.manifest, offer.signed, store.clock.wall())[1]
        answer = verify_release(store, offer.identity, facts, lambda: None)
        outcome.update({key: answer[key] for key in ("verdict", "measurements")})
        outcome["findings"] = [f.to_dict() for f in notes] + answer["findings"]
        _remember(store, offer.identity, facts, answer)
        if answer["verified"]:
            activate(store, offer.identity)
            outcome["activated"] = True
    except (StoreError, OSError) as error:
        known = explain_os_error(error, "the release could not be stored") if isinstance(error, OSError) else error
        found = _as_finding(known)
        outcome["findings"] = outcome["findings"] + [found]
        outcome["verdict"] = "refused" if found["code"] in ("LF606", "LF607", "LF608", "LF609", "LF610") else "failed"
    return outcome


def _store(store: Store, bundle: Bundle, offer: Offer) -> None:
    missing = _missing_blobs(store, bundle, [offer])
    need = sum(bundle.size(sha) for sha in missing)
    packed, unpacked = bundle.runtimes.get(offer.runtime, ("", 0))
    if packed in missing:
        need += unpacked
    wanted = frozenset(offer.blobs) | {packed, offer.identity}
    free_space(store, need, _KEEP._replace(wanted=wanted, runtime=offer.runtime, agent=bundle.agent))
    for sha in missing:
        store.put(sha, bundle.size(sha), bundle.chunks(sha))
    if packed in missing:
        store.unpack_runtime(offer.runtime, packed)


def _remember(store: Store, identity: str, facts: Facts, answer: Dict[str, Any]) -> None:
    if not answer["verified"]:
        store.clear_verified(identity)
        return
    at = int(store.clock.wall())
    record = {"fingerprint": fingerprint(facts), "at": at, "measurements": answer["measurements"]}
    store.set_verified(identity, record)


# --- which releases are for this device


def _choose(offers: List[Offer], facts: Facts) -> List[Offer]:
    """Return for each model the release whose kind fits this device best."""
    fitting: Dict[str, Tuple[Tuple[Any, ...], Offer]] = {}
    for offer in offers:
        rank = _rank(offer.kind, facts)
        if rank and (offer.model not in fitting or rank > fitting[offer.model][0]):
            fitting[offer.model] = (rank, offer)
    if not fitting:
        kinds = ", ".join(sorted({offer.kind for offer in offers})[:10])
        message = "the bundle holds nothing for this device (%s %s %s %s), only for: %s"
        libc = facts.libc
        raise StoreError(
            message % (facts.arch or facts.machine, facts.python.tag, libc.kind, libc.version, kinds), "none"
        )
    return [offer for _, offer in sorted(fitting.values(), key=lambda pair: pair[1].model)]


def _rank(kind: str, facts: Facts) -> Tuple[Any, ...]:
    """Return how well a kind fits, () for not at all: the libc decides among those of this architecture and Python."""
    arch, tag, libc, version = (kind.split() + [""] * 4)[:4]
    if arch != facts.arch or tag != facts.python.tag:
        return ()
    own, required = _numbers(facts.libc.version), _numbers(version)
    runs = required <= own
    return (libc == facts.libc.kind, runs, required if runs else tuple(-n for n in required))


def _numbers(text: str) -> Tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d{1,6}", text)[:4])
