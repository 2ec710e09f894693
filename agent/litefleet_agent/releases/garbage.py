"""Frees disk space: drops the releases that need not stay, and every file that no release refers to.

Manifests are dropped first and durably, files after them, so that no manifest is ever without its files.
"""

import os
import sys
from typing import Dict, FrozenSet, List, Mapping, NamedTuple, Set, Tuple

from ..bytecode import BYTECODE_SUFFIX
from ..formats.checked import is_sha, texts, whole
from ..formats.files import free_bytes
from .atomic import fsync_folder
from .caches import sweep_caches
from .journal import Journal
from .kept_inputs import drop_inputs
from .parts import drop_parts
from .pythons import sweep_pythons
from .runtimes import RUNTIME_LIST, drop_runtime
from .store import SPARE, Store, StoreError

_AGENTS = 2  # the newest agents that stay besides the running one
_MAX_NAMED = 10000  # hashes in one request
_MAX_BYTES = 1 << 60


class Keep(NamedTuple):
    """What stays besides the current and previous releases and those under a lease."""

    releases: int = 2  # of each model, the latest verified first
    pinned: FrozenSet[str] = frozenset()  # release ids
    quota: int = 0  # bytes of everything under the root; 0 = none
    wanted: FrozenSet[str] = frozenset()  # SHA-256 of blobs, and ids of releases, that are needed next
    runtime: str = ""  # the runtime that is needed next
    agent: str = ""  # SHA-256 of the running agent


class Freed(NamedTuple):
    """Result of freeing space."""

    freed: int  # bytes
    free: int  # bytes free now
    dropped: Tuple[str, ...]  # release ids


class _Release(NamedTuple):
    """A release and what it occupies; `model`, `blobs` and `runtime` are empty for a manifest that cannot be read."""

    id: str
    model: str
    verified_at: float
    blobs: FrozenSet[str]
    runtime: str
    fixed: bool  # it must stay


def free_space(store: Store, need: int, keep: Keep) -> Freed:
    """Free space for `need` bytes; the caller holds the store's lock.

    Releases within `keep.releases` are dropped only when that frees enough.  Raises StoreError: "disk-full", "over-quota".
    """
    before = _used(store.root)
    releases = _releases(store, keep)
    dropped = _beyond(releases, keep.releases)
    _drop(store, [r.id for r in dropped])
    _sweep(store, keep)
    if _missing_bytes(store, need, keep.quota) > 0:
        drop_inputs(store)
        drop_parts(store, keep.wanted)
    more = _further(store, [r for r in releases if r not in dropped], need, keep)
    _drop(store, [r.id for r in more])
    _sweep(store, keep)
    used = _used(store.root)
    free = free_bytes(store.root)
    _need(store, need, keep.quota, used, free)
    return Freed(max(before - used, 0), free, tuple(r.id for r in dropped + more))


def _need(store: Store, need: int, quota: int, used: int, free: int) -> None:
    if quota and used + need > quota:
        message = "%d bytes are to be stored under %s, where what must stay uses %d of the quota of %d"
        raise StoreError(message % (need, store.root, used, quota), "over-quota")
    if need and need + SPARE > free:
        message = (
            "%d bytes are to be stored under %s, where %d are free after everything that need not stay was dropped"
        )
        raise StoreError(message % (need, store.root, free), "disk-full")


# --- which releases


def _releases(store: Store, keep: Keep) -> List[_Release]:
    """Return the stored releases, the earliest verified first."""
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
    except StoreError:
        return _Release(identity, "", 0.0, frozenset(), "", fixed)
    record = store.verified(identity)
    at = record.at if record is not None else 0.0
    return _Release(identity, manifest.model, at, frozenset(manifest.blobs), manifest.runtime, fixed)


def _fixed(store: Store) -> Set[str]:
    """Return the current and previous releases, and those of open operations."""
    fixed: Set[str] = set()
    for operation in (
        Journal(store.root).read().open()
    ):  # before the links: a revert changes those first, and no lock excludes it
        fixed.update((operation.to, operation.before, operation.before_previous))
    fixed.update(store.current().values())
    for model in _names(store, "models"):
        try:
            fixed.add(store.link(model, "previous"))
        except StoreError:  # a folder that is not litefleet's
            continue
    return fixed


def _beyond(releases: List[_Release], keep: int) -> List[_Release]:
    """Return the releases beyond the newest `keep` of their model, and those whose manifest cannot be read."""
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
    """Return the further releases, oldest first, whose removal frees enough; none when even all of them are too few."""
    missing = _missing_bytes(store, need, keep.quota)
    if missing <= 0:
        return []
    if any(not r.model for r in releases):  # what it refers to is unknown, so no file may be removed
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
    missing = need + SPARE - free_bytes(store.root) if need else 0
    return max(missing, _used(store.root) + need - quota) if quota else missing


class _Sizes:
    """Computes how much dropping releases would free."""

    def __init__(self, store: Store, keep: Keep) -> None:
        self._store = store
        self._keep = keep

    def freed(self, dropped: List[_Release], releases: List[_Release]) -> int:
        """Return the bytes that only the releases `dropped` use, without their manifests."""
        retained = [r for r in releases if r not in dropped]
        blobs = frozenset().union(*(r.blobs for r in dropped)) - self._keep.wanted
        runtimes = {r.runtime for r in dropped} - {"system", "", self._keep.runtime}
        blobs = blobs.difference(*(r.blobs for r in retained))
        runtimes -= {r.runtime for r in retained}
        paths = [self._store.path("blobs", b) for b in blobs] + [self._store.path("runtimes", r) for r in runtimes]
        return sum(_used(path) for path in paths)


# --- dropping


def _drop(store: Store, identities: List[str]) -> None:
    """Drop manifests durably; their files may be dropped only after that."""
    for identity in identities:
        _unlink(store.path("releases", identity + ".json"))
    if identities:
        fsync_folder(store.path("releases"))


def _sweep(store: Store, keep: Keep) -> None:
    """Drop every file that no release refers to."""
    releases = _releases(store, keep)
    known = {r.id for r in releases}
    sweep_caches(store, known)
    for folder in ("verified", "seals"):
        for name in _names(store, folder):
            if name.endswith(".json") and is_sha(name[:-5]) and name[:-5] not in known:
                _unlink(store.path(folder, name))
    if all(r.model for r in releases):  # else an unreadable manifest may refer to any file
        _sweep_files(store, releases, keep)
    _sweep_agents(store, keep.agent)
    sweep_pythons(store, sys.executable)


def _sweep_files(store: Store, releases: List[_Release], keep: Keep) -> None:
    blobs = frozenset().union(keep.wanted, *(r.blobs for r in releases))
    for sha in store.blobs():
        if sha not in blobs:
            _unlink(store.blob(sha))
    runtimes = {r.runtime for r in releases} | {keep.runtime}
    for key in store.runtimes():
        if key not in runtimes:
            drop_runtime(store, key)
    for name in _names(store, "runtimes"):
        key = name[: -len(RUNTIME_LIST)]
        if name.endswith(RUNTIME_LIST) and not os.path.isdir(store.path("runtimes", key)):
            _unlink(store.path("runtimes", name))


def _sweep_agents(store: Store, running: str) -> None:
    folder = store.path("agent")
    agents = [n for n in _names(store, "agent") if n.endswith(".pyz") and is_sha(n[: -len(".pyz")])]
    agents.sort(key=lambda n: os.lstat(os.path.join(folder, n)).st_mtime)
    linked = os.path.join(folder, "litefleet-agent.pyz")
    retained = set(agents[-_AGENTS:]) | {running + ".pyz"}
    if os.path.islink(linked):
        retained.add(os.path.basename(os.readlink(linked)))
    for name in _names(store, "agent"):
        of_agent = name in agents or (name.endswith(BYTECODE_SUFFIX) and is_sha(name[:64]))
        if of_agent and name[:64] + ".pyz" not in retained:
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
    """Return the bytes that a file or folder occupies on the disk."""
    total = _blocks(path)
    for folder, folders, files in os.walk(path):
        total += sum(_blocks(os.path.join(folder, name)) for name in folders + files)
    return total


def _blocks(path: str) -> int:
    try:
        return os.lstat(path).st_blocks * 512
    except OSError:  # another process has just removed it
        return 0


def read_keep(fields: Mapping[str, object], agent: str) -> Tuple[int, Keep]:
    """Read a request {bytes, keep, pinned, quota, wanted, runtime}: the bytes to free, and what stays.

    Raises StoreError "bad-request" for what is not well formed.
    """
    runtime = fields.get("runtime")
    try:
        need = whole(fields.get("bytes", 0), 0, _MAX_BYTES, "bytes")
        keep = Keep(
            releases=whole(fields.get("keep", 2), 0, 1000, "keep"),
            pinned=_shas(fields.get("pinned"), "pinned"),
            quota=whole(fields.get("quota") or 0, 0, _MAX_BYTES, "quota"),
            wanted=_shas(fields.get("wanted"), "wanted"),
            runtime=runtime if isinstance(runtime, str) else "",
            agent=agent,
        )
    except ValueError as error:
        raise StoreError(str(error), "bad-request") from None
    return need, keep


def _shas(values: object, name: str) -> FrozenSet[str]:
    found = texts(values or [], _MAX_NAMED, 64, name)
    if not all(map(is_sha, found)):
        raise ValueError("%s must be a list of SHA-256" % name)
    return frozenset(found)
