"""Compares the current releases with what was confirmed: links, manifest, files, runtime, verification; repairs them."""

import os
from typing import Dict, List, NamedTuple

from ..facts import Facts, fingerprint
from ..findings import Finding, finding
from ..formats.files import sha256_of
from .activation import point
from .runtimes import RuntimeFile, drop_runtime, runtime_files
from .store import Store, StoreError, explain_os_error

_NAMED = 5  # files that one sentence names


class ModelCheck(NamedTuple):
    """The state of one model's current release."""

    release: str  # "" where `current` is not a link to a release
    findings: List[Finding]  # empty: as confirmed

    def to_wire(self) -> Dict[str, object]:
        """Return the JSON form that a controller receives: {release, findings}."""
        return {"release": self.release, "findings": [f.to_wire() for f in self.findings]}


def check_models(store: Store, facts: Facts, deep: bool = False) -> Dict[str, ModelCheck]:
    """Return the state of every model that has a current release, by name; changes nothing.

    `deep` reads every byte and compares the hashes; otherwise only presence and size are compared.
    """
    current = store.current()
    models = {name: _check(store, facts, name, identity, deep) for name, identity in current.items()}
    for name in _foreign(store, current):
        observed = "models/%s/current is not a link to a release of litefleet's." % name
        models[name] = ModelCheck("", [finding("LF601", observed)])
    return models


def check_files(store: Store, identity: str) -> List[Finding]:
    """Return which files of a release, its runtime's included, are missing or changed; reads every byte.

    Raises StoreError when its manifest is missing or damaged.
    """
    manifest = store.release(identity)
    return _check_blobs(store, manifest.blobs, True) + _check_runtime(store, manifest.runtime, True)


def _foreign(store: Store, current: Dict[str, str]) -> List[str]:
    """Return the models whose `current` is no link to a release."""
    try:
        names = os.listdir(store.path("models"))
    except OSError:
        return []
    return [n for n in sorted(names) if n not in current and os.path.lexists(store.path("models", n, "current"))]


def _check(store: Store, facts: Facts, name: str, identity: str, deep: bool) -> ModelCheck:
    found = _check_link(store, name, identity)
    try:
        manifest = store.release(identity)
    except StoreError as error:
        found.append(finding("LF601", "The manifest of the current release of %s is unusable: %s." % (name, error)))
        return ModelCheck(identity, found)
    if manifest.model != name:
        found.append(finding("LF601", "models/%s/current is a release of the model %s." % (name, manifest.model)))
    found += _check_blobs(store, manifest.blobs, deep) + _check_runtime(store, manifest.runtime, deep)
    return ModelCheck(identity, found + _check_verification(store, identity, facts))


def _check_link(store: Store, name: str, identity: str) -> List[Finding]:
    link = store.path("models", name, "current")
    try:
        same = os.path.samefile(link, store.path("releases", identity + ".json"))
    except OSError:  # dangling: the check of the manifest reports it
        return []
    if same:
        return []
    return [finding("LF601", "models/%s/current points out of litefleet's folder, to %s." % (name, os.readlink(link)))]


def _check_blobs(store: Store, blobs: List[str], deep: bool) -> List[Finding]:
    missing = [sha for sha in blobs if not os.path.isfile(store.blob(sha))]
    changed = [sha for sha in blobs if sha not in missing and not store.check_blob(sha)] if deep else []
    return _report("LF602", "The model's files", [s[:12] for s in missing], [s[:12] for s in changed])


def runtime_differs(store: Store, key: str) -> bool:
    """Return whether any file of an unpacked runtime is missing or changed; reads every byte."""
    return bool(_check_runtime(store, key, deep=True))


def foreign_links(store: Store) -> List[str]:
    """Return the models whose `current` is not a link into litefleet's own releases."""
    current = store.current()
    return _foreign(store, current) + [n for n, identity in sorted(current.items()) if _check_link(store, n, identity)]


def _check_runtime(store: Store, key: str, deep: bool) -> List[Finding]:
    if key == "system":  # the environment of the verification covers it
        return []
    if not os.path.isdir(store.path("runtimes", key)):
        return [finding("LF603", "The runtime %s is missing." % key[:12])]
    files = runtime_files(store, key)
    if files is None:  # unpacked by an agent that wrote no list
        return []
    missing, changed = [], []
    for path, expected in sorted(files.items()):
        state = _compare(store.path("runtimes", key), path, expected, deep)
        if state == "missing":
            missing.append(path)
        elif state == "changed":
            changed.append(path)
    return _report("LF603", "The runtime %s" % key[:12], missing, changed)


def _compare(root: str, name: str, expected: RuntimeFile, deep: bool) -> str:
    """Return "", "missing" or "changed" for one file of a runtime."""
    path = os.path.join(root, name)
    if os.path.islink(path):
        return "changed"
    try:
        if os.path.getsize(path) != expected.size:
            return "changed"
        return "changed" if deep and sha256_of(path) != expected.sha256 else ""
    except FileNotFoundError:
        return "missing"
    except OSError:
        return "changed"


def _report(code: str, label: str, missing: List[str], changed: List[str]) -> List[Finding]:
    parts = ["%s %s" % (_list(names), state) for names, state in ((missing, "missing"), (changed, "changed")) if names]
    return [finding(code, "%s: %s." % (label, "; ".join(parts)))] if parts else []


def _list(names: List[str]) -> str:
    more = " and %d more" % (len(names) - _NAMED) if len(names) > _NAMED else ""
    return "%s%s" % (", ".join(name[:200] for name in names[:_NAMED]), more)


def _check_verification(store: Store, identity: str, facts: Facts) -> List[Finding]:
    record = store.verified(identity)
    if record is None:
        return [finding("LF604", "No record says that release %s was verified here." % identity[:12])]
    if record.fingerprint != fingerprint(facts):
        return [finding("LF604", "Release %s was verified in another environment than this one." % identity[:12])]
    return []


def repair(store: Store) -> List[str]:
    """Remove damaged files, runtimes and links of the current releases and return their paths below the root.

    The controller sends them again.  The caller holds the store's lock.  Raises StoreError when something cannot be removed.
    """
    dropped: List[str] = []
    try:
        for identity in sorted(set(store.current().values())):
            dropped += _drop_files(store, identity)
        for name in foreign_links(store):
            with store.switching():
                point(store.path("models"), name, current="")
            dropped.append("models/%s/current" % name)
    except OSError as error:
        raise explain_os_error(error, "what is damaged cannot be removed") from error
    return dropped


def _drop_files(store: Store, identity: str) -> List[str]:
    try:
        manifest = store.release(identity)
    except StoreError:  # its manifest is missing or damaged: the whole release is sent again
        return []
    dropped = []
    for sha in manifest.blobs:
        if os.path.lexists(store.blob(sha)) and not store.check_blob(sha):
            os.unlink(store.blob(sha))
            dropped.append("blobs/" + sha)
    key = manifest.runtime
    if key != "system" and os.path.isdir(store.path("runtimes", key)) and runtime_differs(store, key):
        drop_runtime(store, key)
        dropped.append("runtimes/" + key)
    return dropped
