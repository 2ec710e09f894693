"""`litefleet-agent verify`: proves the current releases again on this device, and keeps in mind what came out of it."""

import json
import os
import sys
import time
from typing import Any, Callable, Dict, List, Optional

from .check import check_files
from .errors import AgentError
from .facts import Facts, fingerprint, gather
from .findings import Finding, Severity, Verdict, finding
from .proof import prove
from .store import Store, StoreError, default_root
from .switch import take

__all__ = ["BUSY", "main", "reverify"]

BUSY = 75  # exit code (EX_TEMPFAIL): a controller was at work for as long as one was ready to wait
_PATIENCE_S = 30.0
_USAGE = "usage: litefleet-agent verify [--root ROOT] [--json]\n"


def reverify(
    store: Store, facts: Facts, patience_s: float = _PATIENCE_S, prover: Callable[..., Dict[str, Any]] = prove
) -> Dict[str, Dict[str, Any]]:
    """Prove every current release and return {model: {release, verdict, verified, findings, measurements, detail}}.

    Every byte of a release's files is read first.

    The store is held for one proof at a time.  A release that is proven is recorded as such, one that computes wrongly is
    not any more; one that is only too slow keeps the record that it has: what runs beside it counts here.
    Raises StoreError "busy" when another session holds the store for `patience_s` seconds, "not-writable".
    """
    told = {}
    for model, identity in sorted(store.current().items()):
        take(store, patience_s)
        try:
            if store.link(model, "current") == identity:  # else it was switched while one waited
                told[model] = dict(_prove(store, identity, facts, prover), release=identity)
        finally:
            store.unlock()
    return told


def _prove(store: Store, identity: str, facts: Facts, prover: Callable[..., Dict[str, Any]]) -> Dict[str, Any]:
    try:
        changed = check_files(store, identity)
        answer = _unusable(changed) if changed else prover(store, identity, facts, lambda: None)
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
        told = reverify(Store(root), gather(root)) if os.path.isdir(root) else {}
    except (AgentError, OSError) as error:
        sys.stderr.write("litefleet-agent: nothing more could be proven under %s: %s\n" % (root, error))
        return BUSY if isinstance(error, StoreError) and error.code == "busy" else 1
    if as_json:
        print(json.dumps({"schema": 1, "models": told, "took_s": round(time.monotonic() - began, 3)}, sort_keys=True))
    else:
        print("\n".join(_lines(told)) or "no model is switched on under %s: nothing to prove" % root)
    return 1 if any(_is_wrong(answer) for answer in told.values()) else 0


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


def _lines(told: Dict[str, Dict[str, Any]]) -> List[str]:
    lines = []
    for model, answer in told.items():
        lines.append("%s %s: %s" % (model, answer["release"][:12], answer["verdict"]))
        for found in answer["findings"]:
            if found.get("severity") != Severity.NOTE.value or not answer["verified"]:
                lines.append("  %s %s %s" % (found["code"], found["seen"], found.get("do", "")))
    return lines
