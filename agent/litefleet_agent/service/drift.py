"""Whether the device is still what its releases were proven on.  Changes nothing.

A look compares presence and sizes, reads a bounded part of the files anew each time, gathers the facts in a fresh
interpreter (the running one does not see that Python or a package was exchanged under it), and looks at the clock.
"""

import hashlib
import json
import os
import subprocess
import sys
import time
from typing import Callable, Dict, List, NamedTuple, Optional, Tuple, Union

from ..errors import AgentError
from ..facts import Facts, Package, PythonFacts, gather
from ..findings import Finding, finding
from ..formats.checked import number_or
from ..releases.clock import Clock
from ..releases.integrity import check_models
from ..releases.runtimes import runtime_files
from ..releases.store import Store, read_small
from .event_loop import EventLoop, run_in_thread
from .systemd import without_manager
from .workers.process import own_code

__all__ = ["ClockWatch", "DriftWatch", "changes", "check_drift", "clock_findings", "facts_anew"]


_SLACK_S = 120.0  # the operator's clock and the device's differ a little
_JUMP_S = 86400.0


def clock_findings(store: Store) -> List[Finding]:
    """Return LF618 when the clock stands before the latest release that was accepted or proven here."""
    now, (event, then) = store.clock.wall(), _latest(store)
    if now + _SLACK_S >= then:
        return []
    return [finding("LF618", "The clock says %s, and a release was %s here at %s." % (_time(now), event, _time(then)))]


def _latest(store: Store) -> Tuple[str, float]:
    """Return the latest moment that the device knows of, and what happened then."""
    records = [store.verified(identity) for identity in store.current().values()]
    moments = [("proven", record.at) for record in records if record is not None]
    accepted = read_small(store, "trust", "accepted.json") or {}
    moments.append(("accepted", number_or(0, accepted.get("latest"), 0, 1e11)))
    return max(moments, key=lambda moment: moment[1])


def _time(wall: float) -> str:
    try:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(wall))
    except (OverflowError, ValueError, OSError):
        return "%.0f s after 1970" % wall


class ClockWatch:
    """Finds that the clock was set by more than a day between two looks."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset: Optional[float] = None  # wall clock at the start of this boot, as the last look saw it

    def findings(self) -> List[Finding]:
        """Return LF618 when the clock was set since the last look; the next look begins from the new time."""
        offset = self._clock.wall() - self._clock.boottime()
        before, self._offset = self._offset, offset
        if before is None or abs(offset - before) <= _JUMP_S:
            return []
        days = (offset - before) / 86400
        ahead = "forward" if days > 0 else "back"
        return [finding("LF618", "The clock was set %s by %.1f days while the service ran." % (ahead, abs(days)))]


_CODE = (
    "import sys, json; sys.path[:] = [sys.argv[1]] + [p for p in sys.path if p]; "
    "from litefleet_agent.facts import gather; print(json.dumps(gather(sys.argv[2]).to_dict()))"
)
_FACTS_S = 60.0
_READ_BYTES = 64 << 20  # of a release's files, in one look
_CHUNK = 1 << 20
_PAUSE_S = 0.002  # after each chunk, so that inference keeps the disk and the CPU


def check_drift(
    store: Store, facts_then: Facts, deep: bool = False, facts_now: Optional[Facts] = None
) -> List[Finding]:
    """Return what is no longer as it was proven, or as it was when `facts_then` were gathered; `deep` reads every byte."""
    now = facts_now if facts_now is not None else facts_anew(store.root)
    found = []
    for name, result in check_models(store, now, deep).items():
        for one in result.findings:
            found.append(Finding(one.code, "%s: %s" % (name, one.observed), one.certainty))
    return found + changes(facts_then, now) + clock_findings(store)


def facts_anew(root: str) -> Facts:
    """Return the device's facts as a newly started agent sees them; this process's own where none can be started."""
    try:
        done = subprocess.run(
            [sys.executable, "-Es", "-c", _CODE, own_code(), root],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=without_manager(os.environ),
            timeout=_FACTS_S,
            cwd="/",
            check=True,
        )
        return Facts.from_dict(json.loads(done.stdout.decode("utf-8")))
    except (OSError, ValueError, subprocess.SubprocessError, AgentError):
        return gather(root)


def changes(then: Facts, now: Facts) -> List[Finding]:
    """Return, in words, which of the deciding facts are not what they were."""
    pairs = [
        ("Python", _version(then.python), _version(now.python)),
        ("numpy", _version(then.numpy), _version(now.numpy)),
        ("Paddle-Lite", _version(then.paddlelite), _version(now.paddlelite)),
        ("the C library", "%s %s" % (then.libc.kind, then.libc.version), "%s %s" % (now.libc.kind, now.libc.version)),
        ("libstdc++", then.libstdcxx, now.libstdcxx),
        ("the machine", then.machine, now.machine),
        ("the CPU", ", ".join(then.cpu.parts), ", ".join(now.cpu.parts)),
    ]
    found = [
        finding("LF604", "Since the service started, %s changed from %s to %s." % (part, old or "none", new or "none"))
        for part, old, new in pairs
        if old != new
    ]
    missing = sorted(set(then.libraries) - set(now.libraries)) if now.libraries else []
    return found + [finding("LF306", "%s is gone since the service started." % name) for name in missing]


def _version(package: Union[Package, PythonFacts]) -> str:
    path = package.path if isinstance(package, Package) else package.executable
    return "%s (%s)" % (package.version or "?", path) if path else ""


class _Item(NamedTuple):
    """A file whose bytes are known."""

    code: str
    name: str
    path: str
    sha: str


class DriftWatch:
    """Looks now and then, in a thread, and remembers between looks what of the files was read."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._clock = ClockWatch(store.clock)
        self._changed: Dict[_Item, Finding] = {}  # files that were not as they should be when last read
        self._after: Tuple[str, ...] = ()  # the last that was read
        self._checking = False

    def start_check(self, loop: EventLoop, facts: Facts, on_done: Callable[[List[Finding]], None]) -> bool:
        """Look, and call `on_done` from the loop; False when one is under way already."""
        if self._checking:
            return False
        self._checking = True

        def work() -> List[Finding]:
            try:
                return self.findings(facts)
            except (OSError, AgentError) as error:
                return [finding("LF900", "The device could not be looked at: %s" % error)]

        def done(found: Optional[List[Finding]]) -> None:
            self._checking = False
            if found is not None:  # else the next look may be luckier
                on_done(found)

        run_in_thread(loop, work, done)
        return True

    def findings(self, facts: Facts) -> List[Finding]:
        """Return what a look finds now; `facts` are those of the service's start."""
        found = check_drift(self._store, facts)
        self._read_some()
        named = {f.observed for f in found}
        found += [f for _, f in sorted(self._changed.items()) if f.observed not in named]
        return found + self._clock.findings()

    def _read_some(self) -> None:
        """Read on through the files, up to a bound, after the last one of the look before."""
        items = sorted(_items(self._store))
        self._changed = {item: found for item, found in self._changed.items() if item in items}
        later = [item for item in items if tuple(item) > self._after]
        left = _READ_BYTES
        for item in later + [item for item in items if item not in later]:
            if left <= 0:
                break
            left -= self._read(item)
            self._after = tuple(item)

    def _read(self, item: _Item) -> int:
        """Compare one file's bytes and return how many there were; one that is gone is check_models' matter."""
        digest, size = hashlib.sha256(), 0
        try:
            with open(item.path, "rb") as file:
                for chunk in iter(lambda: file.read(_CHUNK), b""):
                    digest.update(chunk)
                    size += len(chunk)
                    time.sleep(_PAUSE_S)
        except FileNotFoundError:
            self._changed.pop(item, None)
            return 0
        except OSError as error:
            self._changed[item] = finding(item.code, "%s can't be read: %s." % (item.name, error.strerror or error))
            return 0
        if digest.hexdigest() == item.sha:
            self._changed.pop(item, None)
        else:
            self._changed[item] = finding(item.code, "%s no longer holds the bytes that were proven." % item.name)
        return size


def _items(store: Store) -> List[_Item]:
    """Return the files of all current releases and their runtimes."""
    items = set()
    for name, identity in store.current().items():
        try:
            manifest = store.release(identity)
        except AgentError:
            continue  # check_models says so
        key = manifest.runtime
        for sha in manifest.blobs:
            items.add(_Item("LF602", "%s: the file %s" % (name, sha[:12]), store.blob(sha), sha))
        files = runtime_files(store, key) if key != "system" else None
        for path, entry in (files or {}).items():
            if entry.sha256:
                where = store.path("runtimes", key, path)
                items.add(_Item("LF603", "%s of the runtime %s" % (path[:200], key[:12]), where, entry.sha256))
    return list(items)
