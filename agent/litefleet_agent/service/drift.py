"""Checks whether the device has changed since its releases were verified.  Writes nothing.

A check compares the files' presence and sizes, reads a bounded part of their bytes each time, gathers the facts in a new
interpreter (a running one does not notice that Python or a package was replaced), and checks the clock.
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
from ..formats.files import open_regular
from ..releases.integrity import check_models
from ..releases.lease import Clock
from ..releases.runtimes import runtime_files
from ..releases.store import Store, read_small
from .event_loop import EventLoop, run_in_thread
from .systemd import without_manager
from .workers.process import own_code

_SLACK_S = 120.0  # by which the operator's clock and the device's may differ
_JUMP_S = 86400.0


def clock_findings(store: Store) -> List[Finding]:
    """Return LF618 when the clock is before the latest time at which a release was accepted or verified here."""
    now, (event, then) = store.clock.wall(), _latest(store)
    if now + _SLACK_S >= then:
        return []
    return [finding("LF618", "The clock says %s, and a release was %s here at %s." % (_time(now), event, _time(then)))]


def _latest(store: Store) -> Tuple[str, float]:
    """Return the latest event with a known time, "proven" or "accepted", and that time in seconds since 1970."""
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
    """Detects that the clock was set by more than a day between two checks."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset: Optional[float] = None  # wall time of this boot, by the last check

    def findings(self) -> List[Finding]:
        """Return LF618 when the clock was set since the last check."""
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
_READ_BYTES = 64 << 20  # of all files, in one check
_CHUNK = 1 << 20
_PAUSE_S = 0.002  # after each chunk, so that inference keeps the disk and the CPU


def check_drift(
    store: Store, facts_then: Facts, deep: bool = False, facts_now: Optional[Facts] = None
) -> List[Finding]:
    """Return the changes since the current releases were verified and since `facts_then` were gathered.

    `deep` reads every byte of the files.  `facts_now` are gathered in a new interpreter unless they are given.
    """
    now = facts_now if facts_now is not None else facts_anew(store.root)
    found = []
    for name, result in check_models(store, now, deep).items():
        for one in result.findings:
            found.append(Finding(one.code, "%s: %s" % (name, one.observed), one.certainty))
    return found + changes(facts_then, now) + clock_findings(store)


def facts_anew(root: str) -> Facts:
    """Return the device's facts as a new interpreter sees them, as this process does where none can be started."""
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
    """Describe which of the facts that releases depend on have changed."""
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
    return found + [finding("LF306", "%s is missing since the service started." % name) for name in missing]


def _version(package: Union[Package, PythonFacts]) -> str:
    path = package.path if isinstance(package, Package) else package.executable
    return "%s (%s)" % (package.version or "?", path) if path else ""


class _Item(NamedTuple):
    """A file and its expected bytes."""

    code: str  # of the finding when they differ
    name: str  # for people
    path: str
    sha: str  # SHA-256


class DriftWatch:
    """Checks in a thread, and remembers between checks which files were read."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._clock = ClockWatch(store.clock)
        self._changed: Dict[_Item, Finding] = {}  # files that differed when they were last read
        self._after: Tuple[str, ...] = ()  # the file that was read last
        self._checking = False

    def start_check(self, loop: EventLoop, facts: Facts, on_done: Callable[[List[Finding]], None]) -> bool:
        """Start a check, and call `on_done` from the loop; return False when one is running already."""
        if self._checking:
            return False
        self._checking = True

        def work() -> List[Finding]:
            try:
                return self.findings(facts)
            except (OSError, AgentError) as error:
                return [finding("LF900", "Cannot check the device: %s" % error)]

        def done(found: Optional[List[Finding]]) -> None:
            self._checking = False
            if found is not None:  # otherwise no thread was available; the next check may get one
                on_done(found)

        run_in_thread(loop, work, done)
        return True

    def findings(self, facts: Facts) -> List[Finding]:
        """Check now and return the findings; `facts` are those of the service's start."""
        found = check_drift(self._store, facts)
        self._read_some()
        named = {f.observed for f in found}
        found += [f for _, f in sorted(self._changed.items()) if f.observed not in named]
        return found + self._clock.findings()

    def _read_some(self) -> None:
        """Read the files that follow the last one of the previous check, up to 64 MiB."""
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
        """Compare one file's bytes and return their number; missing files are findings of check_models."""
        digest, size = hashlib.sha256(), 0
        try:
            with open_regular(item.path) as file:
                for chunk in iter(lambda: file.read(_CHUNK), b""):
                    digest.update(chunk)
                    size += len(chunk)
                    time.sleep(_PAUSE_S)
        except FileNotFoundError:
            self._changed.pop(item, None)
            return 0
        except OSError as error:
            self._changed[item] = finding(item.code, "Cannot read %s: %s." % (item.name, error.strerror or error))
            return 0
        if digest.hexdigest() == item.sha:
            self._changed.pop(item, None)
        else:
            self._changed[item] = finding(item.code, "%s no longer holds the bytes that were verified." % item.name)
        return size


def _items(store: Store) -> List[_Item]:
    """Return the files of all current releases and their runtimes."""
    items = set()
    for name, identity in store.current().items():
        try:
            manifest = store.release(identity)
        except AgentError:
            continue  # a finding of check_models
        key = manifest.runtime
        for sha in manifest.blobs:
            items.add(_Item("LF602", "%s: the file %s" % (name, sha[:12]), store.blob(sha), sha))
        files = runtime_files(store, key) if key != "system" else None
        for path, entry in (files or {}).items():
            if entry.sha256:
                where = store.path("runtimes", key, path)
                items.add(_Item("LF603", "%s of the runtime %s" % (path[:200], key[:12]), where, entry.sha256))
    return list(items)
