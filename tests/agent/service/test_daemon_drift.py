"""The whole service on a device that changes under it: it says so, and goes on serving."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
import typing
from pathlib import Path

import pytest
from litefleet_agent.formats.npz import read_npz
from litefleet_agent.releases.store import read_small
from litefleet_agent.service.history import read_history

from tests.agent.support.service_process import Device, Held, Service, package_of

pytestmark = pytest.mark.toolchain
OFTEN = {"check_every_s": 1}


def serving(device: Device, release: str) -> Service:
    device.settings(**OFTEN)
    device.activate(release)
    service = device.serve()
    service.told("cls switched")
    return service


def works(service: Service, goldens: dict) -> bool:
    with service.client() as client:
        return bool(client.infer("cls", {"x": read_npz(goldens["cls"][0])["x"]}).outputs)


def drifted(service: Service, code: str) -> str:
    """Wait until a finding is told, and return its sentence; the service says that it is degraded."""
    line = service.told(f"drift: {code} ")[0]
    reason = service.until(lambda status: status["drift"])["reasons"][0]
    assert (reason["health"], reason["finding"]["code"]) == ("degraded", code)
    with service.client() as client:
        assert "litefleet_drift_findings 1" in client.metrics()
    return line


def test_a_changed_blob_is_found_and_so_is_its_cure(device, nb_files, goldens):
    release = device.release(nb_files("cls", "x86"), goldens["cls"])
    with serving(device, release) as service:
        service.until(lambda status: status["drift_looks"] >= 1)
        assert service.status()["drift"] == []
        blob = Path(device.store.blob(device.store.release(release).nb))
        whole = blob.read_bytes()
        blob.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        assert "no longer holds the bytes that were verified" in drifted(service, "LF602")
        assert works(service, goldens)
        blob.write_bytes(whole)
        service.told("drift: the device is as it was verified again")
        service.until(lambda status: status["health"] == "ok")
        blob.unlink()
        assert "missing" in service.told("drift: LF602 .*missing")[0]
        assert works(service, goldens)
    entries: typing.Any = [entry for entry in read_history(str(device.root)).entries if entry["kind"] == "drift"]
    assert [[f["code"] for f in entry.get("findings", [])] for entry in entries] == [["LF602"], [], ["LF602"]]


@pytest.fixture
def bundle(device: Device) -> str:
    """A runtime of its own with Paddle-Lite and numpy, and a list of some of its files as `unpack_runtime` writes it."""
    folder = device.root / "runtimes" / "bundle"
    for name in ("paddlelite", "numpy"):
        shutil.copytree(package_of(device.python, name), folder / name, copy_function=os.link)
    libraries = package_of(device.python, "numpy").parent / "numpy.libs"
    if libraries.is_dir():
        shutil.copytree(libraries, folder / "numpy.libs", copy_function=os.link)
    files = {}
    for name in ("numpy/__init__.py", "numpy/version.py", "paddlelite/__init__.py", "paddlelite/libs/libiomp5.so"):
        data = (folder / name).read_bytes()
        files[name] = [len(data), hashlib.sha256(data).hexdigest()]
    (device.root / "runtimes" / "bundle.files.json").write_text(json.dumps(files))
    return "bundle"


def test_a_runtime_that_changes_under_the_service_is_found(device, nb_files, goldens, bundle):
    release = device.release(nb_files("cls", "x86"), goldens["cls"], runtime=bundle)
    folder = device.root / "runtimes" / bundle
    with serving(device, release) as service:
        assert service.model()["facts"]["numpy_version"] != ""
        service.until(lambda status: status["drift_looks"] >= 1)
        version = folder / "numpy" / "version.py"
        text = version.read_text()
        version.unlink()  # another name of it is in the cache
        version.write_text(re.sub(r"\d", "2", text))
        assert "numpy/version.py of the runtime bundle no longer holds the bytes" in drifted(service, "LF603")
        version.write_text(text)
        service.told("drift: the device is as it was verified again")
        (folder / "paddlelite" / "libs" / "libiomp5.so").unlink()
        assert "paddlelite/libs/libiomp5.so missing" in service.told("drift: LF603 .*missing")[0]
        assert works(service, goldens)


def test_a_clock_that_stands_before_the_last_proof_is_found(device, nb_files, goldens):
    release = device.release(nb_files("cls", "x86"), goldens["cls"])
    proof = device.store.verified(release)
    with Held(device.store):
        device.store.record_verification(release, proof.fingerprint, at=time.time() + 86400 * 400)
    with serving(device, release) as service:
        assert "The clock says" in drifted(service, "LF618")
        assert works(service, goldens)


def test_another_environment_than_the_proofs_is_found_at_the_start(device, nb_files, goldens):
    release = device.release(nb_files("cls", "x86"), goldens["cls"])
    with Held(device.store):
        device.store.record_verification(release, "0" * 64)
    assert read_small(device.store, "verified", release + ".json")["fingerprint"] == "0" * 64
    with serving(device, release) as service:
        assert "was verified in another environment" in drifted(service, "LF604")
        assert works(service, goldens)
