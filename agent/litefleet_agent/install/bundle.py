"""A bundle file: releases with all that they need in one ZIP.  Bounded in every direction, and believed only by its hashes.

index.json          {schema, created, fleet, releases: [{manifest, sealed, kind}], blobs, runtimes, agent}
index.json.sig      its SSH signature, namespace "litefleet-bundle"; absent in an unsigned bundle
blobs/<sha256>      models, goldens and packed runtimes
agent/<sha256>.pyz  the agent
"""

import errno
import hashlib
import json
import struct
import zipfile
import zlib
from typing import Any, Dict, Iterator, NamedTuple, Tuple

from ..releases.store import StoreError, is_sha, needed, release_id, safe_name

__all__ = ["Bundle", "Offer", "damaged"]

_MAX_INDEX = 16 << 20  # bytes
_MAX_SIGNATURE = 64 << 10
_MAX_MEMBERS = 100000
_MAX_AGENT = 16 << 20
_MAX_RELEASES = 10000
_MAX_BLOB = 2 << 30
_CHUNK = 1 << 20
_BAD_ZIP = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    RuntimeError,
    ValueError,
    struct.error,
    NotImplementedError,
    OverflowError,
    KeyError,
)


def damaged(why: Any) -> StoreError:
    """Return the error for a bundle that is not whole."""
    return StoreError("the bundle is damaged: %s" % str(why)[:300], "bundle-damaged")


class Offer(NamedTuple):
    """One release that a bundle holds."""

    identity: str
    model: str
    manifest: Dict[str, Any]
    signed: Any
    kind: str  # "x86_64 cp310 glibc 2.36": the devices it is for
    blobs: Tuple[str, ...]
    runtime: str


class Bundle:
    """An open bundle file; its index has been read and is well formed.  Raises StoreError "bundle-damaged" throughout."""

    def __init__(self, path: str) -> None:
        try:
            self._zip = zipfile.ZipFile(path)
        except OSError as error:
            if error.errno == errno.EINVAL:  # a seek to nowhere
                raise damaged(error) from None
            raise StoreError("%s can't be read: %s" % (path, error.strerror or error), "bad-request") from error
        except _BAD_ZIP as error:
            raise damaged(error) from None
        try:
            self._read_index()
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self) -> "Bundle":
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def _read_index(self) -> None:
        if len(self._zip.infolist()) > _MAX_MEMBERS:
            raise damaged("it has over %d parts" % _MAX_MEMBERS)
        self.index_bytes = self._small("index.json", _MAX_INDEX)
        signed = "index.json.sig" in self._zip.namelist()
        data = self._small("index.json.sig", _MAX_SIGNATURE) if signed else b""
        self.signature = data.decode("ascii", "replace")
        try:
            self._parse_index(json.loads(self.index_bytes.decode("utf-8")))
        except StoreError as error:
            raise damaged("its index is not well formed: %s" % error) from None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise damaged("its index is not well formed: %r" % (error,)) from None

    def _parse_index(self, index: Any) -> None:
        if index["schema"] != 1:
            raise ValueError("schema %r" % (index["schema"],))
        self.fleet = _text(index["fleet"])
        self.agent = index["agent"] if is_sha(index.get("agent")) else ""
        self._sizes = {sha: _size(size) for sha, size in index["blobs"].items() if is_sha(sha)}
        self.runtimes: Dict[str, Tuple[str, int]] = {}  # key -> SHA-256 of the packed one, bytes unpacked
        for key, entry in index["runtimes"].items():
            if not is_sha(entry["sha256"]):
                raise ValueError("a runtime without a hash")
            self._sizes[entry["sha256"]] = _size(entry["size"])
            self.runtimes[safe_name(key)] = (entry["sha256"], _size(entry["unpacked"]))
        if not 0 < len(index["releases"]) <= _MAX_RELEASES:
            raise ValueError("%d releases" % len(index["releases"]))
        self.offers = [_offer(release) for release in index["releases"]]

    def size(self, sha: str) -> int:
        """Return the bytes of a part as the index names them."""
        if sha not in self._sizes:
            raise damaged("its index does not name %s" % sha[:12])
        return self._sizes[sha]

    def chunks(self, sha: str) -> Iterator[bytes]:
        """Yield the bytes of the blob `sha`, never more than the index names."""
        yield from self._chunks("blobs/" + sha, self.size(sha))

    def check(self, sha: str) -> None:
        """Read a blob and compare its hash with its name."""
        digest = hashlib.sha256()
        for chunk in self.chunks(sha):
            digest.update(chunk)
        if digest.hexdigest() != sha:
            raise damaged("blobs/%s does not hold the bytes that its name promises" % sha[:12])

    def agent_archive(self) -> bytes:
        """Return the agent's archive, b"" when the bundle brings none."""
        name = "agent/%s.pyz" % self.agent
        if name not in self._zip.namelist():
            return b""
        data = self._small(name, _MAX_AGENT)
        if hashlib.sha256(data).hexdigest() != self.agent:
            raise damaged("%s does not hold the bytes that its name promises" % name)
        return data

    def _small(self, name: str, limit: int) -> bytes:
        try:
            with self._zip.open(name) as member:
                data = member.read(limit + 1)
        except (OSError,) + _BAD_ZIP as error:  # a seek to nowhere is an OSError
            raise damaged(error) from None
        if len(data) > limit:
            raise damaged("%s is over %d bytes" % (name, limit))
        return data

    def _chunks(self, name: str, size: int) -> Iterator[bytes]:
        left = size
        try:
            with self._zip.open(name) as member:
                while left >= 0:
                    chunk = member.read(min(_CHUNK, left + 1))
                    if not chunk:
                        break
                    left -= len(chunk)
                    yield chunk
        except (OSError,) + _BAD_ZIP as error:  # a seek to nowhere is an OSError
            raise damaged(error) from None
        if left:
            raise damaged("%s does not have the %d bytes that the index names" % (name, size))


def _offer(release: Any) -> Offer:
    manifest = release["manifest"]
    blobs = tuple(needed(manifest))
    identity, runtime = release_id(manifest), safe_name(manifest.get("runtime"))
    return Offer(
        identity, manifest["model"]["name"], manifest, release.get("sealed"), _text(release["kind"]), blobs, runtime
    )


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 200 or not value.isprintable():
        raise ValueError("not a short text")
    return value


def _size(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= _MAX_BLOB:
        raise ValueError("not a size: %r" % (str(value)[:40],))
    return value
