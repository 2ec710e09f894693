"""Writes bundle files: streamed, whole or not at all, and the same bytes for the same releases."""

from __future__ import annotations

import asyncio
import hashlib
import json
import stat
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from litefleet_agent.releases.atomic import atomic_file
from litefleet_agent.releases.store import release_id

from ..common.errors import LitefleetError
from ..common.files import sha256_of, write_atomically
from ..devices.agent_archive import AgentArchive
from ..devices.release import Release
from ..signing.signer import BUNDLE_NAMESPACE, Signer

AGENT_NAME = "litefleet-agent.pyz"  # beside the bundle: a device that was never contacted has no agent
_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can hold
_CHUNK = 1 << 20


@dataclass(frozen=True)
class WrittenBundle:
    """The files that were written; `size` in bytes."""

    path: Path
    agent: Path
    size: int
    sha256: str
    releases: tuple[str, ...]


async def write_bundle(
    path: Path,
    releases: Sequence[Release],
    fleet: str,
    signer: Signer | None,
    archive: AgentArchive,
    now: float,
) -> WrittenBundle:
    """Write a bundle file, and the agent's .pyz beside it; equal arguments give equal bytes.

    Raises: LitefleetError when a release or file is not as it was made ready, SigningError, FindingError for a wrong seal.
    """
    chosen = _distinct(releases, path)
    if signer is not None:
        for release in chosen:
            await signer.verify(release.signed, release.id, release.model, fleet, now)
    files = _files(chosen)
    index = _canonical(_index(chosen, files, fleet, archive, now))
    small = {"index.json": index, f"agent/{archive.sha256}.pyz": archive.data}
    if signer is not None:
        small["index.json.sig"] = (await signer.sign_text(index.decode("utf-8"), BUNDLE_NAMESPACE)).encode("utf-8")
    try:
        digest = await asyncio.to_thread(_write, path, small, files)
        agent = path.parent / AGENT_NAME
        write_atomically(agent, archive.data)
    except OSError as error:
        raise LitefleetError(f"{path} cannot be written: {error.strerror or error}.") from error
    return WrittenBundle(path, agent, path.stat().st_size, digest, tuple(r.id for r in chosen))


def _distinct(releases: Sequence[Release], path: Path) -> tuple[Release, ...]:
    """Return each release once, by model and id."""
    if not releases:
        raise LitefleetError(f"{path} would hold no release: nothing was written.")
    if path.name == AGENT_NAME:
        raise LitefleetError(f"{AGENT_NAME} is the agent's own name beside a bundle: give the bundle another.")
    for release in releases:
        _check_whole(release)
    return tuple(sorted({r.id: r for r in releases}.values(), key=lambda r: (r.model, r.id)))


def _check_whole(release: Release) -> None:
    manifest = release.manifest
    if release_id(dict(manifest)) != release.id:
        raise LitefleetError(f"the release {release.id[:12]} is not the one that its manifest describes.")
    lacking = {manifest["model"]["nb"], *manifest["golden"]} - set(release.blobs)
    if lacking or (manifest["runtime"] != "system" and release.runtime_blob is None):
        missing = f"the file {min(lacking)[:12]}" if lacking else f"the runtime {manifest['runtime'][:12]}"
        raise LitefleetError(f"the release {release.id[:12]} lacks {missing}: plan the rollout again.")


def _files(releases: Sequence[Release]) -> dict[str, Path]:
    """Return all blobs and packed runtimes by hash."""
    files: dict[str, Path] = {}
    for release in releases:
        files.update(release.blobs)
        if release.runtime_blob is not None:
            files[release.runtime_blob[0]] = release.runtime_blob[1]
    for sha, file in files.items():
        if not file.is_file():
            raise LitefleetError(f"{file}, which holds {sha[:12]}, is missing: plan the rollout again to rebuild it.")
    return files


def _index(
    releases: Sequence[Release], files: Mapping[str, Path], fleet: str, archive: AgentArchive, now: float
) -> dict[str, object]:
    runtimes: dict[str, dict[str, object]] = {}
    for release in releases:
        if release.runtime_blob is not None:
            sha = release.runtime_blob[0]
            entry = {"sha256": sha, "size": files[sha].stat().st_size, "unpacked": release.runtime_size}
            if runtimes.setdefault(release.runtime_key, entry) != entry:
                raise LitefleetError(
                    f"two different runtimes have the key {release.runtime_key}: plan the rollout again."
                )
    return {
        "schema": 1,
        "created": int(now),
        "fleet": fleet,
        "releases": [{"manifest": r.manifest, "sealed": r.signed, "kind": r.kind} for r in releases],
        "blobs": {sha: files[sha].stat().st_size for release in releases for sha in release.blobs},
        "runtimes": runtimes,
        "agent": archive.sha256,
    }


def _canonical(index: Mapping[str, object]) -> bytes:
    return json.dumps(index, sort_keys=True, separators=(",", ":"), default=dict).encode("utf-8")


def _write(path: Path, small: Mapping[str, bytes], files: Mapping[str, Path]) -> str:
    """Write the ZIP whole or not at all and return its SHA-256."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(str(path), 0o666) as out, zipfile.ZipFile(out, "w") as bundle:
        _add_all(bundle, small, {f"blobs/{sha}": file for sha, file in files.items()})
    return sha256_of(path)


def _add_all(bundle: zipfile.ZipFile, small: Mapping[str, bytes], files: Mapping[str, Path]) -> None:
    for name in sorted([*small, *files]):
        if name in small:
            bundle.writestr(_member(name, len(small[name])), small[name])
        else:
            _add_file(bundle, name, files[name])


def _add_file(bundle: zipfile.ZipFile, name: str, file: Path) -> None:
    """Copy a file in pieces; LitefleetError when it no longer has the hash that is its name."""
    digest = hashlib.sha256()
    with file.open("rb") as source, bundle.open(_member(name, file.stat().st_size), "w") as member:
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
            member.write(chunk)
    if digest.hexdigest() != name.removeprefix("blobs/"):
        raise LitefleetError(f"{file} has changed since it was made: remove it and plan the rollout again.")


def _member(name: str, size: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _DATE)  # stored: weights and packed runtimes do not get smaller
    info.create_system, info.external_attr = 3, (stat.S_IFREG | 0o644) << 16
    info.file_size = size
    return info
