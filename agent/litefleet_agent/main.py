"""The agent's own command line, for an operator who is logged in on the device: facts and inspect, as JSON."""

import json
import sys
from typing import List, Optional

from .errors import AgentError
from .facts import gather
from .nb import read_nb
from .store import default_root

__all__ = ["main"]

_USAGE = "usage: litefleet-agent facts | inspect FILE\n"


def main(argv: Optional[List[str]] = None) -> int:
    """Run one command and return its exit code: 0 done, 1 failed, 2 usage."""
    args = sys.argv[1:] if argv is None else argv
    if args == ["facts"]:
        print(json.dumps(gather(default_root()).to_dict(), indent=2, sort_keys=True))
        return 0
    if len(args) == 2 and args[0] == "inspect":
        return _inspect(args[1])
    sys.stderr.write(_USAGE)
    return 2


def _inspect(path: str) -> int:
    try:
        with open(path, "rb") as file:
            model = read_nb(file.read())
    except (AgentError, OSError) as error:
        sys.stderr.write("litefleet-agent: %s: %s\n" % (path, error))
        return 1
    print(json.dumps({"kernels": model.kernels_by_target(), "sha256": model.sha256, "complete": model.complete}))
    return 0
