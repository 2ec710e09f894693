"""Reports which verified releases still have all their files, so that a controller sends again what is missing."""

from __future__ import annotations

import os

from ..formats.files import FileStamp
from ..formats.light import NamedTuple
from .store import Manifest, Store, StoreError, VerificationRecord

TYPE_CHECKING = False  # known to type checkers; loading typing takes a third of a session's start
if TYPE_CHECKING:
    from typing import Dict, Iterable, List, Mapping, Optional, Set


class Intact(NamedTuple):
    """The verified releases that are whole, and the blobs that are not."""

    verified: Dict[str, VerificationRecord]  # release id -> its record
    damaged: Set[str]  # SHA-256 of blobs that are stored and no longer have their bytes


def stamps_of(store: Store, identity: str) -> Dict[str, FileStamp]:
    """Return the stamps of a release's blobs; of one whose manifest is unusable, none."""
    try:
        blobs = store.release(identity).blobs
    except StoreError:
        return {}
    stamps = {sha: FileStamp.of(store.blob(sha)) for sha in blobs}
    return {sha: stamp for sha, stamp in stamps.items() if stamp is not None}


def intact_releases(store: Store, identities: Iterable[str]) -> Intact:
    """Check the releases `identities` that were verified here: manifest, blobs, and that the runtime exists.

    A blob whose stamp is that of its verification is not read; any other one is, and its hash decides.  That takes one system
    call per file where nothing has happened, and a second per 200 MB (a PC; a board needs five) where an older agent recorded
    no stamps.  Runtimes are many files and are compared by `integrity.check_models`.
    """
    verified: Dict[str, VerificationRecord] = {}
    damaged: Set[str] = set()
    for identity in set(identities):
        manifest, record = _manifest(store, identity), store.verified(identity)
        if manifest is None:
            continue
        missing = _missing(store, manifest, record.files if record is not None else {}, damaged)
        if record is not None and not missing and _has_runtime(store, manifest):
            verified[identity] = record
    return Intact(verified, damaged)


def _manifest(store: Store, identity: str) -> Optional[Manifest]:
    try:
        return store.release(identity)
    except StoreError:
        return None


def _missing(store: Store, manifest: Manifest, stamps: Mapping[str, FileStamp], damaged: Set[str]) -> List[str]:
    """Return the blobs that are missing or damaged; the damaged ones are added to `damaged`."""
    missing = []
    for sha in manifest.blobs:
        now = FileStamp.of(store.blob(sha))
        if now is not None and now == stamps.get(sha):
            continue
        if now is not None and sha not in damaged and store.check_blob(sha):
            continue
        missing.append(sha)
        if now is not None:
            damaged.add(sha)
    return missing


def _has_runtime(store: Store, manifest: Manifest) -> bool:
    return manifest.runtime == "system" or os.path.isdir(store.path("runtimes", manifest.runtime))
