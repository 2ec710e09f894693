"""What a device drops to have room.

Manifests go first and durably, files after them, so that no manifest is ever without its files.
"""

import os
import shutil
from typing import Any, Dict, FrozenSet, Iterable, List, NamedTuple, Set, Tuple

from .atomic import fsync_folder
from .journal import Journal
from .store import RUNTIME_LIST, Store, StoreError, is_sha, needed

__all__ = ["Freed", "Keep", "collect_garbage", "free_space", "number", "read_keep"]

_SPARE = 8 << 20  # bytes left free for the rest of the device, as Store.need_space wants
_AGENTS = 2  # the newest agents that stay besides the one that runs


class Keep(NamedTuple):
    """What stays, besides what runs, what ran before and what is under a lease."""

    releases: int = 2  # of each model, by the time of their proof
    pinned: FrozenSet[str] = frozenset()  # release ids
    quota: int = 0  # bytes of everything under the root; 0 = none
    wanted: FrozenSet[str] = frozenset()  # SHA-256 of blobs, and ids of releases, that are needed next
    runtime: str = ""  # the runtime that is needed next
    agent: str = ""  # SHA-256 of the agent that runs


class Freed(NamedTuple):
    """What came of making room: bytes freed, bytes free now, and the releases that went."""

    freed: int
    free: int
    dropped: Tuple[str, ...]


class _Release(NamedTuple):
    """A release as far as room is concerned; `blobs` and `runtime` are empty for a manifest that can't be read."""

    id: str
    model: str
    verified_at: float
    blobs: FrozenSet[str]
    runtime: str
    fixed: bool  # it may not go


def collect_garbage(store: Store, keep: Keep) -> Freed:
    """Drop the releases beyond what is kept, and whatever nothing refers to."""
    return free_space(store, 0, keep._replace(quota=0))


def free_space(store: Store, need: int, keep: Keep) -> Freed:
    """Make room for `need` bytes; call it under the store's lock.

    What may go only for want of room goes only when that helps.  Raises StoreError: "disk-full", "over-quota".
    """
    before = _used(store.root)
    releases = _releases(store, keep)
    dropped = _beyond(releases, keep.releases)
    _drop(store, [r.id for r in dropped])
    _sweep(store, keep)
    more = _further(store, [r for r in releases if r not in dropped], need, keep)
    _drop(store, [r.id for r in more])
    _sweep(store, keep)
    used = _used(store.root)
    free = shutil.disk_usage(store.root).free
    _need(store, need, keep.quota, used, free)
    return Freed(max(before - used, 0), free, tuple(r.id for r in dropped + more))


def _need(store: Store, need: int, quota: int, used: int, free: int) -> None:
    if quota and used + need > quota:
        message = "%d bytes are to be stored under %s, where %d of the quota of %d are used by what may not go"
        raise StoreError(message % (need, store.root, used, quota), "over-quota")
    if need and need + _SPARE > free:
        message = "%d bytes are to be stored under %s, where %d are free after all that may go was dropped"
        raise StoreError(message % (need, store.root, free), "disk-full")


# --- which releases


def _releases(store: Store, keep: Keep) -> List[_Release]:
    """Return the releases that are here, the one whose proof is oldest first."""
    fixed = _fixed(store) | keep.pinned | keep.wanted
    found = []
    for name in _names(store, "releases"):
        identity = name[: -len(".json")]
        if name.endswith(".json") and is_sha(identity):
            found.append(_describe(store, identity, identity in fixed))
    return sorted(found, key=lambda r: (r.verified_at, r.id))


def _describe(store: Store, identity: str, fixed: bool) -> _Release:
    try:
        manifest = store.release(identity)
        blobs = frozenset(needed(manifest))
        model, runtime = str(manifest["model"]["name"]), str(manifest["runtime"])
    except (StoreError, KeyError, TypeError, AttributeError):
        return _Release(identity, "", 0.0, frozenset(), "", fixed)
    at = (store.verified(identity) or {}).get("at", 0)
    return _Release(identity, model, float(at) if isinstance(at, (int, float)) else 0.0, blobs, runtime, fixed)


def _fixed(store: Store) -> Set[str]:
    """Return the releases that run, ran before, or are under a lease with what they came from."""
    fixed = set(store.current().values())
    for model in _names(store, "models"):
        try:
            fixed.add(store.link(model, "previous"))
        except StoreError:  # a folder that somebody else made
            continue
    for operation in Journal(store.root).read().open():
        fixed.update((operation.to, operation.before, operation.before_previous))
    return fixed


def _beyond(releases: List[_Release], keep: int) -> List[_Release]:
    """Return the releases beyond the newest `keep` of their model; one that can't be read is of no use to anybody."""
    left: Dict[str, int] = {}
    beyond = []
    for release in reversed(releases):
        if release.fixed:
            continue
        left[release.model] = left.get(release.model, keep if release.model else 0) - 1
        if left[release.model] < 0:
            beyond.append(release)
    return beyond[::-1]


def _further(store: Store, releases: List[_Release], need: int, keep: Keep) -> List[_Release]:
    """Return the releases, oldest first, that must go besides for want of room; none when even all of them are too few."""
    missing = _missing_bytes(store, need, keep.quota)
    if missing <= 0:
        return []
    if any(not r.model for r in releases):  # what it refers to is not known, so nothing could be swept
        return []
    sizes = _Sizes(store, keep)
    dropped: List[_Release] = []
    for release in releases:
        if release.fixed:
            continue
        dropped.append(release)
        if sizes.freed(dropped, releases) >= missing:
            return dropped
    return []


def _missing_bytes(store: Store, need: int, quota: int) -> int:
    missing = need + _SPARE - shutil.disk_usage(store.root).free if need else 0
    return max(missing, _used(store.root) + need - quota) if quota else missing


class _Sizes:
    """What dropping releases would free."""

    def __init__(self, store: Store, keep: Keep) -> None:
        self._store = store
        self._keep = keep

    def freed(self, dropped: List[_Release], releases: List[_Release]) -> int:
        """Return the bytes that only the releases `going` hold, their manifests not counted."""
        retained = [r for r in releases if r not in dropped]
        blobs = frozenset().union(*(r.blobs for r in dropped)) - self._keep.wanted
        runtimes = {r.runtime for r in dropped} - {"system", "", self._keep.runtime}
        blobs = blobs.difference(*(r.blobs for r in retained))
        runtimes -= {r.runtime for r in retained}
        paths = [self._store.path("blobs", b) for b in blobs] + [self._store.path("runtimes", r) for r in runtimes]
        return sum(_used(path) for path in paths)


# --- dropping


def _drop(store: Store, identities: List[str]) -> None:
    """Drop manifests, durably: only then may their files go."""
    for identity in identities:
        _unlink(store.path("releases", identity + ".json"))
    if identities:
        fsync_folder(store.path("releases"))


def _sweep(store: Store, keep: Keep) -> None:
    """Drop what no release refers to."""
    releases = _releases(store, keep)
    known = {r.id for r in releases}
    for folder in ("verified", "seals"):
        for name in _names(store, folder):
            if name.endswith(".json") and is_sha(name[:-5]) and name[:-5] not in known:
                _unlink(store.path(folder, name))
    if all(r.model for r in releases):  # else nobody can say what the unreadable one refers to
        _sweep_files(store, releases, keep)
    _sweep_agents(store, keep.agent)


def _sweep_files(store: Store, releases: List[_Release], keep: Keep) -> None:
    blobs = frozenset().union(keep.wanted, *(r.blobs for r in releases))
    for sha in store.blobs():
        if sha not in blobs:
            _unlink(store.blob(sha))
    runtimes = {r.runtime for r in releases} | {keep.runtime}
    for key in store.runtimes():
        if key not in runtimes:
            _drop_runtime(store, key)
    for name in _names(store, "runtimes"):
        key = name[: -len(RUNTIME_LIST)]
        if name.endswith(RUNTIME_LIST) and not os.path.isdir(store.path("runtimes", key)):
            _unlink(store.path("runtimes", name))


def _drop_runtime(store: Store, key: str) -> None:
    """Drop an unpacked runtime; half of one is never visible under its name."""
    temp = store.path("runtimes", ".tmp-gone-%s-%d" % (key, os.getpid()))
    shutil.rmtree(temp, ignore_errors=True)
    os.rename(store.path("runtimes", key), temp)
    fsync_folder(store.path("runtimes"))
    shutil.rmtree(temp, ignore_errors=True)


def _sweep_agents(store: Store, running: str) -> None:
    folder = store.path("agent")
    agents = [n for n in _names(store, "agent") if n.endswith(".pyz") and is_sha(n[: -len(".pyz")])]
    agents.sort(key=lambda n: os.lstat(os.path.join(folder, n)).st_mtime)
    linked = os.path.join(folder, "litefleet-agent.pyz")
    retained = set(agents[-_AGENTS:]) | {running + ".pyz"}
    if os.path.islink(linked):
        retained.add(os.path.basename(os.readlink(linked)))
    for name in agents:
        if name not in retained:
            _unlink(os.path.join(folder, name))


def _names(store: Store, folder: str) -> List[str]:
    try:
        return sorted(n for n in os.listdir(store.path(folder)) if not n.startswith("."))
    except FileNotFoundError:
        return []


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _used(path: str) -> int:
    """Return the bytes that a file or folder takes on the disk."""
    total = _blocks(path)
    for folder, folders, files in os.walk(path):
        total += sum(_blocks(os.path.join(folder, name)) for name in folders + files)
    return total


def _blocks(path: str) -> int:
    try:
        return os.lstat(path).st_blocks * 512
    except OSError:  # another process has just dropped it
        return 0


def read_keep(fields: Dict[str, Any], agent: str) -> Keep:
    """Return what a request asks to keep; StoreError "bad-request" for what is not well formed."""
    return Keep(
        releases=number(fields.get("keep", 2), 1000),
        pinned=_shas(fields.get("pinned") or []),
        quota=number(fields.get("quota") or 0, 1 << 60),
        wanted=_shas(fields.get("wanted") or []),
        runtime=str(fields.get("runtime") or ""),
        agent=agent,
    )


def number(value: Any, highest: int) -> int:
    """Return a whole number from 0 to `highest`; StoreError "bad-request" otherwise."""
    if type(value) is not int or not 0 <= value <= highest:
        raise StoreError("not a whole number from 0 to %d: %r" % (highest, str(value)[:40]), "bad-request")
    return value


def _shas(values: Iterable[Any]) -> FrozenSet[str]:
    values = list(values)
    if len(values) > 10000 or not all(is_sha(v) for v in values):
        raise StoreError("pinned and wanted are lists of at most 10000 SHA-256", "bad-request")
    return frozenset(values)
