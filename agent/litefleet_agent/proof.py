"""Proves one release on this device: every static check first, then the model itself in a child, against its goldens."""

import os
import shutil
from typing import Any, Callable, Dict, List, Optional

from .facts import Facts
from .findings import Finding, Severity, Verdict, decide
from .preflight import static_findings
from .store import Store
from .verify import VerifyResult, VerifySpec, verify

__all__ = ["prove"]


def prove(store: Store, identity: str, facts: Facts, on_tick: Callable[[], None]) -> Dict[str, Any]:
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
