"""`litefleet-agent check`: whether this device is still what its current releases were proven on."""

import json
import os
import sys
from typing import List, Optional, Tuple

from ..findings import Finding, ranked
from ..releases.store import Store, default_root
from .drift import check_drift, facts_anew

__all__ = ["USAGE", "main"]

USAGE = "     | check [--root ROOT] [--deep] [--json]\n"


def main(args: List[str]) -> int:
    """Run `check` with these arguments; return 0 when all is as it was proven, 1 otherwise, 2 for wrong usage."""
    given = _parse(args)
    if given is None:
        sys.stderr.write("usage: litefleet-agent " + USAGE.lstrip(" |"))
        return 2
    root, deep, as_json = given
    if not os.path.isdir(root):
        sys.stderr.write("litefleet-agent: there is no folder %s; name the agent's with --root\n" % root)
        return 1
    store = Store(root)
    facts = facts_anew(root)
    found = ranked(check_drift(store, facts, deep, facts))
    models = store.current()
    if as_json:
        print(json.dumps({"models": models, "findings": [f.to_dict() for f in found]}, sort_keys=True))
    else:
        print("\n".join(_lines(len(models), found)))
    return 1 if found else 0


def _lines(models: int, found: List[Finding]) -> List[str]:
    if not models and not found:
        return ["No model is current here."]
    if not found:
        return ["%d models; all is as it was proven." % models if models != 1 else "1 model; all is as it was proven."]
    return ["%s %s: %s\n  %s" % (f.code, f.entry.slug, f.observed, f.entry.do) for f in found]


def _parse(args: List[str]) -> Optional[Tuple[str, bool, bool]]:
    root, rest = default_root(), list(args)
    if "--root" in rest:
        at = rest.index("--root")
        if at + 1 >= len(rest):
            return None
        root = rest[at + 1]
        del rest[at : at + 2]
    if not set(rest) <= {"--deep", "--json"}:
        return None
    return root, "--deep" in rest, "--json" in rest
