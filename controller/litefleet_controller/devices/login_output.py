"""What a device says between the login and the agent's first line, and what it means when no agent starts."""

from __future__ import annotations

import re
from itertools import groupby

from litefleet_agent.findings import Finding, finding
from litefleet_agent.protocol import ProtocolError

from ..common.text import sanitize
from . import bootstrap

_SILENCE_S = 15.0  # after a login has said something, until sh must have started
_REPEATS = 8  # equal lines in succession: a program answers each line of litefleet's input
_KEPT = 4096  # bytes of the output
_QUOTED = 300  # characters of it in a sentence
_NO_MODULE = re.compile(r"No module named '?([A-Za-z_][\w.]{0,80})")
_NO_FORK = re.compile(r"[Cc]an(?:'t|not) fork|fork: .*Resource temporarily unavailable")  # dash and BusyBox; bash
_SIGNALLED = 128  # a shell's exit code for a program that a signal ended begins here


class LoginOutput:
    """The output of one login, line by line, up to the bootstrap's answer."""

    def __init__(self, nonce: str) -> None:
        self._nonce = nonce
        self._said = bytearray()
        self._passed = 0  # bytes before the answer
        self.shell_runs = False  # sh has said so
        self.answered = False  # the loader has said something

    def take(self, line: bytes) -> bootstrap.Answer | None:
        """Return the answer in a line, None for anything else; ProtocolError when that is too much."""
        words, mark, _ = line.partition(f"LFBOOT {self._nonce} ".encode())  # behind words that have no line end
        answer = bootstrap.parse_answer(line[len(words) :], self._nonce) if mark else None
        if answer is not None:
            self._said += words[: _KEPT - len(self._said)]
        if answer is not None and answer.state == "sh":
            self.shell_runs = True
            return None
        if answer is not None:
            self.answered = True
            return answer
        self._passed += len(line) + 1
        self._said += (line + b"\n")[: _KEPT - len(self._said)]
        if self._passed > bootstrap.LINE_LIMIT:
            raise ProtocolError(f"more than {bootstrap.LINE_LIMIT} bytes came before the agent's answer{self.quoted()}")
        if not self.shell_runs and (self._repeats() or b": " + self._nonce.encode() in line):  # it answers, or echoes
            raise ProtocolError(f"another program than a shell reads what litefleet sends{self.quoted()}")
        return None

    def wait_s(self, partial: bytes) -> float | None:
        """Return how long to wait for more, in seconds, None for no limit of its own; `partial` is a line without its end."""
        if self._passed + len(partial) > bootstrap.LINE_LIMIT:
            raise ProtocolError(f"the device answers {partial[:60]!r} instead of starting the agent")
        if self.shell_runs or self.answered or self._is_sh(partial):
            return None
        return _SILENCE_S if self._said or partial else None

    def _is_sh(self, partial: bytes) -> bool:
        """Return whether a line without its end is the beginning of what sh says: then the connection holds up the rest."""
        mark = f"LFBOOT {self._nonce} ".encode()
        return mark in partial or mark.startswith(partial[partial.rfind(b"L") :] or b"-")

    def silent(self, partial: bytes, stderr: str) -> Finding:
        """Return the finding for a login that has said something, and then starts nothing."""
        self._said += partial[: _KEPT - len(self._said)]
        return finding(
            "LF507", f"{_SILENCE_S:.0f} s after its last words the login had not started sh{self.quoted(stderr)}"
        )

    def late(self, partial: bytes, stderr: str) -> str:
        """Return what is known of a device that did not answer in time, as the end of a sentence."""
        if self.shell_runs or self.answered or self._is_sh(partial):
            return self.quoted(stderr)
        return f"; sh did not start: a start-up file may be waiting, or reading its input{self.quoted(stderr)}"

    def ended(self, exit_code: int | None, stderr: str) -> Finding:
        """Return the finding for a session that ended before its answer; without an exit code the connection broke."""
        said = self.quoted(stderr)
        if self.answered or exit_code is None or exit_code >= _SIGNALLED:
            code = "" if exit_code is None else f" (exit code {exit_code})"
            return finding("LF505", f"the device closed the session before it answered{code}{said}")
        if _NO_FORK.search(said):
            return finding("LF514", f"the login may start no further process (ulimit -u){said}")
        if not self.shell_runs and exit_code == bootstrap.STARTED_BY_SHELL:
            observed = "a start-up file of the login starts another shell, which took litefleet's input for commands"
            return finding("LF510", f"{observed} (such as `exec zsh` in ~/.bashrc){said}")
        if not self.shell_runs:
            hint = "" if said else "; it said nothing: a start-up file may `exit`, or the login shell takes no commands"
            observed = f"the device closed the session before it started sh (exit code {exit_code})"
            return finding("LF510", f"{observed}{said}{hint}")
        if module := _NO_MODULE.search(stderr):
            return lacks_module(module[1], "the device's Python", "")
        return finding("LF301", f"the device's Python ended with exit code {exit_code} before the agent began{said}")

    def quoted(self, stderr: str = "") -> str:
        """Return what the device said, bounded and printable, as the end of a sentence; "" when it said nothing."""
        lines = self._said.decode("utf-8", "replace").split("\n") + stderr.split("\n")[-3:]
        kept = [line.strip() for line in lines if line.strip()]
        once = list(dict.fromkeys(kept))
        return f"; it said: {sanitize(' / '.join(once), _QUOTED)}" if once else ""

    def _repeats(self) -> bool:
        lines = self._said.decode("utf-8", "replace").split("\n")[:-1]
        return any(line.strip() and len(list(same)) >= _REPEATS for line, same in groupby(lines))


def lacks_module(module: str, python: str, words: str) -> Finding:
    """Return the finding for an interpreter whose standard library is not whole."""
    package = "python3-" + module.split(".", maxsplit=1)[0]
    why = f" ({sanitize(words, _QUOTED)})" if words else ""
    observed = f"{sanitize(python, 200)} lacks the module {sanitize(module, 80)}{why}"
    return finding(
        "LF301", f"{observed}: on OpenWrt `opkg install {sanitize(package, 90)}`, on Debian `apt install python3`"
    )
