"""Proves one release on this device: every static check first, then the model itself in a child, against its goldens."""

import json
import os
import shutil
import sys
import time
from typing import Any, Callable, Dict, List, Optional

from ..errors import AgentError
from ..facts import Facts, fingerprint, gather
from ..findings import Finding, Severity, Verdict, decide, finding
from ..findings.environment import static_findings
from ..releases.activation import lock_and_recover
from ..releases.integrity import check_files
from ..releases.store import Store, StoreError, default_root
from .verify import VerifyResult, VerifySpec, verify

__all__ = ["BUSY", "main", "verify_current", "verify_release"]


def verify_release(store: Store, identity: str, facts: Facts, on_tick: Callable[[], None]) -> Dict[str, Any]:
    """Return {verdict, findings, measurements, detail} of the release `identity`.

    Nothing is loaded unless all static checks pass.  `on_tick` is called about once a second while the model runs; what it
    raises ends the child and goes on.  Raises StoreError when the release is not here.
    """
    manifest = store.release(identity)
    runtime = "" if manifest["runtime"] == "system" else store.path("runtimes", manifest["runtime"])
    findings = static_findings(store.blob(manifest["model"]["nb"]), facts, runtime, manifest["model"]["nb"])
    if any(f.severity is Severity.ERROR for f in findings):
        return _answer(findings, None)
    work = store.path("work", identity[:16])
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(work, mode=0o700)
    try:
        result = verify(_spec(store, manifest, runtime), work, on_tick=on_tick)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return _answer(findings + list(result.findings), result)


def _spec(store: Store, manifest: Dict[str, Any], runtime: str) -> VerifySpec:
    settings = dict(manifest["verify"])
    settings["nb"] = store.blob(manifest["model"]["nb"])
    settings["golden"] = [store.blob(sha) for sha in manifest["golden"]]
    settings["runtime"] = runtime
    return VerifySpec.from_dict(settings)


def _answer(findings: List[Finding], result: Optional[VerifyResult]) -> Dict[str, Any]:
    verdict = decide(findings)
    return {
        "verdict": verdict.value,
        "verified": verdict is Verdict.VERIFIED and result is not None,
        "findings": [f.to_dict() for f in findings],
        "measurements": result.measurements if result else {},
        "detail": result.detail if result else "",
    }


BUSY = 75  # exit code (EX_TEMPFAIL): a controller was at work for as long as one was ready to wait
_TIMEOUT_S = 30.0
_USAGE = "usage: litefleet-agent verify [--root ROOT] [--json]\n"


def verify_current(
    store: Store, facts: Facts, timeout_s: float = _TIMEOUT_S, verifier: Callable[..., Dict[str, Any]] = verify_release
) -> Dict[str, Dict[str, Any]]:
    """Prove every current release and return {model: {release, verdict, verified, findings, measurements, detail}}.

    Every byte of a release's files is read first.

    The store is held for one proof at a time.  A release that is proven is recorded as such, one that computes wrongly is
    not any more; one that is only too slow keeps the record that it has: what runs beside it counts here.
    Raises StoreError "busy" when another session holds the store for `patience_s` seconds, "not-writable".
    """
    results = {}
    for model, identity in sorted(store.current().items()):
        lock_and_recover(store, timeout_s)
        try:
            if store.link(model, "current") == identity:  # else it was switched while one waited
                results[model] = dict(_verify_one(store, identity, facts, verifier), release=identity)
        finally:
            store.unlock()
    return results


def _verify_one(store: Store, identity: str, facts: Facts, verifier: Callable[..., Dict[str, Any]]) -> Dict[str, Any]:
    try:
        changed = check_files(store, identity)
        answer = _unusable(changed) if changed else verifier(store, identity, facts, lambda: None)
    except (StoreError, KeyError, TypeError, ValueError) as error:
        why = error if isinstance(error, StoreError) else "it lacks or mistakes %s" % error
        answer = _unusable([finding("LF601", "The manifest of %s can't be used: %s." % (identity[:12], why))])
    except OSError as error:
        seen = "A file of %s can't be read: %s." % (identity[:12], error.strerror or error)
        answer = _unusable([finding("LF602", seen)])
    if answer["verified"]:
        store.set_verified(identity, _record(store, identity, facts, answer))
    elif answer["verdict"] != Verdict.SLOW.value:
        store.clear_verified(identity)
    return answer


def _unusable(found: List[Finding]) -> Dict[str, Any]:
    return {
        "verdict": Verdict.FAILED.value,
        "verified": False,
        "findings": [one.to_dict() for one in found],
        "measurements": {},
        "detail": "",
    }


def _record(store: Store, identity: str, facts: Facts, answer: Dict[str, Any]) -> Dict[str, Any]:
    """Return the record of this proof; in the same environment, what was measured with the whole CPU stays."""
    now = fingerprint(facts)
    before = store.verified(identity) or {}
    same = before.get("fingerprint") == now and before.get("measurements")
    return {
        "fingerprint": now,
        "at": int(store.clock.wall()),
        "measurements": before["measurements"] if same else answer["measurements"],
    }


# --- the command


def main(args: List[str]) -> int:
    """Run `verify` and return its exit code: 0 all is as it should be, 1 findings, 2 usage, 75 a controller is at work."""
    chosen = _parse(args)
    if chosen is None:
        sys.stderr.write(_USAGE)
        return 2
    os.umask(0o077)
    root, as_json = chosen
    began = time.monotonic()
    try:
        results = verify_current(Store(root), gather(root)) if os.path.isdir(root) else {}
    except (AgentError, OSError) as error:
        sys.stderr.write("litefleet-agent: nothing more could be proven under %s: %s\n" % (root, error))
        return BUSY if isinstance(error, StoreError) and error.code == "busy" else 1
    if as_json:
        print(
            json.dumps({"schema": 1, "models": results, "took_s": round(time.monotonic() - began, 3)}, sort_keys=True)
        )
    else:
        print("\n".join(_lines(results)) or "no model is switched on under %s: nothing to prove" % root)
    return 1 if any(_is_wrong(answer) for answer in results.values()) else 0


def _is_wrong(answer: Dict[str, Any]) -> bool:
    return not answer["verified"] and answer["verdict"] != Verdict.SLOW.value


def _parse(args: List[str]) -> Optional[Any]:
    root, as_json, rest = "", False, list(args)
    while rest:
        word = rest.pop(0)
        if word == "--json":
            as_json = True
        elif word == "--root" and rest:
            root = rest.pop(0)
        else:
            return None
    return root or default_root(), as_json


def _lines(results: Dict[str, Dict[str, Any]]) -> List[str]:
    lines = []
    for model, answer in results.items():
        lines.append("%s %s: %s" % (model, answer["release"][:12], answer["verdict"]))
        for found in answer["findings"]:
            if found.get("severity") != Severity.NOTE.value or not answer["verified"]:
                lines.append("  %s %s %s" % (found["code"], found["seen"], found.get("do", "")))
    return lines
