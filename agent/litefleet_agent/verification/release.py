"""Verifies releases on this device: every static check first, then the model in a child process against its goldens."""

import json
import os
import shutil
import sys
import time
from typing import Callable, Dict, List, NamedTuple, Optional, Tuple

from ..errors import AgentError
from ..facts import Facts, fingerprint, gather
from ..findings import Finding, Severity, Verdict, decide, finding
from ..findings.environment import static_findings
from ..releases.activation import lock_and_recover
from ..releases.caches import drop_cache, prepare_cache
from ..releases.intact import stamps_of
from ..releases.integrity import check_files
from ..releases.store import Manifest, Store, StoreError
from .confinement import ConfinementReport
from .engine import asked_of_engine, recorded_engine
from .verify import VerifyResult, VerifySpec, verify

BUSY = 75  # exit code (EX_TEMPFAIL): another session held the store for longer than the timeout
_TIMEOUT_S = 30.0


class ReleaseVerification(NamedTuple):
    """Result of verifying a release."""

    verdict: Verdict
    findings: List[Finding]
    measurements: Dict[str, object]  # as Measurements.to_dict gives them; {} when the model did not run
    detail: str = ""  # the last lines of the model's process
    ran: bool = False  # the model ran
    sandbox: Optional[ConfinementReport] = None  # how the model's process was confined; None when that is unknown

    @property
    def verified(self) -> bool:
        """Whether the release may be activated."""
        return self.verdict is Verdict.VERIFIED and self.ran

    def to_dict(self) -> Dict[str, object]:
        """Return the JSON form for people and programs: {verdict, verified, findings, measurements, detail}."""
        return dict(self.to_wire(), findings=[f.to_dict() for f in self.findings])

    def to_wire(self) -> Dict[str, object]:
        """Return the JSON form that a controller receives: the same, with its findings in their wire form.

        `sandbox` is there when the model's process reported how it is confined.
        """
        answer: Dict[str, object] = {
            "verdict": self.verdict.value,
            "verified": self.verified,
            "findings": [f.to_wire() for f in self.findings],
            "measurements": self.measurements,
            "detail": self.detail,
        }
        return answer if self.sandbox is None else dict(answer, sandbox=self.sandbox.to_dict())


Verifier = Callable[[Store, str, Facts, Callable[[], None]], ReleaseVerification]


def verify_release(store: Store, identity: str, facts: Facts, on_tick: Callable[[], None]) -> ReleaseVerification:
    """Verify the release `identity`; the model is loaded only when all static checks pass.

    `on_tick` is called about once a second while the model runs; an exception that it raises ends the child and is raised here.
    Raises StoreError when the release is not here.
    """
    manifest = store.release(identity)
    runtime = "" if manifest.runtime == "system" else store.path("runtimes", manifest.runtime)
    engine = asked_of_engine(manifest)
    findings = static_findings(store.blob(manifest.nb), facts, runtime, manifest.nb, engine)
    if any(f.severity is Severity.ERROR for f in findings):
        return ReleaseVerification(decide(findings), findings, {})
    work = store.path("work", identity[:16])
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(work, mode=0o700)
    try:
        cache = prepare_cache(store, identity) if engine.cached else ""
        wanted = _engine_of_current(store, manifest.model, identity)
        result = verify(_spec(store, manifest, runtime, facts, cache, wanted), work, on_tick=on_tick)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return _answer(findings + list(result.findings), result)


def _answer(findings: List[Finding], result: VerifyResult) -> ReleaseVerification:
    measurements = result.measurements.to_dict() if result.measurements is not None else {}
    return ReleaseVerification(decide(findings), findings, measurements, result.detail, True, result.sandbox)


def _engine_of_current(store: Store, model: str, identity: str) -> str:
    """Return the engine of a current release's proof, with which it is served; "" for any other: a new proof chooses it."""
    record = store.verified(identity) if store.link(model, "current") == identity else None
    return recorded_engine(record.measurements) if record is not None else ""


def _spec(store: Store, manifest: Manifest, runtime: str, facts: Facts, cache: str, wanted: str) -> VerifySpec:
    settings = dict(manifest.verify, cache=cache, engine=manifest.engine, wanted=wanted)
    settings["nb"] = store.blob(manifest.nb)
    settings["golden"] = [store.blob(sha) for sha in manifest.goldens]
    settings["runtime"] = runtime
    settings["outputs"] = manifest.outputs
    settings["device_memory_bytes"] = facts.memory.total
    return VerifySpec.from_dict(settings)


def verify_and_record(
    store: Store, identity: str, facts: Facts, on_tick: Callable[[], None] = lambda: None
) -> ReleaseVerification:
    """Verify a release and record the result: a release that fails loses its record.  Raises StoreError."""
    stamps = stamps_of(store, identity)  # before the files are read: a change meanwhile must not go unnoticed
    result = verify_release(store, identity, facts, on_tick)
    if result.verified:
        store.record_verification(identity, fingerprint(facts), result.measurements, files=stamps)
    else:
        store.clear_verified(identity)
        drop_cache(store, identity)  # it may be what is wrong
    return result


def verify_current(
    store: Store, facts: Facts, timeout_s: float = _TIMEOUT_S, verifier: Verifier = verify_release
) -> Dict[str, Tuple[str, ReleaseVerification]]:
    """Verify every current release; return {model: (release id, result)}.

    Every byte of a release's files is read first.  The store is locked for one verification at a time.  A release that passes
    is recorded, one that computes wrongly loses its record; one that is only too slow keeps it, because the processes beside
    this one slow it down.
    Raises StoreError "busy" when another session holds the store for `timeout_s` seconds, "not-writable".
    """
    results = {}
    for model, identity in sorted(store.current().items()):
        lock_and_recover(store, timeout_s)
        try:
            if store.link(model, "current") == identity:  # else it was switched while this waited for the lock
                results[model] = (identity, _verify_one(store, identity, facts, verifier))
        finally:
            store.unlock()
    return results


def _verify_one(store: Store, identity: str, facts: Facts, verifier: Verifier) -> ReleaseVerification:
    stamps = stamps_of(store, identity)
    try:
        changed = check_files(store, identity)
        result = _failed(changed) if changed else verifier(store, identity, facts, lambda: None)
    except StoreError as error:
        result = _failed([finding("LF601", "The manifest of %s is unusable: %s." % (identity[:12], error))])
    except OSError as error:
        observed = "A file of %s cannot be read: %s." % (identity[:12], error.strerror or error)
        result = _failed([finding("LF602", observed)])
    if result.verified:
        now = fingerprint(facts)
        store.record_verification(identity, now, result.measurements, keep_measurements=True, files=stamps)
    elif result.verdict is not Verdict.SLOW:
        store.clear_verified(identity)
    return result


def _failed(found: List[Finding]) -> ReleaseVerification:
    return ReleaseVerification(Verdict.FAILED, found, {})


# --- the command


def main(root: str, as_json: bool) -> int:
    """Verify the current releases under `root`, print the results and return the exit code.

    0 all verified, 1 findings, 75 another session holds the store.
    """
    os.umask(0o077)
    began = time.monotonic()
    try:
        results = verify_current(Store(root), gather(root)) if os.path.isdir(root) else {}
    except (AgentError, OSError) as error:
        sys.stderr.write("litefleet-agent: the releases under %s could not all be verified: %s\n" % (root, error))
        return BUSY if isinstance(error, StoreError) and error.code == "busy" else 1
    if as_json:
        models = {model: dict(result.to_dict(), release=identity) for model, (identity, result) in results.items()}
        answer = {"schema": 1, "models": models, "took_s": round(time.monotonic() - began, 3)}
        print(json.dumps(answer, sort_keys=True))
    else:
        print("\n".join(_lines(results)) or "no release is active under %s: nothing to verify" % root)
    return 1 if any(_is_wrong(result) for _, result in results.values()) else 0


def _is_wrong(result: ReleaseVerification) -> bool:
    return not result.verified and result.verdict is not Verdict.SLOW


def _lines(results: Dict[str, Tuple[str, ReleaseVerification]]) -> List[str]:
    lines = []
    for model, (identity, result) in results.items():
        lines.append("%s %s: %s" % (model, identity[:12], result.verdict.value))
        for found in result.findings:
            if found.severity is not Severity.NOTE or not result.verified:
                lines.append("  %s %s %s" % (found.code, found.observed, found.do))
    return lines
