"""Archives from outside: bundle files and runtimes to unpack."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from litefleet_agent.install.bundle import Bundle
from litefleet_agent.releases.lease import Clock
from litefleet_agent.releases.runtimes import drop_runtime, unpack_runtime
from litefleet_agent.releases.store import StoreError, release_id
from litefleet_controller.airgap.write import write_bundle
from litefleet_controller.devices.agent_archive import AgentArchive
from litefleet_controller.devices.release import Release

from tests.agent.support.release_fixtures import opened
from tests.fuzz.harness import Reader, Values, fuzz

ZIP_WORDS = (b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06", b"PK\x06\x06", b"index.json", b"../", b"\0" * 46)


def stored(folder: Path, data: bytes) -> tuple[str, Path]:
    sha = hashlib.sha256(data).hexdigest()
    (folder / sha).write_bytes(data)
    return sha, folder / sha


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Return a small bundle as `litefleet bundle` writes it."""
    nb, golden, runtime = (stored(tmp_path, part * 40) for part in (b"nb", b"golden", b"runtime"))
    manifest = {"schema": 1, "model": {"name": "cls", "nb": nb[0]}, "golden": [golden[0]], "runtime": "r", "verify": {}}
    made = Release(
        release_id(manifest), "cls", "x86_64 cp310 glibc 2.36", manifest, nb[0], dict([nb, golden]), "r", runtime, 700
    )
    archive = AgentArchive(b"the agent", hashlib.sha256(b"the agent").hexdigest())
    path = tmp_path / "good.lfb"
    asyncio.run(write_bundle(path, [made], "shop", None, archive, 1_800_000_000.0))
    return path


def read(path: Path) -> None:
    with Bundle(str(path)) as read:
        for offer in read.offers:
            for sha in offer.blobs:
                read.check(sha)
        read.agent_archive()


def test_bundles(bundle: Path, tmp_path: Path) -> None:
    def of(data: bytes) -> None:
        (tmp_path / "any.lfb").write_bytes(data)
        read(tmp_path / "any.lfb")

    fuzz(Reader("bundle", (bundle.read_bytes(),), of, (StoreError,), ZIP_WORDS))


def test_indexes_of_bundles(bundle: Path, tmp_path: Path) -> None:
    """The zip file is intact, and its index says anything."""
    with zipfile.ZipFile(bundle) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}

    def of(index: Any) -> None:
        path = tmp_path / "any.lfb"
        with zipfile.ZipFile(path, "w") as out:
            for name, data in parts.items():
                out.writestr(name, json.dumps(index) if name == "index.json" else data)
        read(path)

    fuzz(Values("index", (json.loads(parts["index.json"]),), of, (StoreError,)))


def packed() -> Iterator[bytes]:
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", method) as archive:
            archive.writestr("paddlelite/__init__.py", "x = 1\n" * 20)
            archive.writestr("paddlelite/lite.so", b"\x7fELF" * 30)
            archive.writestr("numpy/", b"")
        yield out.getvalue()


def test_runtimes_leave_nothing_outside_of_their_folder(tmp_path: Path) -> None:
    store = opened(tmp_path / "root", Clock())
    outside = tmp_path / "outside"
    outside.mkdir()

    def unpack(data: bytes) -> None:
        sha = hashlib.sha256(data).hexdigest()
        Path(store.blob(sha)).write_bytes(data)
        try:
            unpack_runtime(store, "r1", sha)
            drop_runtime(store, "r1")
        finally:
            Path(store.blob(sha)).unlink(missing_ok=True)

    words = (*ZIP_WORDS, b"../../outside/x", b"/" + str(outside).encode() + b"/x", b"paddlelite")
    fuzz(Reader("runtime", tuple(packed()), unpack, (StoreError,), words))
    assert not list(outside.iterdir())
    assert not [path.name for path in (tmp_path / "root" / "runtimes").iterdir() if path.name.startswith(".tmp")]
