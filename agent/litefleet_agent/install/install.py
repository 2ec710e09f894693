"""Installs a bundle file on its device: checks it whole, accepts, stores, verifies, activates and reports each release."""

import json
import os
import re
import sys
from typing import Dict, Iterable, List, NamedTuple, Optional, Tuple

from ..errors import AgentError
from ..facts import Facts, gather
from ..findings import Finding, finding_of_error
from ..formats.files import read_regular
from ..releases import trust
from ..releases.activation import activate, lock_and_recover
from ..releases.archive import NAME, name_archive
from ..releases.garbage import Keep, free_space
from ..releases.runtimes import unpack_runtime
from ..releases.signature import BUNDLE, Outcome, check_signature
from ..releases.store import Store, StoreError, explain_os_error, write_small
from .bundle import Bundle, Offer, damaged
from .pending_reports import InstallReport, ReleaseOutcome, add_report

_KEEP = Keep(releases=1000)  # what to keep is the controller's policy: here a release is dropped only for lack of space
_REFUSALS = ("LF606", "LF607", "LF608", "LF609", "LF610")
_MAX_SIGNERS = 64 << 10  # bytes


def main(file: str, root: str, signers: str, as_json: bool) -> int:
    """Install the bundle `file` and report it; return 0 when every release is verified and active, 1 otherwise.

    `signers` names a file of allowed signers that the operator gives, "" for none.
    """
    os.umask(0o077)
    try:
        trusted = _read_signers(signers) if signers else ""
        report = install(Store(root), file, gather(root), trusted)
    except (AgentError, OSError) as error:
        return _failed(error, file, as_json)
    for outcome in report.outcomes:
        _print_outcome(outcome)
    if as_json:
        print(json.dumps(report.to_dict(), sort_keys=True))
    return 0 if all(outcome.activated for outcome in report.outcomes) else 1


def _read_signers(path: str) -> str:
    return trust.check_signers(read_regular(path, _MAX_SIGNERS + 1).decode("utf-8", "replace"))


def _failed(error: Exception, file: str, as_json: bool) -> int:
    if isinstance(error, OSError):
        error = explain_os_error(error, error.filename or file)
    found = _as_finding(error)
    sys.stderr.write("litefleet-agent: %s %s: %s\n  %s\n  %s\n" % _words(found))
    if as_json:
        failure = {"kind": "install", "bundle": file, "outcomes": [], "error": found.to_dict()}
        print(json.dumps(failure, sort_keys=True))
    return 1


def _words(found: Finding) -> Tuple[str, str, str, str, str]:
    return found.code, found.entry.slug, found.observed, found.entry.why, found.do


def _as_finding(error: Exception) -> Finding:
    return finding_of_error(getattr(error, "code", ""), str(error))


def _print_outcome(outcome: ReleaseOutcome) -> None:
    state = "is active" if outcome.activated else "was not activated"
    line = "%s: %s, release %s %s\n" % (outcome.model, outcome.verdict, outcome.release[:12], state)
    sys.stderr.write(line)
    for found in outcome.findings:
        sys.stderr.write("  %s %s: %s\n    %s\n    %s\n" % _words(found))


# --- installing


def install(store: Store, path: str, facts: Facts, trusted_text: str = "") -> InstallReport:
    """Install the bundle file at `path` and return the report that was stored for the controller.

    `trusted_text` is a list of allowed signers that the operator gives.  Raises StoreError, with nothing changed, when the bundle
    cannot be read, is damaged, not signed by a trusted signer, or holds nothing for this device.
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
    return add_report(store, InstallReport(int(store.clock.wall()), os.path.basename(path), outcomes))


def _check_signers(store: Store, bundle: Bundle, trusted_text: str) -> None:
    """Check the index's signature where this device, or the operator, names trusted signers."""
    trusted = trust.signers(store)
    if trusted and trusted_text and trusted_text != trusted:
        message = "this device trusts other signers already; a new list comes from the controller (`litefleet trust`)"
        raise StoreError(message, "bad-signature")
    if trusted or trusted_text:
        _check_index(store, bundle, trusted or trusted_text)
    fleet = trust.describe(store).fleet
    if fleet and fleet != bundle.fleet:
        message = "this device belongs to the fleet %s; the bundle is for %s" % (fleet, bundle.fleet)
        raise StoreError(message, "foreign")


def _check_index(store: Store, bundle: Bundle, trusted: str) -> None:
    if not bundle.signature:
        raise StoreError("this device trusts certain signers; the bundle is not signed", "unsigned")
    checked = check_signature(bundle.index_bytes, bundle.signature, BUNDLE, trusted, store.path("work"))
    if checked.outcome is not Outcome.GOOD:  # no controller has checked it instead
        raise StoreError("the bundle's signature is rejected: %s" % checked.why, "bad-signature")


def _store_agent(store: Store, sha: str, data: bytes) -> None:
    """Store the bundle's agent, which runs when the device starts; an existing link to another agent stays."""
    path = store.path("agent", sha + ".pyz")
    if not os.path.exists(path):
        write_small(store, ("agent", sha + ".pyz"), data)
    if not os.path.lexists(store.path("agent", NAME)):
        name_archive(store.root, path)


def _missing_blobs(store: Store, bundle: Bundle, offers: Iterable[Offer]) -> List[str]:
    """Return the hashes of the blobs that the offers need and the device lacks."""
    wanted: Dict[str, None] = {}
    for offer in offers:
        wanted.update(dict.fromkeys(sha for sha in offer.blobs if not store.check_blob(sha)))
        if offer.runtime != "system" and offer.runtime not in store.runtimes():
            if offer.runtime not in bundle.runtimes:
                raise damaged("its index does not name the runtime %s" % offer.runtime[:12])
            wanted[bundle.runtimes[offer.runtime][0]] = None
    return list(wanted)


def _install_one(store: Store, bundle: Bundle, offer: Offer, facts: Facts) -> ReleaseOutcome:
    """Store, verify and activate one release; an error is its outcome and does not affect the others."""
    from ..verification.release import verify_and_record

    outcome = ReleaseOutcome(offer.model, offer.identity, offer.manifest.nb, "failed", [], {})
    try:
        trust.examine(store, offer.identity, offer.model, offer.signed, store.clock.wall())
        _store(store, bundle, offer)
        notes = trust.receive(store, offer.manifest.document, offer.signed, store.clock.wall())[1]
        result = verify_and_record(store, offer.identity, facts)
        outcome = outcome._replace(
            verdict=result.verdict.value, findings=notes + result.findings, measurements=result.measurements
        )
        if result.verified:
            activate(store, offer.identity)
            outcome = outcome._replace(activated=True)
    except (StoreError, OSError) as error:
        known = explain_os_error(error, "the release cannot be stored") if isinstance(error, OSError) else error
        found = _as_finding(known)
        verdict = "refused" if found.code in _REFUSALS else "failed"
        outcome = outcome._replace(verdict=verdict, findings=outcome.findings + [found])
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
        unpack_runtime(store, offer.runtime, packed)


# --- choosing


def _choose(offers: List[Offer], facts: Facts) -> List[Offer]:
    """Return for each model the release whose kind fits this device best."""
    fitting: Dict[str, Tuple[_Rank, Offer]] = {}
    for offer in offers:
        rank = _rank(offer.kind, facts)
        if rank is not None and (offer.model not in fitting or rank > fitting[offer.model][0]):
            fitting[offer.model] = (rank, offer)
    if not fitting:
        kinds = ", ".join(sorted({offer.kind for offer in offers})[:10])
        message = "the bundle holds nothing for this device (%s %s %s %s), only for: %s"
        libc = facts.libc
        raise StoreError(
            message % (facts.arch or facts.machine, facts.python.tag, libc.kind, libc.version, kinds), "none"
        )
    return [offer for _, offer in sorted(fitting.values(), key=lambda pair: pair[1].model)]


class _Rank(NamedTuple):
    """How well a release's kind fits the device; the greatest fits best."""

    same_libc: bool
    runs: bool  # its libc is not newer than the device's
    closeness: Tuple[int, ...]  # the newest libc that runs, else the oldest one


def _rank(kind: str, facts: Facts) -> Optional[_Rank]:
    """Return how well a kind fits; None for another architecture or Python."""
    arch, tag, libc, version = (kind.split() + [""] * 4)[:4]
    if arch != facts.arch or tag != facts.python.tag:
        return None
    own, required = _numbers(facts.libc.version), _numbers(version)
    runs = required <= own
    return _Rank(libc == facts.libc.kind, runs, required if runs else tuple(-n for n in required))


def _numbers(version: str) -> Tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d{1,6}", version)[:4])
