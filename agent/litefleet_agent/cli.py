"""The agent's own command line, for an operator who is logged in on the device: facts, inspect and recover, as JSON."""

import json
import os
import sys
from typing import Any, Dict, List, Optional

from .calling import COMMANDS, USAGE
from .calling import main as call
from .errors import AgentError
from .facts import gather
from .formats.nb import read_nb
from .releases.activation import lock_and_recover, recover
from .releases.store import Store, StoreError, default_root

__all__ = ["main"]

_USAGE = (
    "usage: litefleet-agent facts | inspect FILE | recover [--root ROOT]\n"
    "     | install FILE [--root ROOT] [--trust ALLOWED_SIGNERS] [--json]\n"
    "     | serve [--root ROOT]\n"
    "     | verify [--root ROOT] [--json]\n"
    "     | check [--root ROOT] [--deep] [--json]\n"
    "     | bench MODEL [--seconds S] ...\n"
)


def main(argv: Optional[List[str]] = None) -> int:
    """Run one command and return its exit code: 0 done, 1 failed, 2 usage."""
    args = sys.argv[1:] if argv is None else argv
    if args == ["facts"]:
        print(json.dumps(gather(default_root()).to_dict(), indent=2, sort_keys=True))
        return 0
    if len(args) == 2 and args[0] == "inspect":
        return _inspect(args[1])
    if args == ["recover"] or (len(args) == 3 and args[:2] == ["recover", "--root"]):
        return _recover(args[2] if len(args) == 3 else default_root())
    if args[:1] == ["install"]:
        from .install.install import main as install

        return install(args[1:])
    if args[:1] == ["verify"]:
        from .verification.release import main as verify

        return verify(args[1:])
    if args == ["serve"] or (len(args) == 3 and args[:2] == ["serve", "--root"]):
        from .releases.archive import version
        from .service.daemon import serve

        return serve(args[2] if len(args) == 3 else default_root(), version())
    if args[:1] == ["check"]:
        from .service.check_command import main as check

        return check(args[1:])
    if args[:1] == ["bench"]:
        from .bench.command import main as bench

        return bench(args[1:])
    if args[:1] and args[0] in COMMANDS:
        return call(args)
    sys.stderr.write(_USAGE + USAGE)
    return 2


def _recover(root: str) -> int:
    """Undo what nobody confirmed before the device restarted, and print it; a session that is at work has done that."""
    store = Store(root)
    answer: Dict[str, Any] = {"undone": [], "busy": False}
    try:
        if os.path.isdir(root):
            answer["undone"] = [operation.to_dict() for operation in lock_and_recover(store) + recover(store)]
    except StoreError as error:
        if error.code != "busy":
            sys.stderr.write("litefleet-agent: %s\n" % error)
            return 1
        answer["busy"] = True
    print(json.dumps(answer, sort_keys=True))
    return 0


def _inspect(path: str) -> int:
    try:
        with open(path, "rb") as file:
            model = read_nb(file.read())
    except (AgentError, OSError) as error:
        sys.stderr.write("litefleet-agent: %s: %s\n" % (path, error))
        return 1
    print(json.dumps({"kernels": model.kernels_by_target(), "sha256": model.sha256, "complete": model.complete}))
    return 0
