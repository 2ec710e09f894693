"""What a device keeps: blobs by hash, runtimes, releases, and which release of a model is current.

blobs/<sha256>                   models, goldens, runtime bundles
runtimes/<key>/                  a bundle, unpacked; each isolated from the system and from the others
runtimes/<key>.files.json        its files as they were unpacked: path -> [size, SHA-256]
releases/<id>.json               a manifest; its id is the SHA-256 of its canonical JSON
verified/<id>.json               the record of the release's latest verification on this device
models/<name>/current, previous  symlinks to releases; activation.py changes them
journal, lock                    the steps of activation.py; held by the one session that may change anything
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time

from ..bytecode import sha256
from ..errors import AgentError
from ..formats.checked import is_safe_name, is_sha, items, mapping, number_or
from ..formats.files import FileStamp, exceeded_limit, free_bytes, read_regular, sha256_of
from ..formats.light import NamedTuple, contextmanager, dumps, loads
from .atomic import write_atomic
from .lease import Clock

TYPE_CHECKING = False  # known to type checkers; loading typing takes a third of a session's start
if TYPE_CHECKING:
    from typing import IO, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Tuple

_MAX_JSON = 1 << 20  # bytes of a manifest or of another small file
_MAX_GOLDENS, _STALE_S = 1000, 3600  # _STALE_S: seconds after which a bootstrap that wrote a temporary file has ended
_NOT_FOUND = (errno.ENOENT, errno.ENOTDIR)
_FOLDERS = ("blobs", "runtimes", "releases", "verified", "seals", "trust", "reports", "models", "work")
SPARE = 8 << 20  # bytes left free for the rest of the device
PART = ".tmp-part-"  # begins the name of a blob's first bytes
_PART_S = 7 * 86400  # seconds that these wait for the rest


class StoreError(AgentError):
    """The store cannot carry out a request; nothing half-made is kept."""


def default_root() -> str:
    """Return /var/lib/litefleet where this user may write it, else ~/.local/share/litefleet."""
    system = "/var/lib/litefleet"
    if os.access(system if os.path.isdir(system) else os.path.dirname(system), os.W_OK):
        return system
    return os.path.join(os.path.expanduser("~"), ".local", "share", "litefleet")


def release_id(document: Mapping[str, object]) -> str:
    """Return the id of a release: the SHA-256 of its manifest's canonical JSON."""
    return sha256(dumps(document).encode("utf-8")).hexdigest()


def _sha(text: object) -> str:
    if not isinstance(text, str) or not is_sha(text):
        raise StoreError("not a SHA-256: %r" % (str(text)[:80],), "bad-request")
    return text


def safe_name(text: object) -> str:
    """Return `text` when it is a name that can be part of a path.  Raises StoreError "bad-request"."""
    if not isinstance(text, str) or not is_safe_name(text):
        raise StoreError("not a plain name: %r" % (str(text)[:80],), "bad-request")
    return text


class Manifest(NamedTuple):
    """A release's manifest, well formed."""

    model: str  # name
    nb: str  # SHA-256 of the .nb file
    goldens: Tuple[str, ...]  # SHA-256 of .npz files, one per case
    runtime: str  # key, or "system" for what the device's own Python has
    verify: Dict[str, object]  # the options of its verification, as VerifySpec.from_dict reads them
    document: Dict[str, object]  # the JSON object as it was sent, of which the release's id is the hash

    @property
    def outputs(self) -> object:
        """How outputs are compared, by name, as `ModelComparison.parse` reads it; None where the release does not say.

        It stands beside `verify`, which agents before it would reject for an unknown field: they compare as tensors.
        """
        return self.document.get("outputs")

    @property
    def engine(self) -> object:
        """What is asked of the engine, as `EngineSettings.parse` reads it; it stands beside `verify` for the same reason."""
        return self.document.get("engine")

    @property
    def blobs(self) -> List[str]:
        """The hashes of the blobs that it needs, each once, sorted."""
        return sorted({self.nb, *self.goldens})

    @classmethod
    def parse(cls, document: object) -> "Manifest":
        """Read the JSON form.  Raises StoreError "bad-request" for one that is not well formed."""
        fields = document if isinstance(document, dict) else {}
        model, verify = fields.get("model"), fields.get("verify")
        if not isinstance(model, dict) or not isinstance(verify, dict):
            raise StoreError("a release needs the objects model and verify", "bad-request")
        try:
            goldens = items(fields.get("golden"), _MAX_GOLDENS, least=1)
        except ValueError:
            raise StoreError("a release needs a list of 1 to %d goldens" % _MAX_GOLDENS, "bad-request") from None
        if len(dumps(fields, ", ", ": ")) > _MAX_JSON:
            raise StoreError("a release's manifest is over %d bytes" % _MAX_JSON, "bad-request")
        name = safe_name(model.get("name"))
        nb, shas = _sha(model.get("nb")), tuple(_sha(golden) for golden in goldens)
        return cls(name, nb, shas, safe_name(fields.get("runtime")), mapping(verify), mapping(fields))


class VerificationRecord(NamedTuple):
    """That a release was verified on this device, and in which environment."""

    fingerprint: str  # of the facts, as `facts.fingerprint` gives it
    at: float  # seconds since the epoch
    measurements: Dict[str, object]  # as `Measurements.to_dict` gives them
    files: Mapping[str, FileStamp] = {}  # SHA-256 -> its blob when it was verified; older agents recorded none

    @classmethod
    def parse(cls, data: Mapping[str, object]) -> "VerificationRecord":
        """Read the JSON form; what is missing or not well formed becomes "", 0 or {}."""
        fingerprint, measurements, files = data.get("fingerprint"), data.get("measurements"), data.get("files")
        stamps = {sha: FileStamp.parse(value) for sha, value in files.items()} if isinstance(files, dict) else {}
        return cls(
            fingerprint if isinstance(fingerprint, str) else "",
            number_or(0, data.get("at"), 0, 1e11),
            measurements if isinstance(measurements, dict) else {},
            {sha: stamp for sha, stamp in stamps.items() if stamp is not None},
        )

    def to_dict(self) -> Dict[str, object]:
        """Return the JSON form on the disk."""
        return dict(self._asdict(), files=dict(self.files))

    def to_wire(self) -> Dict[str, object]:
        """Return the JSON form that a controller receives: {fingerprint, at, measurements}."""
        return {"fingerprint": self.fingerprint, "at": self.at, "measurements": self.measurements}


def explain_os_error(error: OSError, action: str) -> StoreError:
    """Return the error for what the file system refused: "disk-full", "not-writable" or "io-error".

    `action` is the beginning of the sentence: "the blob 0123 cannot be stored".
    """
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreError("%s: no space left on the device" % action, "disk-full")
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return StoreError("%s: %s" % (action, error.strerror), "not-writable")
    limit = exceeded_limit(error)
    if limit:
        return StoreError("%s: %s (%s)" % (action, error.strerror, limit), "limit")
    return StoreError("%s: %s" % (action, error.strerror or error), "io-error")


def _flock(handle: IO[str], timeout_s: float) -> bool:
    """Return whether the lock was acquired within `timeout_s` seconds."""
    end = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            if time.monotonic() >= end:
                return False
        time.sleep(0.05)


_SWITCH_LOCK = "switch.lock"  # also in the file `lock`: its owner takes the switch lock
_SWITCH_TIMEOUT_S = 10.0  # a switch takes four fsyncs, of up to 2 s each on a slow SD card


class Store:
    """The agent's folder on the device.  Reading needs no lock; a caller that changes something calls `lock()` first."""

    def __init__(self, root: str, clock: Optional[Clock] = None) -> None:
        self.root = root
        self.clock = clock or Clock()
        self._lock: Optional[IO[str]] = None
        self._switching = False

    def path(self, *parts: str) -> str:
        """Return a path below the root."""
        return os.path.join(self.root, *parts)

    @property
    def locked(self) -> bool:
        """Whether this is the one session that may change the store."""
        return self._lock is not None

    def lock(self, timeout_s: float = 0.3) -> None:
        """Acquire the lock of the one session that may change the store, and remove what a dead session left half-made.

        Sessions call `activation.lock_and_recover`, which also undoes what is overdue.  The default timeout is longer than the
        lease watchdog ever holds the lock.

        Raises StoreError "busy" while another session holds it, "not-writable" where the root cannot be written.
        """
        if self._lock is not None:
            return
        try:
            for folder in _FOLDERS:
                os.makedirs(self.path(folder), mode=0o700, exist_ok=True)
            handle = open(self.path("lock"), "a+")  # noqa: SIM115 - held until the session ends
        except OSError as error:
            raise explain_os_error(error, "%s cannot be written" % self.root) from error
        if not _flock(handle, timeout_s):
            handle.seek(0)
            owner = handle.readline(200).strip() or "an unnamed session"
            handle.close()
            raise StoreError("another controller is at work on this device: %s" % owner, "busy")
        self._lock = handle
        try:
            handle.truncate(0)
            since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            handle.write("pid %d since %s\n%s\n" % (os.getpid(), since, _SWITCH_LOCK))
            handle.flush()
            open(self.path(_SWITCH_LOCK), "a").close()  # now, while there is space for it
        except OSError:
            pass  # a full disk: the lock holds, only its owner is not named
        self._clear_unfinished()

    def unlock(self) -> None:
        """Release the lock."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    @contextmanager
    def switching(self, timeout_s: float = _SWITCH_TIMEOUT_S) -> Iterator[None]:
        """Hold the lock that guards the journal and the models' links, for one switch or revert.  Reentrant.

        A whole session never holds it: one that hangs would keep an expired lease from being reverted.
        Raises OSError; StoreError "busy" when another process holds it for `timeout_s` seconds.
        """
        if self._switching:
            yield
            return
        with open(self.path(_SWITCH_LOCK), "a") as handle:
            if not _flock(handle, timeout_s):
                raise StoreError("another process has been switching a release for %g s" % timeout_s, "busy")
            self._switching = True
            try:
                yield
            finally:
                self._switching = False

    def switched_by_old_agent(self) -> bool:
        """Whether a session of an agent without the switch lock is at work: it switches under the session's lock alone."""
        try:
            with open(self.path("lock"), "a+") as handle:
                if _flock(handle, 0):
                    return False
                handle.seek(0)
                owner = handle.read(200)
        except OSError:
            return False
        return bool(owner) and _SWITCH_LOCK not in owner

    def _clear_unfinished(self) -> None:
        now = time.time()
        for folder in _FOLDERS[:-2]:
            for name in os.listdir(self.path(folder)):
                path = self.path(folder, name)
                waits = name.startswith(PART) and os.lstat(path).st_mtime > now - _PART_S
                if name.startswith(".tmp-") and not waits:
                    self._remove(path)
        for name in os.listdir(self.path("work")):
            self._remove(self.path("work", name))
        for name in os.listdir(self.path("agent")) if os.path.isdir(self.path("agent")) else ():
            path = self.path("agent", name)  # a bootstrap holds no lock and may be writing now
            if name.startswith(".tmp-") and os.lstat(path).st_mtime < now - _STALE_S:
                self._remove(path)

    @staticmethod
    def _remove(path: str) -> None:
        if os.path.isdir(path) and not os.path.islink(path):
            import shutil  # it loads bz2 and lzma, which most sessions do not need

            shutil.rmtree(path, ignore_errors=True)
            return
        try:
            os.unlink(path)
        except OSError as error:
            if error.errno != errno.EROFS:  # the service's unit has these folders read-only; a session removes it
                raise

    # --- blobs

    def blob(self, sha: str) -> str:
        """Return the path of a blob, whether it exists or not.  Raises StoreError "bad-request" for what is no SHA-256."""
        return self.path("blobs", _sha(sha))

    def blobs(self, prefix: str = "") -> Dict[str, int]:
        """Return the stored blobs, with `PART` those of which not all has come: SHA-256 -> bytes that are here."""
        sizes = {}
        for name in self._names("blobs", prefix):
            try:
                status = os.lstat(self.path("blobs", prefix + name))
            except OSError:  # another session has just removed it
                continue
            if is_sha(name) and stat.S_ISREG(status.st_mode):
                sizes[name] = status.st_size
        return sizes

    def check_blob(self, sha: str) -> bool:
        """Return whether a blob is stored and its bytes still have the hash that names it; reads them all."""
        try:
            return sha256_of(self.blob(sha)) == sha
        except OSError:
            return False

    def put(self, sha: str, size: int, chunks: Iterable[bytes]) -> None:
        """Store the bytes of `chunks`, `size` in all, as the blob `sha`, or nothing.

        Raises StoreError: "disk-full" (before the first byte where the free space is known), "hash-mismatch", "not-writable".
        """
        target = self.blob(sha)
        self.need_space(size)
        from hashlib import sha256  # not the one for what is short

        digest = sha256()

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
            raise explain_os_error(error, "the blob %s cannot be stored" % sha[:12]) from error

    def need_space(self, size: int) -> None:
        """Raise StoreError "disk-full" unless `size` bytes fit and 8 MiB stay free for the rest of the device."""
        free = free_bytes(self.root)
        if size + SPARE > free:
            raise StoreError(
                "%d bytes are to be stored under %s, where %d are free" % (size, self.root, free), "disk-full"
            )

    def runtimes(self) -> List[str]:
        """Return the keys of the runtimes that are unpacked here."""
        names = self._names("runtimes")
        return [n for n in names if is_safe_name(n) and os.path.isdir(self.path("runtimes", n))]

    # --- releases

    def write_release(self, document: Mapping[str, object], admit: Optional[Callable[[str], None]] = None) -> str:
        """Store a manifest whose blobs and runtime are here, and return its id.

        `admit` is called with the id before the manifest is written; an error that it raises keeps the release out.  Raises
        StoreError "bad-request", "missing" for a blob or runtime that is not here, "hash-mismatch" for a damaged blob.
        """
        manifest = Manifest.parse(document)
        for sha in manifest.blobs:
            self._require_blob(sha)
        if manifest.runtime != "system" and not os.path.isdir(self.path("runtimes", manifest.runtime)):
            raise StoreError("the runtime %s is not on this device" % manifest.runtime[:12], "missing")
        identity = release_id(manifest.document)
        if admit is not None:
            admit(identity)
        self.write_json("releases", identity, manifest.document)
        return identity

    def _require_blob(self, sha: str) -> None:
        """Raise StoreError unless a blob is here and whole; a damaged one is removed, so that the next run sends it again."""
        if self.check_blob(sha):
            return
        if not os.path.lexists(self.blob(sha)):
            raise StoreError("the blob %s is not on this device" % sha[:12], "missing")
        os.unlink(self.blob(sha))
        raise StoreError("the blob %s no longer holds the bytes that were sent" % sha[:12], "hash-mismatch")

    def release(self, identity: str) -> Manifest:
        """Return a release's manifest.

        Raises StoreError "missing" when it is not here, "hash-mismatch" when it is damaged, "bad-request" when an older agent
        stored one that is not well formed.
        """
        document = read_small(self, "releases", _sha(identity) + ".json")
        if document is None:
            raise StoreError("the release %s is not on this device" % identity[:12], "missing")
        if release_id(document) != identity:
            raise StoreError("the release %s no longer says what was sent" % identity[:12], "hash-mismatch")
        return Manifest.parse(document)

    def record_verification(
        self,
        identity: str,
        fingerprint: str,
        measurements: Optional[Dict[str, object]] = None,
        at: Optional[float] = None,
        keep_measurements: bool = False,
        files: Optional[Mapping[str, FileStamp]] = None,
    ) -> VerificationRecord:
        """Record durably that a release was verified here, in the environment of `fingerprint`, at `at` (None: now).

        With `keep_measurements`, those of an earlier verification in the same environment stay: a proof beside the running
        service has less of the CPU.  `files` are the stamps of its blobs from before they were read.  Raises StoreError when the
        record cannot be written.
        """
        earlier = self.verified(identity)
        if keep_measurements and earlier is not None and earlier.fingerprint == fingerprint and earlier.measurements:
            measurements = earlier.measurements
        now = int(self.clock.wall()) if at is None else at
        record = VerificationRecord(fingerprint, now, measurements or {}, files or {})
        self.write_json("verified", _sha(identity), record.to_dict())
        return record

    def clear_verified(self, identity: str) -> None:
        """Remove the record of a release's verification: the latest one failed."""
        path = self.path("verified", _sha(identity) + ".json")
        if os.path.lexists(path):
            os.unlink(path)

    def verified(self, identity: str) -> Optional[VerificationRecord]:
        """Return the record of a release's latest verification; None when it was not verified here."""
        data = read_small(self, "verified", _sha(identity) + ".json")
        return None if data is None else VerificationRecord.parse(data)

    def verified_releases(self) -> List[str]:
        """Return the ids of the releases that have a record of their verification."""
        ids = [os.path.splitext(name)[0] for name in self._names("verified")]
        return [identity for identity in ids if is_sha(identity)]

    def current(self) -> Dict[str, str]:
        """Return the current release of each model: name -> release id."""
        return self.links("current")

    def links(self, link: str) -> Dict[str, str]:
        """Return the release that "current" or "previous" of each model points to: name -> release id."""
        links = {}
        for name in self._names("models"):
            identity = self.link(name, link) if is_safe_name(name) else ""  # else it is not litefleet's
            if identity:
                links[name] = identity
        return links

    def link(self, model: str, name: str) -> str:
        """Return the release that a model's link ("current", "previous") points to, or "" for none.

        Raises StoreError when the link cannot be read.
        """
        try:
            target = os.readlink(self.path("models", safe_name(model), name))
        except OSError as error:
            if error.errno not in (*_NOT_FOUND, errno.EINVAL):
                raise explain_os_error(error, "models/%s/%s cannot be read" % (model, name)) from error
            return ""
        identity, ending = os.path.splitext(os.path.basename(target))
        return identity if ending == ".json" and is_sha(identity) else ""  # else it is not litefleet's

    def _names(self, folder: str, prefix: str = "") -> List[str]:
        try:
            names = [n[len(prefix) :] for n in os.listdir(self.path(folder)) if n.startswith(prefix)]
            return sorted(n for n in names if not n.startswith("."))
        except OSError as error:
            if error.errno not in _NOT_FOUND:
                raise explain_os_error(error, "the folder %s cannot be read" % folder) from error
            return []

    def write_json(self, folder: str, name: str, value: Mapping[str, object]) -> None:
        """Write `<folder>/<name>.json`, canonical, whole and durably.  Raises StoreError."""
        data = dumps(value).encode("utf-8")
        try:
            write_atomic(self.path(folder, name + ".json"), [data])
        except OSError as error:
            raise explain_os_error(error, "%s/%s.json cannot be written" % (folder, name[:12])) from error


def write_small(store: Store, parts: Tuple[str, str], data: bytes) -> None:
    """Write the file `parts` (folder, name) below the root, whole and durably.  Raises StoreError."""
    path = store.path(*parts)
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        write_atomic(path, [data])
    except OSError as error:
        raise explain_os_error(error, "%s cannot be written" % "/".join(parts)) from error


def read_small(store: Store, folder: str, name: str, most: int = _MAX_JSON) -> Optional[Dict[str, object]]:
    """Return the JSON object in the first `most` bytes of a file below the root; None when there is no readable one."""
    try:
        value = loads(read_regular(store.path(folder, name), most).decode("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
