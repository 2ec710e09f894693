"""What runs on a device against what was confirmed on it: links, manifest, files, runtime and proof.  Changes nothing."""

import os
import shutil
from typing import Any, Dict, List

from ..facts import Facts, fingerprint
from ..findings import Finding, finding
from ..formats.files import sha256_of
from .activation import point
from .store import Store, StoreError, explain_os_error, needed

__all__ = ["check_files", "check_models", "foreign_links", "repair", "runtime_differs"]


_NAMED = 5  # files that one sentence names


def check_models(store: Store, facts: Facts, deep: bool = False) -> Dict[str, Any]:
    """Return {model: {release, findings}} of every model that has a current release.

    `deep` reads every byte and compares the hashes; otherwise files are looked at by presence and size.
    """
    current = store.current()
    models = {name: _check(store, facts, name, identity, deep) for name, identity in current.items()}
    for name in _foreign(store, current):
        observed = "models/%s/current is not a link to a release of litefleet's." % name
        models[name] = {"release": "", "findings": [finding("LF601", observed).to_dict()]}
    return models


def check_files(store: Store, identity: str) -> List[Finding]:
    """Return which files of a release are gone or changed, its runtime's included; every byte is read.

    Raises StoreError and KeyError when its manifest can't be used.
    """
    manifest = store.release(identity)
    return _check_blobs(store, needed(manifest), True) + _check_runtime(store, str(manifest["runtime"]), True)


def _foreign(store: Store, current: Dict[str, str]) -> List[str]:
    """Return the models whose `current` somebody else made."""
    try:
        names = os.listdir(store.path("models"))
    except OSError:
        return []
    return [n for n in sorted(names) if n not in current and os.path.lexists(store.path("models", n, "current"))]


def _check(store: Store, facts: Facts, name: str, identity: str, deep: bool) -> Dict[str, Any]:
    found = _check_link(store, name, identity)
    try:
        manifest = store.release(identity)
        blobs = needed(manifest)
        model, runtime = manifest["model"]["name"], str(manifest["runtime"])
    except (StoreError, KeyError) as error:
        found.append(finding("LF601", "The manifest of what %s runs can't be used: %s." % (name, error)))
    else:
        if model != name:
            found.append(finding("LF601", "models/%s/current is a release of the model %s." % (name, model)))
        found += _check_blobs(store, blobs, deep) + _check_runtime(store, runtime, deep)
        found += _check_verification(store, identity, facts)
    return {"release": identity, "findings": [f.to_dict() for f in found]}


def _check_link(store: Store, name: str, identity: str) -> List[Finding]:
    link = store.path("models", name, "current")
    try:
        same = os.path.samefile(link, store.path("releases", identity + ".json"))
    except OSError:  # dangling: the manifest's own check says so
        return []
    if same:
        return []
    return [finding("LF601", "models/%s/current leads out of litefleet's folder, to %s." % (name, os.readlink(link)))]


def _check_blobs(store: Store, blobs: List[str], deep: bool) -> List[Finding]:
    missing = [sha for sha in blobs if not os.path.isfile(store.blob(sha))]
    changed = [sha for sha in blobs if sha not in missing and not store.check_blob(sha)] if deep else []
    return _report("LF602", "The model's files", [s[:12] for s in missing], [s[:12] for s in changed])


def runtime_differs(store: Store, key: str) -> bool:
    """Say whether any file of an unpacked runtime is gone or changed, every byte read."""
    return bool(_check_runtime(store, key, deep=True))


def foreign_links(store: Store) -> List[str]:
    """Return the models whose `current` is not a link into litefleet's own releases."""
    current = store.current()
    return _foreign(store, current) + [n for n, identity in sorted(current.items()) if _check_link(store, n, identity)]


def _check_runtime(store: Store, key: str, deep: bool) -> List[Finding]:
    if key == "system":  # the proof's environment covers it
        return []
    if not os.path.isdir(store.path("runtimes", key)):
        return [finding("LF603", "The runtime %s is gone." % key[:12])]
    files = store.runtime_files(key)
    if files is None:  # unpacked by an agent that wrote no list
        return []
    missing, changed = [], []
    for path, expected in sorted(files.items()):
        state = _compare(store.path("runtimes", key), path, expected, deep)
        if state == "gone":
            missing.append(path)
        elif state == "changed":
            changed.append(path)
    return _report("LF603", "The runtime %s" % key[:12], missing, changed)


def _compare(root: str, name: str, expected: Any, deep: bool) -> str:
    """Return "", "gone" or "changed" for one file of a runtime."""
    path = os.path.join(root, name)
    if not isinstance(expected, list) or len(expected) != 2 or os.path.islink(path):
        return "changed"
    try:
        if os.path.getsize(path) != expected[0]:
            return "changed"
        return "changed" if deep and sha256_of(path) != expected[1] else ""
    except FileNotFoundError:
        return "gone"
    except OSError:
        return "changed"


def _report(code: str, label: str, missing: List[str], changed: List[str]) -> List[Finding]:
    parts = ["%s %s" % (_list(names), state) for names, state in ((missing, "gone"), (changed, "changed")) if names]
    return [finding(code, "%s: %s." % (label, "; ".join(parts)))] if parts else []


def _list(names: List[str]) -> str:
    more = " and %d more" % (len(names) - _NAMED) if len(names) > _NAMED else ""
    return "%s%s" % (", ".join(name[:200] for name in names[:_NAMED]), more)


def _check_verification(store: Store, identity: str, facts: Facts) -> List[Finding]:
    record = store.verified(identity)
    if record is None:
        return [finding("LF604", "There is no record that release %s was proven here." % identity[:12])]
    if record.get("fingerprint") != fingerprint(facts):
        return [finding("LF604", "Release %s was proven in another environment than this one." % identity[:12])]
    return []


def repair(store: Store) -> List[str]:
    """Drop what is not as it was confirmed and return what that was; whole files stay.  Call it under the store's lock.

    Raises StoreError when something can't be removed.
    """
    dropped: List[str] = []
    try:
        for identity in sorted(set(store.current().values())):
            dropped += _drop_files(store, identity)
        for name in foreign_links(store):
            point(store.path("models"), name, "current", "")
            dropped.append("models/%s/current" % name)
    except OSError as error:
        raise explain_os_error(error, "what is damaged could not be removed") from error
    return dropped


def _drop_files(store: Store, identity: str) -> List[str]:
    try:
        manifest = store.release(identity)
    except StoreError:  # its manifest is gone or damaged: it is sent anew as a whole
        return []
    dropped = []
    for sha in needed(manifest):
        if os.path.lexists(store.blob(sha)) and not store.check_blob(sha):
            os.unlink(store.blob(sha))
            dropped.append("blobs/" + sha)
    key = str(manifest["runtime"])
    if key != "system" and os.path.isdir(store.path("runtimes", key)) and runtime_differs(store, key):
        _drop_runtime(store, key)
        dropped.append("runtimes/" + key)
    return dropped


def _drop_runtime(store: Store, key: str) -> None:
    """Take a runtime away by one rename first: half of one is never seen under its name."""
    temp = store.path("runtimes", ".tmp-%s-%d" % (key, os.getpid()))
    os.replace(store.path("runtimes", key), temp)
    shutil.rmtree(temp, ignore_errors=True)
