"""Paddle-Lite runtimes on the device: unpacks a bundle whole or not at all, lists its files, drops it."""

import os
import shutil
import struct
import zipfile
import zlib
from typing import Dict, NamedTuple, Optional

from ..formats.files import sha256_of
from .atomic import fsync_folder
from .store import Store, StoreError, explain_os_error, read_small, safe_name

RUNTIME_LIST = ".files.json"  # follows a runtime's key in the name of the list of its files
_MAX_UNPACKED = 2 << 30  # bytes
_MAX_FILES = 20000
_MAX_LIST = 16 << 20  # bytes of the list of a runtime's files
# What zipfile raises for an archive that is damaged, encrypted, packed in an unknown way, or has unreadable names.
_BAD_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, IndexError, struct.error)


class RuntimeFile(NamedTuple):
    """A file of a runtime as it was unpacked."""

    size: int  # bytes; -1 where the list is not well formed, so that no file matches
    sha256: str


def runtime_files(store: Store, key: str) -> Optional[Dict[str, RuntimeFile]]:
    """Return the files of a runtime as they were unpacked, by relative path; None when an old agent wrote no list."""
    data = read_small(store, "runtimes", safe_name(key) + RUNTIME_LIST, _MAX_LIST)
    return None if data is None else {path: _runtime_file(entry) for path, entry in data.items()}


def _runtime_file(entry: object) -> RuntimeFile:
    if isinstance(entry, list) and len(entry) == 2 and type(entry[0]) is int and isinstance(entry[1], str):
        return RuntimeFile(entry[0], entry[1])
    return RuntimeFile(-1, "")


def unpack_runtime(store: Store, key: str, sha: str) -> None:
    """Unpack the bundle `sha` as runtime `key`, whole or not at all; the bundle's blob is removed afterwards.

    Nothing happens when the runtime exists.  Raises StoreError: "bad-request" for a key or bundle that is not usable, "missing",
    "disk-full", "not-writable".
    """
    target = store.path("runtimes", safe_name(key))
    if key == "system":
        raise StoreError("system is the name of what the device itself has; no bundle may take it", "bad-request")
    if key.endswith(RUNTIME_LIST):
        raise StoreError("no runtime's key may end with %s" % RUNTIME_LIST, "bad-request")
    if os.path.isdir(target):
        return
    temp = store.path("runtimes", ".tmp-%s-%d" % (key, os.getpid()))
    try:
        with zipfile.ZipFile(store.blob(sha)) as bundle:
            files = _extract(store, bundle, temp)
        store.write_json("runtimes", key + RUNTIME_LIST[: -len(".json")], files)  # first: no runtime without a list
        os.replace(temp, target)
        fsync_folder(store.path("runtimes"))
        os.unlink(store.blob(sha))
    except _BAD_ZIP as error:
        raise StoreError("the runtime bundle %s cannot be unpacked: %s" % (sha[:12], error), "bad-request") from None
    except FileNotFoundError:
        raise StoreError("the runtime bundle %s is not on this device" % sha[:12], "missing") from None
    except OSError as error:
        raise explain_os_error(error, "the runtime %s cannot be unpacked" % key[:12]) from error
    finally:
        shutil.rmtree(temp, ignore_errors=True)


def _extract(store: Store, bundle: zipfile.ZipFile, temp: str) -> Dict[str, RuntimeFile]:
    members = bundle.infolist()
    total = sum(m.file_size for m in members)
    if total > _MAX_UNPACKED or len(members) > _MAX_FILES:
        raise StoreError(
            "the runtime bundle unpacks to %d bytes in %d files: too large" % (total, len(members)), "bad-request"
        )
    store.need_space(total)
    os.mkdir(temp, 0o700)
    for member in members:
        parts = member.filename.split("/")
        if not member.filename or member.filename.startswith("/") or ".." in parts or "\\" in member.filename:
            raise StoreError("the runtime bundle holds the unsafe path %r" % member.filename[:80], "bad-request")
        bundle.extract(member, temp)  # a symlink entry comes out as a plain file, never as a link
    written = {}
    for folder, _, files in os.walk(temp):
        for name in files:
            path = os.path.join(folder, name)
            written[os.path.relpath(path, temp)] = _sync_file(path)
        fsync_folder(folder)
    return written


def _sync_file(path: str) -> RuntimeFile:
    """Make a file durable and return its size and hash."""
    with open(path, "rb", buffering=0) as file:
        digest = sha256_of(file.fileno())
        os.fsync(file.fileno())
        return RuntimeFile(file.tell(), digest)


def drop_runtime(store: Store, key: str) -> None:
    """Remove an unpacked runtime, first by one rename: half of one never has its name.  Raises OSError."""
    temp = store.path("runtimes", ".tmp-gone-%s-%d" % (key, os.getpid()))
    shutil.rmtree(temp, ignore_errors=True)
    os.rename(store.path("runtimes", key), temp)
    fsync_folder(store.path("runtimes"))
    shutil.rmtree(temp, ignore_errors=True)
