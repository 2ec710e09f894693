"""Bundle files: written the same each time, read whole by the reader that devices use, and every changed byte found."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from litefleet_agent.install.bundle import Bundle
from litefleet_agent.releases.store import StoreError, release_id
from litefleet_controller.airgap.write import write_bundle
from litefleet_controller.common.errors import FindingError, LitefleetError
from litefleet_controller.config.model import SigningConfig
from litefleet_controller.devices.agent_archive import agent_archive
from litefleet_controller.devices.release import Release
from litefleet_controller.signing.signer import BUNDLE_NAMESPACE, Signer
from litefleet_controller.signing.sshsig import signer_of

from tests.fakes.ssh_keys import keygen

NOW = 1_800_000_000.0


def stored(folder: Path, data: bytes) -> tuple[str, Path]:
    """Write a file and return it with its hash."""
    sha = hashlib.sha256(data).hexdigest()
    folder.mkdir(exist_ok=True)
    (folder / sha).write_bytes(data)
    return sha, folder / sha


def release(folder: Path, model: str = "cls", kind: str = "x86_64 cp310 glibc 2.36") -> Release:
    """Return a release with a model, two goldens and a packed runtime."""
    nb, *goldens = (stored(folder, f"{model} {part}".encode() * 1000) for part in ("nb", "golden 1", "golden 2"))
    runtime = stored(folder, b"runtime" * 50_000)
    manifest = {
        "schema": 1,
        "model": {"name": model, "nb": nb[0]},
        "golden": [sha for sha, _ in goldens],
        "runtime": "r1",
        "verify": {},
    }
    blobs = dict([nb, *goldens])
    return Release(release_id(manifest), model, kind, manifest, nb[0], blobs, "r1", runtime, 700_000)


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    key = keygen(tmp_path / "key")
    signers = tmp_path / "allowed_signers"
    signers.write_text("ops " + key.with_suffix(".pub").read_text())
    return Signer(SigningConfig(key=key, allowed_signers=signers))


async def signed(signer: Signer, kept: Release) -> Release:
    seal = await signer.seal(kept.id, kept.model, "shop", 1, NOW)
    return Release(**{**vars(kept), "signed": seal})


def check_all(path: Path) -> None:
    """Read everything in a bundle as a device does; StoreError for what is damaged."""
    with Bundle(str(path)) as read:
        packed = [sha for sha, _ in read.runtimes.values()]
        for sha in [*packed, *(sha for offer in read.offers for sha in offer.blobs)]:
            read.check(sha)
        assert read.agent_archive()


def refusal(path: Path) -> str:
    """Return the code of the error with which a device refuses a bundle."""
    with pytest.raises(StoreError) as caught:
        check_all(path)
    return caught.value.code


async def test_a_bundle_comes_back_as_it_was_written(tmp_path: Path, signer: Signer) -> None:
    releases = [await signed(signer, release(tmp_path / "files", model)) for model in ("det", "cls", "det")]
    out = tmp_path / "stick" / "b.lfb"
    written = await write_bundle(out, releases, "shop", signer, agent_archive(), NOW)
    with Bundle(str(out)) as read:
        assert (
            await signer_of(tmp_path / "allowed_signers", read.index_bytes, read.signature, BUNDLE_NAMESPACE) == "ops"
        )
        assert [offer.model for offer in read.offers] == ["cls", "det"]
        assert [offer.identity for offer in read.offers] == list(written.releases)
        assert read.offers[0].signed == releases[1].signed
        assert read.offers[0].kind == "x86_64 cp310 glibc 2.36"
        assert {sha for offer in read.offers for sha in offer.blobs} == {*releases[0].blobs, *releases[1].blobs}
        runtime = releases[0].runtime_blob
        assert runtime is not None
        assert read.runtimes == {"r1": (runtime[0], 700_000)}
        assert (read.fleet, json.loads(read.index_bytes)["created"]) == ("shop", int(NOW))
    check_all(out)
    assert written.sha256 == hashlib.sha256(out.read_bytes()).hexdigest()
    assert written.size == out.stat().st_size
    assert sorted(p.name for p in out.parent.iterdir()) == ["b.lfb", "litefleet-agent.pyz"]


async def test_the_same_bundle_has_the_same_bytes(tmp_path: Path, signer: Signer) -> None:
    releases = [await signed(signer, release(tmp_path / "files", model)) for model in ("det", "cls")]
    first = await write_bundle(tmp_path / "1.lfb", releases, "shop", signer, agent_archive(), NOW)
    second = await write_bundle(tmp_path / "2.lfb", releases[::-1], "shop", signer, agent_archive(), NOW)
    assert first.sha256 == second.sha256


async def test_the_agent_beside_it_starts(tmp_path: Path) -> None:
    written = await write_bundle(tmp_path / "b.lfb", [release(tmp_path / "files")], "shop", None, agent_archive(), NOW)
    done = subprocess.run([sys.executable, str(written.agent), "facts"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["arch"]


async def test_an_unsigned_bundle_has_no_signature(tmp_path: Path) -> None:
    out = tmp_path / "b.lfb"
    await write_bundle(out, [release(tmp_path / "files")], "shop", None, agent_archive(), NOW)
    with Bundle(str(out)) as read:
        assert read.signature == ""


async def test_a_signer_writes_only_what_is_sealed_for_this_fleet(tmp_path: Path, signer: Signer) -> None:
    kept = release(tmp_path / "files")
    for given, fleet in ((kept, "shop"), (await signed(signer, kept), "home")):
        with pytest.raises(FindingError):
            await write_bundle(tmp_path / "b.lfb", [given], fleet, signer, agent_archive(), NOW)
    assert not (tmp_path / "b.lfb").exists()


def _other_bytes(members: dict[str, bytes]) -> None:
    name = next(n for n in members if n.startswith("blobs/"))
    members[name] = members[name][:-1] + b"!"


def _shorter(members: dict[str, bytes]) -> None:
    name = next(n for n in members if n.startswith("blobs/"))
    members[name] = members[name][:-1]


def _missing(members: dict[str, bytes]) -> None:
    del members[next(n for n in members if n.startswith("blobs/"))]


def _other_agent(members: dict[str, bytes]) -> None:
    members[next(n for n in members if n.startswith("agent/"))] = b"print('hello')"


def _no_index(members: dict[str, bytes]) -> None:
    del members["index.json"]


def _edit(**changes: Any) -> Callable[[dict[str, bytes]], None]:
    def change(members: dict[str, bytes]) -> None:
        members["index.json"] = json.dumps({**json.loads(members["index.json"]), **changes}).encode()

    return change


@pytest.mark.parametrize(
    "change",
    [
        _other_bytes,
        _shorter,
        _missing,
        _other_agent,
        _no_index,
        _edit(schema=2),
        _edit(releases=[5]),
        _edit(runtimes={"r1": None}),
        _edit(blobs={"../../x": 1}),
        _edit(blobs=[]),
    ],
)
async def test_what_was_changed_is_found(tmp_path: Path, change: Callable[[dict[str, bytes]], None]) -> None:
    out = tmp_path / "b.lfb"
    await write_bundle(out, [release(tmp_path / "files")], "shop", None, agent_archive(), NOW)
    with zipfile.ZipFile(out) as bundle:
        members = {name: bundle.read(name) for name in bundle.namelist()}
    change(members)
    with zipfile.ZipFile(out, "w") as bundle:
        for name, data in members.items():
            bundle.writestr(name, data)
    assert refusal(out) == "bundle-damaged"


async def test_an_edited_index_has_no_valid_signature(tmp_path: Path, signer: Signer) -> None:
    out = tmp_path / "b.lfb"
    await write_bundle(out, [await signed(signer, release(tmp_path / "files"))], "shop", signer, agent_archive(), NOW)
    with zipfile.ZipFile(out) as bundle:
        members = {name: bundle.read(name) for name in bundle.namelist()}
    _edit(fleet="home")(members)
    with zipfile.ZipFile(out, "w") as bundle:
        for name, data in members.items():
            bundle.writestr(name, data)
    with Bundle(str(out)) as read:
        assert read.fleet == "home"
        assert not await signer_of(tmp_path / "allowed_signers", read.index_bytes, read.signature, BUNDLE_NAMESPACE)


async def test_a_cut_bundle_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "b.lfb"
    await write_bundle(out, [release(tmp_path / "files")], "shop", None, agent_archive(), NOW)
    data = out.read_bytes()
    for size in (0, 10, len(data) // 2, len(data) - 1):
        out.write_bytes(data[:size])
        assert refusal(out) == "bundle-damaged"


async def test_nothing_is_written_from_files_that_changed(tmp_path: Path) -> None:
    kept = release(tmp_path / "files")
    file = kept.blobs[kept.artifact]
    file.write_bytes(b"something else")
    with pytest.raises(LitefleetError, match="has changed since"):
        await write_bundle(tmp_path / "s" / "b.lfb", [kept], "shop", None, agent_archive(), NOW)
    file.unlink()
    with pytest.raises(LitefleetError, match="is missing"):
        await write_bundle(tmp_path / "s" / "b.lfb", [kept], "shop", None, agent_archive(), NOW)
    with pytest.raises(LitefleetError, match="no release"):
        await write_bundle(tmp_path / "s" / "b.lfb", [], "shop", None, agent_archive(), NOW)
    assert list((tmp_path / "s").iterdir()) == []


async def test_a_release_that_is_not_its_manifest_is_not_written(tmp_path: Path) -> None:
    kept = Release(**{**vars(release(tmp_path / "files")), "id": "ab" * 32})
    with pytest.raises(LitefleetError, match="not the one that its manifest describes"):
        await write_bundle(tmp_path / "b.lfb", [kept], "shop", None, agent_archive(), NOW)


async def test_a_release_without_its_files_is_not_written(tmp_path: Path) -> None:
    kept = release(tmp_path / "files")
    for lack in ({"blobs": {}}, {"runtime_blob": None}):
        with pytest.raises(LitefleetError, match=r"lacks the (file|runtime)"):
            await write_bundle(
                tmp_path / "b.lfb", [Release(**{**vars(kept), **lack})], "shop", None, agent_archive(), NOW
            )
    with pytest.raises(LitefleetError, match="the agent's own name"):
        await write_bundle(tmp_path / "litefleet-agent.pyz", [kept], "shop", None, agent_archive(), NOW)


async def test_a_folder_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LitefleetError, match="cannot be written"):
        await write_bundle(
            tmp_path / "file" / "b.lfb", [release(tmp_path / "files")], "shop", None, agent_archive(), NOW
        )
