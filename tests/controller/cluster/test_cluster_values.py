"""Addresses, labels, errors as values, and a worker's folder of files: what needs no cluster."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest
from litefleet_agent.findings import finding
from litefleet_agent.protocol import ProtocolError
from litefleet_controller.cluster.address import TlsFiles, checked_address
from litefleet_controller.cluster.blobs import BlobError, BlobFolder
from litefleet_controller.cluster.messages import Blob, Description, failed, raised
from litefleet_controller.common.errors import UsageError
from litefleet_controller.devices.agent_client import NoPython, Request, RequestRejected
from litefleet_controller.devices.progress import QuietProgress
from litefleet_controller.devices.transport.base import TransportError
from litefleet_controller.operations.session_source import session_factory_for
from litefleet_controller.project import Options
from litefleet_controller.project.project import open_project
from litefleet_inventory.model import Device

NO_TLS = TlsFiles()


@pytest.fixture
def tls(tmp_path: Path) -> TlsFiles:
    files = [tmp_path / name for name in ("authority", "certificate", "key")]
    for path in files:
        path.write_text("")
    return TlsFiles(*files)


@pytest.mark.parametrize(
    ("given", "full"),
    [
        ("127.0.0.1", "tcp://127.0.0.1:8786"),
        ("localhost:9000", "tcp://localhost:9000"),
        ("tcp://[::1]:1", "tcp://[::1]:1"),
    ],
)
def test_plain_tcp_is_for_loopback(given: str, full: str) -> None:
    assert checked_address(given, NO_TLS) == full


@pytest.mark.parametrize(
    "given", ["tcp://10.0.0.1:8786", "scheduler.example", "tcp://0.0.0.0:8786", "tcp://127.evil.example"]
)
def test_plain_tcp_to_another_machine_needs_a_persons_word(given: str) -> None:
    with pytest.raises(UsageError, match="can run code on all workers"):
        checked_address(given, NO_TLS)
    assert checked_address(given, NO_TLS, plain_tcp=True).startswith("tcp://")


@pytest.mark.parametrize("given", ["", "tls://", "ws://h:1", "tls://h:99999", "tcp://a/b", "tcp://u@h:1", "inproc://x"])
def test_what_is_no_address_is_a_sentence(given: str, tls: TlsFiles) -> None:
    with pytest.raises(UsageError, match="no address of a Dask scheduler"):
        checked_address(given, tls if given.startswith("tls") else NO_TLS)


def test_certificates_go_with_tls_and_are_read_before_anything(tls: TlsFiles, tmp_path: Path) -> None:
    assert checked_address("h.example", tls) == "tls://h.example:8786"
    with pytest.raises(UsageError, match="certificates are given: write tls://h:1"):
        checked_address("tcp://h:1", tls)
    with pytest.raises(UsageError, match="missing: certificate, key"):
        checked_address("tls://h:1", TlsFiles(tls.authority))
    with pytest.raises(UsageError, match="nothing cannot be read: No such file"):
        checked_address("tls://h:1", tls._replace(key=tmp_path / "nothing"))


def test_a_worker_takes_the_devices_that_its_labels_name() -> None:
    gateway = Device(name="gw-1", host="10.0.0.1")
    device = Device(name="cam", host="h", jump="gw-1", groups=("berlin",), tags=("door",))
    assert Description("any").reaches(device, [gateway])
    assert Description("w", sites=("berlin",)).reaches(device, [gateway])
    assert Description("w", sites=("door",)).reaches(device, [])
    assert Description("w", jumps=("gw-1",)).reaches(device, [gateway])
    assert Description("w", sites=("hamburg",), jumps=("10.0.0.1",)).reaches(device, [gateway])
    assert not Description("w", sites=("hamburg",)).reaches(device, [gateway])
    assert not Description("w", jumps=("gw-2",)).reaches(device, [gateway])


def test_errors_travel_as_values() -> None:
    requests = [Request("put"), Request("verify")]
    rejected = raised(failed(RequestRejected(requests[1], "space", "full"), requests), requests)
    assert isinstance(rejected, RequestRejected)
    assert rejected.request is requests[1]
    assert rejected.found == RequestRejected(requests[1], "space", "full").found
    broken = raised(failed(TransportError(finding("LF505", "cut"))))
    assert isinstance(broken, TransportError)
    assert broken.found == finding("LF505", "cut")
    bare = raised(failed(NoPython({"machine": "armv7l"}, "none fits")))
    assert isinstance(bare, NoPython)
    assert (bare.facts, bare.why) == ({"machine": "armv7l"}, "none fits")
    assert isinstance(raised(failed(ProtocolError("no frame"))), ProtocolError)


def blob_of(data: bytes) -> Blob:
    return Blob(hashlib.sha256(data).hexdigest(), len(data))


def test_a_file_counts_once_it_is_whole_and_has_its_hash(tmp_path: Path) -> None:
    data = os.urandom(5000)
    blob, folder = blob_of(data), BlobFolder(tmp_path / "blobs", 10_000)
    assert not folder.holds(blob)
    assert not folder.receive(blob, "run", 0, data[:3000])
    assert not folder.holds(blob)
    with pytest.raises(BlobError, match="begins at 4000, 3000 bytes are here"):
        folder.receive(blob, "run", 4000, data[4000:])
    assert not folder.receive(blob, "other", 0, data[:100])  # another coordinator at the same time
    assert folder.receive(blob, "run", 3000, data[3000:])
    assert folder.path(blob).read_bytes() == data
    with pytest.raises(BlobError, match="longer than the announced"):
        folder.receive(blob, "run", 3000, data)
    with pytest.raises(BlobError, match="another hash"):
        folder.receive(blob_of(b"x" * 5000), "run", 0, data)

    folder.path(blob).write_bytes(bytes(5000))  # damaged on the disk: noticed by the next process
    again = BlobFolder(tmp_path / "blobs", 10_000)
    assert not again.holds(blob)
    with pytest.raises(BlobError, match="not on this worker any more"):
        again.path(blob)


def test_files_that_were_not_used_for_long_make_room(tmp_path: Path) -> None:
    folder = BlobFolder(tmp_path, 10_000)
    held = [os.urandom(4000) for _ in range(3)]
    for data in held[:2]:
        folder.receive(blob_of(data), "run", 0, data)
    old = time.time() - 7200
    os.utime(folder.path(blob_of(held[0])), (old, old))
    folder.receive(blob_of(held[2]), "run", 0, held[2])
    assert [folder.holds(blob_of(data)) for data in held] == [False, True, True]
    more = os.urandom(9000)
    folder.receive(blob_of(more), "run", 0, more)  # what is in use stays, whatever the limit
    assert folder.holds(blob_of(held[1]))


async def test_a_limit_of_bandwidth_and_an_address_that_is_none_are_refused_before_anything(tmp_path: Path) -> None:
    (tmp_path / "fleet.yaml").write_text("devices: {cam: {host: 127.0.0.1}}\n")
    text = "models: {m: {source: m.nb}}\nssh: {config: false}\n"
    config = tmp_path / "litefleet.yaml"
    for more, address, words in (
        ("bandwidth: {fleet: 10M}\n", "tcp://127.0.0.1:1", "several workers send"),
        ("", "tcp://10.0.0.1:8786", "can run code on all workers"),
    ):
        config.write_text(text + more)
        project = open_project(Options(config, cluster=address))
        with pytest.raises(UsageError, match=words):
            async with session_factory_for(project, QuietProgress()):
                pass
