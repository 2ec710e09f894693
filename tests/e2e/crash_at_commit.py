"""`litefleet`, but dead at one commit: `python killed.py STATE EVENT before|after WORDS...` kills itself with SIGKILL there.

"wave advance" is the commit that takes a rollout to its next wave, which moves nothing else.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from litefleet_controller.cli import main
from litefleet_controller.state import State

_Method = Callable[..., Any]


def _mortal(
    method: _Method, moves: Callable[..., set[tuple[str, str]]], moment: tuple[str, str], after: bool
) -> _Method:
    def call(self: State, *args: Any, **more: Any) -> Any:
        hit = moment in moves(*args, **more)
        if hit and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = method(self, *args, **more)
        if hit:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return call


def _moves(lock: Any, rollout_id: str, changes: Any) -> set[tuple[str, str]]:
    return {(str(c.before.state), str(c.event)) for c in changes}


def _advances(lock: Any, before: Any, event: Any, after: Any, changes: Any = (), *rest: Any) -> set[tuple[str, str]]:
    own = (str(before.state), str(event)) if event is not None else ("wave", "advance")
    return {own} | _moves(lock, before.id, changes)


if __name__ == "__main__":
    where, late = (sys.argv[1], sys.argv[2]), sys.argv[3] == "after"
    State.move = _mortal(State.move, _moves, where, late)  # type: ignore[method-assign]
    State.advance = _mortal(State.advance, _advances, where, late)  # type: ignore[method-assign]
    del sys.argv[1:4]
    main()
