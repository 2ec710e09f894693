"""Reads a bundle file: releases with everything they need in one ZIP.  Every size is bounded and every hash is checked.

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
from typing import Dict, Iterator, List, NamedTuple, Tuple

from ..formats.checked import is_sha, items, mapping, shortened, text, whole
from ..formats.files import open_regular
from ..releases.store import Manifest, StoreError, release_id, safe_name

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
    IndexError,
)


def damaged(why: object) -> StoreError:
    """Return the error for a bundle that is incomplete or not well formed."""
    return StoreError("the bundle is damaged: %s" % shortened(str(why), 300), "bundle-damaged")


class Offer(NamedTuple):
    """One release that a bundle holds."""

    identity: str
    model: str
    manifest: Manifest
    signed: object  # {seal, signature}, as the trust check reads it; None when unsigned
    kind: str  # "x86_64 cp310 glibc 2.36": the devices it is for
    blobs: Tuple[str, ...]
    runtime: str


class Bundle:
    """An open bundle file with a well-formed index.  Every method raises StoreError "bundle-damaged"."""

    def __init__(self, path: str) -> None:
        """Open the file and read its index.  Raises StoreError, "bad-request" for a file that cannot be read."""
        try:
            self._file = open_regular(path)
        except OSError as error:
            raise StoreError("%s cannot be read: %s" % (path, error.strerror or error), "bad-request") from error
        try:
            self._zip = zipfile.ZipFile(self._file)
            self._read_index()
        except OSError as error:
            self._file.close()
            if error.errno == errno.EINVAL:  # a seek to nowhere
                raise damaged(error) from None
            raise StoreError("%s cannot be read: %s" % (path, error.strerror or error), "bad-request") from error
        except _BAD_ZIP as error:
            self._file.close()
            raise damaged(error) from None
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> "Bundle":
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()
        self._file.close()

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

    def _parse_index(self, value: object) -> None:
        index = mapping(value, "the index")
        if index["schema"] != 1:
            raise ValueError("schema %.40r" % (index["schema"],))
        self.fleet = _label(index["fleet"])
        agent = index.get("agent")
        self.agent = agent if isinstance(agent, str) and is_sha(agent) else ""
        self._sizes = {sha: _size(size) for sha, size in mapping(index["blobs"]).items() if is_sha(sha)}
        self.runtimes: Dict[str, Tuple[str, int]] = {}  # key -> SHA-256 of the packed one, bytes unpacked
        for key, entry in mapping(index["runtimes"]).items():
            runtime = mapping(entry)
            sha = text(runtime["sha256"], 64)
            if not is_sha(sha):
                raise ValueError("a runtime without a hash")
            self._sizes[sha] = _size(runtime["size"])
            self.runtimes[safe_name(key)] = (sha, _size(runtime["unpacked"]))
        releases = items(index["releases"], _MAX_RELEASES, "releases", least=1)
        self.offers: List[Offer] = [_offer(release) for release in releases]

    def size(self, sha: str) -> int:
        """Return the size of a blob in bytes, as the index names it."""
        if sha not in self._sizes:
            raise damaged("its index does not name %s" % sha[:12])
        return self._sizes[sha]

    def chunks(self, sha: str) -> Iterator[bytes]:
        """Yield the bytes of the blob `sha`, never more than its size in the index."""
        yield from self._chunks("blobs/" + sha, self.size(sha))

    def check(self, sha: str) -> None:
        """Read a blob and compare its hash with its name."""
        digest = hashlib.sha256()
        for chunk in self.chunks(sha):
            digest.update(chunk)
        if digest.hexdigest() != sha:
            raise damaged("blobs/%s does not hold the bytes that its name promises" % sha[:12])

    def agent_archive(self) -> bytes:
        """Return the agent's archive, b"" when the bundle has none."""
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


def _offer(value: object) -> Offer:
    release = mapping(value)
    manifest = Manifest.parse(release["manifest"])
    identity, kind = release_id(manifest.document), _label(release["kind"])
    signed = release.get("sealed")
    return Offer(identity, manifest.model, manifest, signed, kind, tuple(manifest.blobs), manifest.runtime)


def _label(value: object) -> str:
    label = text(value, 200)
    if not label.isprintable():
        raise ValueError("not a printable text")
    return label


def _size(value: object) -> int:
    return whole(value, 0, _MAX_BLOB, "a size")
