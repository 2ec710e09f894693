"""What the static checks refuse is never loaded: the runtime of these tests says so when it is imported."""

from __future__ import annotations

import hashlib
import io
import platform
import shutil
import sys
import zipfile
from pathlib import Path

import pytest
from litefleet_agent.facts import Facts, Memory, gather
from litefleet_agent.releases.runtimes import unpack_runtime
from litefleet_agent.releases.store import Store, StoreError
from litefleet_agent.verification.release import ReleaseVerification, verify_release
from litefleet_agent.verification.verify import default_memory_limit

from tests.agent.support import nb_builder

X86, ARM = "fc/def/2/1/1", "fc/def/4/1/1"
NATIVE, FOREIGN = (X86, ARM) if platform.machine() in ("x86_64", "AMD64", "i686") else (ARM, X86)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    opened = Store(str(tmp_path / "root"))
    opened.lock()
    return opened


MARK = "the runtime was imported"


def loaded(answer: ReleaseVerification) -> bool:
    """Whether the model's process imported the runtime; it may write nothing but its messages."""
    return MARK in answer.detail


def put(store: Store, data: bytes) -> str:
    sha = hashlib.sha256(data).hexdigest()
    store.put(sha, len(data), [data])
    return sha


def golden() -> bytes:
    """Return one input and one output as numpy.savez writes them."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, shape in (("x", (1, 2)), ("y", (1, 3))):
            text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
            head = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()
            archive.writestr(f"{name}.npy", head + bytes(4 * shape[1]))
    return buffer.getvalue()


def runtime(store: Store, library: bytes | None = None, more: str = "") -> str:
    """Store a runtime that says so when it is imported, then runs `more`; its lite.so is this interpreter unless given."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        bundle.writestr("paddlelite/__init__.py", f"import sys\nsys.stderr.write({MARK!r} + '\\n')\n{more}\n")
        bundle.writestr("numpy/__init__.py", "__version__ = '1.26.4'\n")  # one that fits, whatever the tests' own is
        bundle.writestr("numpy-1.26.4.dist-info/METADATA", "Name: numpy\nVersion: 1.26.4\n")
        bundle.writestr("paddlelite/lite.so", Path(sys.executable).read_bytes() if library is None else library)
    unpack_runtime(store, "marked", put(store, buffer.getvalue()))
    return "marked"


def proof(store: Store, nb: bytes, runtime_key: str, facts: Facts | None = None) -> ReleaseVerification:
    ticks: list = []
    manifest = {
        "model": {"name": "small", "nb": put(store, nb)},
        "golden": [put(store, golden())],
        "runtime": runtime_key,
        "verify": {},
    }
    answer = verify_release(store, store.write_release(manifest), facts or gather(store.root), lambda: ticks.append(1))
    assert not list(Path(store.path("work")).glob("*"))  # nothing is left behind, whatever the verdict
    return answer


def codes(answer: ReleaseVerification) -> set:
    return {f.code for f in answer.findings}


def test_what_the_checks_let_pass_is_loaded(store: Store) -> None:
    answer = proof(store, nb_builder.small(NATIVE), runtime(store))
    assert loaded(answer), answer  # so that its absence below means something


def test_a_model_for_another_cpu_is_never_loaded(store: Store) -> None:
    answer = proof(store, nb_builder.small(FOREIGN), runtime(store))
    assert "LF101" in codes(answer)
    assert (answer.verified, answer.measurements, answer.detail) == (False, {}, "")
    assert answer.verdict.value == "refused"
    assert not loaded(answer)


@pytest.mark.parametrize("nb", [b"", b"not a model", nb_builder.small(NATIVE)[:-9], nb_builder.small(NATIVE)[:40]])
def test_a_file_that_is_no_whole_model_is_never_loaded(nb: bytes, store: Store) -> None:
    answer = proof(store, nb, runtime(store))
    assert codes(answer)
    assert answer.verified is False
    assert not loaded(answer)


def test_a_model_with_one_bit_flipped_is_never_loaded(store: Store) -> None:
    nb = nb_builder.small(NATIVE)
    assert loaded(proof(store, nb, runtime(store)))
    path = Path(store.blob(hashlib.sha256(nb).hexdigest()))
    path.write_bytes(nb[:-1] + bytes([nb[-1] ^ 1]))
    (identity,) = (file.stem for file in Path(store.path("releases")).glob("*.json"))
    answer = verify_release(store, identity, gather(store.root), lambda: None)
    assert "LF602" in codes(answer)
    assert (answer.verdict.value, answer.verified) == ("failed", False)
    assert not loaded(answer)


def test_a_runtime_whose_library_is_none_is_never_loaded(store: Store) -> None:
    answer = proof(store, nb_builder.small(NATIVE), runtime(store, b"not an ELF file"))
    assert "LF315" in codes(answer)
    assert not loaded(answer)


def test_a_machine_that_no_paddle_lite_runs_on_is_told_so(store: Store) -> None:
    real = gather(store.root).to_dict()
    alien = Facts.from_dict({**real, "arch": "", "machine": "riscv64"})
    answer = proof(store, nb_builder.small(NATIVE), runtime(store), alien)
    assert codes(answer) == {"LF303"}
    assert "riscv64" in answer.findings[0].observed
    assert not loaded(answer)


def test_a_missing_runtime_is_named(store: Store) -> None:
    for nb in (nb_builder.small(NATIVE), nb_builder.small(FOREIGN)):
        answer = proof(store, nb, "system")  # the interpreter of the tests has no paddlelite
        assert "LF302" in codes(answer)
        assert answer.verified is False


def test_a_runtime_that_went_away_is_a_finding(store: Store) -> None:
    key = runtime(store)
    manifest_first = proof(store, nb_builder.small(FOREIGN), key)
    assert "LF302" not in codes(manifest_first)
    shutil.rmtree(str(Path(store.path("runtimes", key)) / "paddlelite"))
    assert "LF302" in codes(proof(store, nb_builder.small(NATIVE), key))


def test_a_release_that_is_not_here_is_an_error(store: Store) -> None:
    with pytest.raises(StoreError):
        verify_release(store, "0" * 64, gather(store.root), lambda: None)


@pytest.mark.parametrize(
    ("total", "limit"), [(8 << 30, 3 << 30), (512 << 20, 448 << 20), (128 << 20, 96 << 20), (0, 3 << 30)]
)
def test_a_model_may_take_what_its_file_and_the_device_say(total: int, limit: int) -> None:
    assert default_memory_limit(128 << 20, 4 << 20, total) == limit
    assert default_memory_limit(1 << 60, 1 << 40, 4 << 30) < 4 << 30
    assert default_memory_limit(0, 0, 1) == 64 << 20


def test_a_proof_that_takes_all_memory_is_ended_without_any_setting(store: Store) -> None:
    real = gather(store.root)
    small = real._replace(memory=Memory(512 << 20, 500 << 20))
    greedy = "held = bytearray(1 << 30)"  # never touched: the limit on private mappings refuses it
    answer = proof(store, nb_builder.small(NATIVE), runtime(store, more=greedy), small)
    assert loaded(answer)
    assert codes(answer) & {"LF411", "LF315", "LF423"}, answer
    assert any("MemoryError" in found.observed for found in answer.findings)
    assert answer.verified is False
