"""What a device keeps: blobs by hash, runtimes, releases, and which release of a model is current.

blobs/<sha256>                   models, goldens, runtime bundles
runtimes/<key>/                  a bundle, unpacked; each isolated from the system and from the others
runtimes/<key>.files.json        its files as they were unpacked: path -> [size, SHA-256]
releases/<id>.json               a manifest; its id is the SHA-256 of its canonical JSON
verified/<id>.json               that it was proven here, and in which environment (the facts' fingerprint)
models/<name>/current, previous  symlinks to releases; switch.py changes them
journal                          what switch.py does, step by step
lock                             held by the one session that may change anything
"""

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import stat
import struct
import time
import zipfile
import zlib
from typing import IO, Any, Callable, Dict, Iterable, Iterator, List, Optional, Tuple

from ..errors import AgentError
from ..formats.files import sha256_of
from .atomic import fsync_folder, write_atomic
from .clock import Clock

__all__ = [
    "RUNTIME_LIST",
    "Store",
    "StoreError",
    "default_root",
    "is_safe_name",
    "is_sha",
    "read_small",
    "release_id",
    "release_named",
    "write_small",
]


RUNTIME_LIST = ".files.json"  # behind a runtime's key: the list of its files

_SHA = re.compile(r"[0-9a-f]{64}\Z")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
_MAX_MANIFEST = 1 << 20  # bytes
_MAX_GOLDENS = 1000
_STALE_S = 3600  # seconds after which nobody is still writing a bootstrap's temp file
_MAX_RUNTIME = 2 << 30  # bytes a bundle may unpack to
_MAX_RUNTIME_FILES = 20000
_MAX_LIST = 16 << 20  # bytes of the list of a runtime's files
# What zipfile raises for an archive that is damaged, encrypted, packed in an unknown way, or has unreadable names.
_BAD_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, struct.error)
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR)
_FOLDERS = ("blobs", "runtimes", "releases", "verified", "seals", "trust", "reports", "models", "work")
_SPARE = 8 << 20  # bytes left free for the rest of the device


class StoreError(AgentError):
    """The store can't do what was asked; nothing half-made is left behind."""


def default_root() -> str:
    """Return /var/lib/litefleet where this user may write it, else ~/.local/share/litefleet."""
    system = "/var/lib/litefleet"
    if os.access(system if os.path.isdir(system) else os.path.dirname(system), os.W_OK):
        return system
    return os.path.join(os.path.expanduser("~"), ".local", "share", "litefleet")


def release_id(manifest: Dict[str, Any]) -> str:
    """Return the id of a release: the SHA-256 of its manifest's canonical JSON."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode("utf-8")).hexdigest()


def is_sha(text: Any) -> bool:
    """Say whether `text` is a SHA-256 in lower-case hexadecimal digits."""
    return isinstance(text, str) and bool(_SHA.match(text))


def _sha(text: Any) -> str:
    if not isinstance(text, str) or not is_sha(text):
        raise StoreError("not a SHA-256: %r" % (str(text)[:80],), "bad-request")
    return text


def is_safe_name(text: Any) -> bool:
    """Say whether `text` is a name that can stand in a path."""
    return isinstance(text, str) and bool(_NAME.match(text))


def safe_name(text: Any) -> str:
    """Return `text` when it is a name that can stand in a path; StoreError "bad-request"."""
    if not isinstance(text, str) or not is_safe_name(text):
        raise StoreError("not a plain name: %r" % (str(text)[:80],), "bad-request")
    return text


def needed(manifest: Any) -> List[str]:
    """Return the hashes of the blobs that a manifest names; StoreError "bad-request" for one that is not well formed."""
    model = manifest.get("model") if isinstance(manifest, dict) else None
    if not isinstance(model, dict) or not isinstance(manifest.get("verify"), dict):
        raise StoreError("a release needs the objects model and verify", "bad-request")
    safe_name(model.get("name"))
    golden = manifest.get("golden")
    if not isinstance(golden, list) or not 0 < len(golden) <= _MAX_GOLDENS:
        raise StoreError("a release needs a list of 1 to %d goldens" % _MAX_GOLDENS, "bad-request")
    if len(json.dumps(manifest)) > _MAX_MANIFEST:
        raise StoreError("a release's manifest is over %d bytes" % _MAX_MANIFEST, "bad-request")
    return sorted({_sha(sha) for sha in [model.get("nb")] + golden})


def explain_os_error(error: OSError, action: str) -> StoreError:
    """Return the sentence for what the file system refused."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreError("%s: no space left on the device" % action, "disk-full")
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return StoreError("%s: %s" % (action, error.strerror), "not-writable")
    return StoreError("%s: %s" % (action, error.strerror or error), "io-error")


def _flock(handle: IO[str], timeout_s: float) -> bool:
    """Say whether the lock could be had within `patience_s` seconds."""
    end = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            if time.monotonic() >= end:
                return False
        time.sleep(0.05)


class Store:
    """The agent's folder on the device.  Reading needs no lock; whatever changes it calls `lock()` first."""

    def __init__(self, root: str, clock: Optional[Clock] = None) -> None:
        self.root = root
        self.clock = clock or Clock()
        self._lock: Optional[IO[str]] = None

    def path(self, *parts: str) -> str:
        """Return a path below the root."""
        return os.path.join(self.root, *parts)

    @property
    def locked(self) -> bool:
        """Whether this is the one session that may change the store."""
        return self._lock is not None

    def lock(self, timeout_s: float = 0.3) -> None:
        """Become the one session that may change the store, and clear what a dead one left half-made.

        Sessions call `switch.take`, which also undoes what is overdue.

        `patience_s` outlasts a keeper, which holds it for a moment only.

        Raises StoreError "busy" while another session holds it, "not-writable" where the root can't be written.
        """
        if self._lock is not None:
            return
        try:
            for folder in _FOLDERS:
                os.makedirs(self.path(folder), mode=0o700, exist_ok=True)
            handle = open(self.path("lock"), "a+")  # noqa: SIM115 - held until the session ends
        except OSError as error:
            raise explain_os_error(error, "%s can't be written" % self.root) from error
        if not _flock(handle, timeout_s):
            handle.seek(0)
            owner = handle.read(200).strip() or "an unnamed session"
            handle.close()
            raise StoreError("another controller is at work on this device: %s" % owner, "busy")
        self._lock = handle
        try:
            handle.truncate(0)
            handle.write("pid %d since %s" % (os.getpid(), time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())))
            handle.flush()
        except OSError:
            pass  # a full disk: the lock holds all the same, it only bears no name
        self._clear_unfinished()

    def unlock(self) -> None:
        """Let another session change the store."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _clear_unfinished(self) -> None:
        for folder in _FOLDERS[:-2]:
            for name in os.listdir(self.path(folder)):
                if name.startswith(".tmp-"):
                    self._remove(self.path(folder, name))
        for name in os.listdir(self.path("work")):
            self._remove(self.path("work", name))
        for name in os.listdir(self.path("agent")) if os.path.isdir(self.path("agent")) else ():
            path = self.path("agent", name)  # a bootstrap holds no lock: one may be writing right now
            if name.startswith(".tmp-") and os.lstat(path).st_mtime < time.time() - _STALE_S:
                self._remove(path)

    @staticmethod
    def _remove(path: str) -> None:
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            os.unlink(path)

    # --- blobs

    def blob(self, sha: str) -> str:
        """Return the path of a blob, there or not."""
        return self.path("blobs", _sha(sha))

    def blobs(self) -> Dict[str, int]:
        """Return the blobs that are here with their sizes in bytes."""
        sizes = {}
        for name in self._names("blobs"):
            try:
                status = os.lstat(self.path("blobs", name))
            except OSError:  # another session has just dropped it
                continue
            if _SHA.match(name) and stat.S_ISREG(status.st_mode):
                sizes[name] = status.st_size
        return sizes

    def check_blob(self, sha: str) -> bool:
        """Say whether a blob is here and still holds the bytes that its name promises."""
        try:
            return sha256_of(self.blob(sha)) == sha
        except OSError:
            return False

    def put(self, sha: str, size: int, chunks: Iterable[bytes]) -> None:
        """Store the bytes of `chunks` as the blob `sha`, or leave nothing.

        Raises StoreError: "disk-full" (before the first byte is written, where it can be known), "hash-mismatch", "not-writable".
        """
        target = self.blob(sha)
        self.need_space(size)
        digest = hashlib.sha256()

        def checked() -> Iterator[bytes]:
            for chunk in chunks:
                digest.update(chunk)
                yield chunk
            if digest.hexdigest() != sha:
                raise StoreError(
                    "expected the bytes of %s, got %s" % (sha[:12], digest.hexdigest()[:12]), "hash-mismatch"
                )

        try:
            write_atomic(target, checked())
        except OSError as error:
            raise explain_os_error(error, "the blob %s could not be stored" % sha[:12]) from error

    def need_space(self, size: int) -> None:
        """Raise StoreError "disk-full" when `size` bytes would not fit."""
        free = shutil.disk_usage(self.root).free
        if size + _SPARE > free:
            raise StoreError(
                "%d bytes are to be stored under %s, where %d are free" % (size, self.root, free), "disk-full"
            )

    # --- runtimes

    def runtimes(self) -> List[str]:
        """Return the keys of the runtimes that are unpacked here."""
        names = self._names("runtimes")
        return [n for n in names if _NAME.match(n) and os.path.isdir(self.path("runtimes", n))]

    def runtime_files(self, key: str) -> Optional[Dict[str, Any]]:
        """Return the files of a runtime as they were unpacked: path -> [size, SHA-256]; None when nobody took them down."""
        try:
            with open(self.path("runtimes", safe_name(key) + RUNTIME_LIST), "rb") as file:
                value = json.loads(file.read(_MAX_LIST).decode("utf-8"))
        except (OSError, ValueError):
            return None
        return value if isinstance(value, dict) else None

    def unpack_runtime(self, key: str, sha: str) -> None:
        """Unpack the bundle `sha` as runtime `key`, whole or not at all; the bundle's blob is dropped afterwards."""
        target = self.path("runtimes", safe_name(key))
        if key == "system":
            raise StoreError("system is the name of what the device itself has; no bundle may take it", "bad-request")
        if key.endswith(RUNTIME_LIST):
            raise StoreError("no runtime's key may end with %s" % RUNTIME_LIST, "bad-request")
        if os.path.isdir(target):
            return
        temp = self.path("runtimes", ".tmp-%s-%d" % (key, os.getpid()))
        try:
            with zipfile.ZipFile(self.blob(sha)) as bundle:
                files = self._extract(bundle, temp)
            self._write_json("runtimes", key + RUNTIME_LIST[: -len(".json")], files)  # first: no runtime without a list
            os.replace(temp, target)
            fsync_folder(self.path("runtimes"))
            os.unlink(self.blob(sha))
        except _BAD_ZIP as error:
            raise StoreError("the runtime bundle %s can't be unpacked: %s" % (sha[:12], error), "bad-request") from None
        except FileNotFoundError:
            raise StoreError("the runtime bundle %s is not on this device" % sha[:12], "missing") from None
        except OSError as error:
            raise explain_os_error(error, "the runtime %s could not be unpacked" % key[:12]) from error
        finally:
            shutil.rmtree(temp, ignore_errors=True)

    def _extract(self, bundle: zipfile.ZipFile, temp: str) -> Dict[str, Any]:
        members = bundle.infolist()
        total = sum(m.file_size for m in members)
        if total > _MAX_RUNTIME or len(members) > _MAX_RUNTIME_FILES:
            raise StoreError(
                "the runtime bundle unpacks to %d bytes in %d files: too large" % (total, len(members)), "bad-request"
            )
        self.need_space(total)
        os.mkdir(temp, 0o700)
        for member in members:
            parts = member.filename.split("/")
            if member.filename.startswith("/") or ".." in parts or "\\" in member.filename:
                raise StoreError("the runtime bundle holds the unsafe path %r" % member.filename[:80], "bad-request")
            bundle.extract(member, temp)  # a symlink entry comes out as a plain file, never as a link
        written = {}
        for folder, _, files in os.walk(temp):
            for name in files:
                path = os.path.join(folder, name)
                written[os.path.relpath(path, temp)] = self._sync_file(path)
            fsync_folder(folder)
        return written

    @staticmethod
    def _sync_file(path: str) -> List[Any]:
        """Make a file durable and return its size and SHA-256."""
        with open(path, "rb", buffering=0) as file:
            digest = sha256_of(file.fileno())
            os.fsync(file.fileno())
            return [file.tell(), digest]

    # --- releases

    def write_release(self, manifest: Dict[str, Any], admit: Optional[Callable[[str], None]] = None) -> str:
        """Keep a manifest whose blobs and runtime are here and return its id.

        `admit` is called with the id before the manifest is written, and what it raises keeps the release out.  Raises
        StoreError "missing" naming what is not here, "hash-mismatch" when a blob no longer holds what it should.
        """
        for sha in needed(manifest):
            self._need_blob(sha)
        key = safe_name(manifest.get("runtime"))
        if key != "system" and not os.path.isdir(self.path("runtimes", key)):
            raise StoreError("the runtime %s is not on this device" % key[:12], "missing")
        identity = release_id(manifest)
        if admit is not None:
            admit(identity)
        self._write_json("releases", identity, manifest)
        return identity

    def _need_blob(self, sha: str) -> None:
        """Raise StoreError unless a blob is here and whole; a damaged one is dropped, so that the next run sends it anew."""
        if self.check_blob(sha):
            return
        if not os.path.exists(self.blob(sha)):
            raise StoreError("the blob %s is not on this device" % sha[:12], "missing")
        os.unlink(self.blob(sha))
        raise StoreError("the blob %s no longer holds the bytes that were sent" % sha[:12], "hash-mismatch")

    def release(self, identity: str) -> Dict[str, Any]:
        """Return a release's manifest; StoreError "missing" when it is not here."""
        manifest = self._read_json("releases", _sha(identity))
        if manifest is None:
            raise StoreError("the release %s is not on this device" % identity[:12], "missing")
        if release_id(manifest) != identity:
            raise StoreError("the release %s no longer says what was sent" % identity[:12], "hash-mismatch")
        return manifest

    def set_verified(self, identity: str, record: Dict[str, Any]) -> None:
        """Record that a release was proven here (`record`: `fingerprint`, `at`, `measurements`)."""
        self._write_json("verified", _sha(identity), record)

    def clear_verified(self, identity: str) -> None:
        """Forget that a release was proven: the latest run did not."""
        path = self.path("verified", _sha(identity) + ".json")
        if os.path.exists(path):
            os.unlink(path)

    def verified(self, identity: str) -> Optional[Dict[str, Any]]:
        """Return the record of a release's latest proof, or None."""
        return self._read_json("verified", _sha(identity))

    def verified_releases(self) -> List[str]:
        """Return the ids of the releases that have a record of their proof."""
        ids = [os.path.splitext(name)[0] for name in self._names("verified")]
        return [identity for identity in ids if _SHA.match(identity)]

    def current(self) -> Dict[str, str]:
        """Return the current release of each model: name -> release id."""
        return self.links("current")

    def links(self, link: str) -> Dict[str, str]:
        """Return the release that "current" or "previous" of each model points to: name -> release id."""
        links = {}
        for name in self._names("models"):
            identity = self.link(name, link) if _NAME.match(name) else ""  # else somebody else made it
            if identity:
                links[name] = identity
        return links

    def link(self, model: str, name: str) -> str:
        """Return the release that a model's link ("current", "previous") points to, or "" for none.

        Raises StoreError when that can't be told.
        """
        try:
            target = os.readlink(self.path("models", safe_name(model), name))
        except OSError as error:
            if error.errno not in (*_NOT_THERE, errno.EINVAL):
                raise explain_os_error(error, "models/%s/%s can't be read" % (model, name)) from error
            return ""
        identity, ending = os.path.splitext(os.path.basename(target))
        return identity if ending == ".json" and _SHA.match(identity) else ""  # else somebody else made it

    # --- small helpers

    def _names(self, folder: str) -> List[str]:
        try:
            return sorted(n for n in os.listdir(self.path(folder)) if not n.startswith("."))
        except OSError as error:
            if error.errno not in _NOT_THERE:
                raise explain_os_error(error, "the folder %s can't be read" % folder) from error
            return []

    def _write_json(self, folder: str, identity: str, value: Dict[str, Any]) -> None:
        data = json.dumps(value, sort_keys=True, separators=(",", ":")).encode("utf-8")
        try:
            write_atomic(self.path(folder, identity + ".json"), [data])
        except OSError as error:
            raise explain_os_error(error, "%s/%s.json could not be written" % (folder, identity[:12])) from error

    def _read_json(self, folder: str, identity: str) -> Optional[Dict[str, Any]]:
        try:
            with open(self.path(folder, identity + ".json"), "rb") as file:
                value = json.loads(file.read(1 << 20).decode("utf-8"))
        except (OSError, ValueError):
            return None
        return value if isinstance(value, dict) else None


_LEAST_DIGITS = 8
_LINKS = ("current", "previous")


def release_named(store: Store, model: Any, word: Any = None) -> str:
    """Return the id that "current" (or None), "previous", an id or the beginning of one stands for.

    Raises StoreError: "not-current" for a model without a current release, "not-kept" for one that is not here or was not
    proven here, "bad-request".
    """
    name = safe_name(model)
    if word is None and name not in store.current():
        others = ", ".join(sorted(store.current())) or "nothing"
        message = "no release of %s is current on this device, which runs %s: roll it out first" % (name, others)
        raise StoreError(message, "not-current")
    if word is None or word in _LINKS:
        identity = store.link(name, word or "current")
        if not identity:
            raise StoreError("%s has no %s release on this device" % (name, word), "not-kept")
        return identity
    if not isinstance(word, str) or not _LEAST_DIGITS <= len(word) <= 64:
        wanted = "a release is named by its id (%d digits of it will do), by current or by previous" % _LEAST_DIGITS
        raise StoreError(wanted, "bad-request")
    matches = {
        identity for identity in store.verified_releases() + list(store.current().values()) if identity.startswith(word)
    }
    if len(matches) != 1:
        message = "more than one release begins with %s" if matches else "no release %s was proven on this device"
        raise StoreError(message % word[:12], "not-kept")
    identity = matches.pop()
    owner = store.release(identity)["model"]["name"]
    if owner != name:
        raise StoreError("%s is a release of %s, not of %s" % (identity[:12], owner, name), "bad-request")
    return identity


_MOST = 1 << 20  # bytes


def write_small(store: Store, parts: Tuple[str, str], data: bytes) -> None:
    """Write the file `parts` (folder, name) below the root; StoreError when it can't be."""
    path = store.path(*parts)
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        write_atomic(path, [data])
    except OSError as error:
        raise explain_os_error(error, "%s could not be written" % "/".join(parts)) from error


def read_small(store: Store, folder: str, name: str) -> Optional[Dict[str, Any]]:
    """Return the JSON object in a file below the root; None when there is none that can be read."""
    try:
        with open(store.path(folder, name), "rb") as file:
            value = json.loads(file.read(_MOST).decode("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
