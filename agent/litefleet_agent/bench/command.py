"""`litefleet-agent bench`: measures a release for whoever is logged in on the device."""

import json
import os
import sys
from typing import Any, Dict, List, Optional

from ..errors import AgentError
from ..facts import gather
from ..releases.activation import lock_and_recover
from ..releases.store import Store, StoreError, default_root
from .report_text import lines
from .run import bench

__all__ = ["USAGE", "main"]

USAGE = (
    "     | bench MODEL [--release ID] [--against ID|previous] [--runs N] [--seconds S] [--threads 1,2] [--workers 1,2]\n"
    "             [--low-priority] [--root ROOT] [--json]\n"
)
_BUSY = 75  # exit code (EX_TEMPFAIL), as of `verify`
_INTERRUPTED = 130
_TIMEOUT_S = 30.0
_WORDS = {"--release": str, "--against": str, "--runs": int, "--seconds": float, "--root": str}
_LISTS = ("--threads", "--workers")
_FLAGS = ("--low-priority", "--json")


def main(args: List[str]) -> int:
    """Run `bench` and return its exit code: 0 measured, 1 a finding decides or it failed, 2 usage, 75 busy, 130 Ctrl-C."""
    given = _parse(args)
    if given is None:
        sys.stderr.write("usage: litefleet-agent " + USAGE.lstrip(" |"))
        return 2
    os.umask(0o077)
    root, as_json = given.pop("root", default_root()), given.pop("json", False)
    if not os.path.isdir(root):
        sys.stderr.write("litefleet-agent: there is no folder %s; name the agent's with --root\n" % root)
        return 1
    store = Store(root)
    try:
        lock_and_recover(store, _TIMEOUT_S)
        answer = bench(store, gather(root), given, lambda: None)
    except (AgentError, OSError) as error:
        sys.stderr.write("litefleet-agent: %s\n" % error)
        return _exit_of(error)
    except KeyboardInterrupt:
        sys.stderr.write("litefleet-agent: interrupted\n")
        return _INTERRUPTED
    finally:
        store.unlock()
    print(json.dumps(dict(answer.to_dict(), schema=1), sort_keys=True) if as_json else "\n".join(lines(answer)))
    return 0 if answer.verdict == "verified" else 1


def _exit_of(error: Exception) -> int:
    if isinstance(error, StoreError) and error.code == "busy":
        return _BUSY
    return 2 if isinstance(error, AgentError) and error.code == "bad-request" else 1


def _parse(args: List[str]) -> Optional[Dict[str, Any]]:
    """Return the request, with `root` and `json`; None when the words are not of the usage's form."""
    found: Dict[str, Any] = {}
    rest = list(args)
    while rest:
        word = rest.pop(0)
        name = word.lstrip("-").replace("-", "_")
        try:
            if word in _FLAGS:
                found[name] = True
            elif word in _WORDS:
                found[name] = _WORDS[word](rest.pop(0))
            elif word in _LISTS:
                found[name] = [int(number) for number in rest.pop(0).split(",")]
            elif word.startswith("-") or "model" in found:
                return None
            else:
                found["model"] = word
        except (IndexError, ValueError):
            return None
    return found if "model" in found else None
