"""Paddle-Lite's C++ library as a runtime: found wherever people have it, judged before it travels, the newest that fits."""

from __future__ import annotations

import asyncio
import io
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from litefleet_agent.facts import Cpu, Facts, Libc, PythonFacts
from litefleet_agent.facts.runtime import describe_runtime
from litefleet_agent.formats.elf import read_elf
from litefleet_agent.formats.engine_settings import EngineSettings, OpenCLSettings
from litefleet_agent.formats.nb import read_nb
from litefleet_controller.build.runtimes.build import build_bundle, runtime_from_dict, runtime_to_dict
from litefleet_controller.build.runtimes.choose import choose_runtime, errors_beforehand
from litefleet_controller.build.runtimes.compatibility import DeviceKind
from litefleet_controller.build.runtimes.library import Library, read_library, without_sections
from litefleet_controller.common.errors import FindingError
from litefleet_controller.config import load_config
from litefleet_controller.config.choices import RuntimeChoice
from litefleet_inventory import Device

from tests.agent.verification.native.driving import compile_standin
from tests.conftest import raw_nb

NAME = "libpaddle_light_api_shared.so"
TOP = "inference_lite_lib.armlinux.armv8.gcc.with_extra"
PI = Facts(
    machine="aarch64",
    arch="aarch64",
    bits=64,
    libc=Libc("glibc", "2.31"),
    libstdcxx="3.4.28",
    cpu=Cpu(cores=4, parts=("Cortex-A72",), features=("asimd",)),
    python=PythonFacts("/usr/bin/python3", "3.9.2", "cpython", "cp39", 64),
)
DEVICE = Device("pi", "192.0.2.1")


@pytest.fixture(scope="module")
def standin(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A stand-in for the library, as bytes for aarch64, of glibc 2.17."""
    data = compile_standin(tmp_path_factory.mktemp("standin") / NAME, "-s").read_bytes()
    for version in sorted(read_elf(data).versions):
        if version.startswith(("GLIBC_", "GLIBCXX_")):  # as if it were built on an old system
            old = version.split("_")[0] + "_2.2.5".ljust(len(version), "0")[: len(version) - len(version.split("_")[0])]
            data = data.replace(b"\0" + version.encode() + b"\0", b"\0" + old.encode() + b"\0")
    return data[:18] + (183).to_bytes(2, "little") + data[20:]


def of_version(data: bytes, version: str, glibc: str = "") -> bytes:
    """The stand-in with a version's text in it, and with that glibc among its needs ("9.9")."""
    data += b"\0" + version.encode() + b"\0"
    return data.replace(b"GLIBC_2.2.5\0", b"GLIBC_" + glibc.ljust(5, "0").encode() + b"\0") if glibc else data


def tar(path: Path, members: dict[str, bytes | tarfile.TarInfo]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            data = b"" if isinstance(content, tarfile.TarInfo) else content
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def link(name: str, to: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, to
    return info


def release(path: Path, data: bytes) -> Path:
    """A release archive as Paddle-Lite publishes it."""
    return tar(
        path,
        {
            f"{TOP}/cxx/include/paddle_api.h": b"// header",
            f"{TOP}/cxx/lib/libpaddle_api_light_bundled.a": bytes(1000),
            f"{TOP}/cxx/lib/{NAME}": data,
            f"{TOP}/cxx/lib/libother.so": data,
            f"{TOP}/demo/cxx/mobile_light/main.cc": b"int main() {}",
            f"{TOP}/java/so/libpaddle_lite_jni.so": data,
            f"{TOP}/cxx/lib/link.so": link(f"{TOP}/cxx/lib/link.so", "/etc/passwd"),
        },
    )


def tree_of(library: Library) -> list[str]:
    return sorted(str(path.relative_to(library.tree)) for path in library.tree.rglob("*") if path.is_file())


def refusal(source: Path, cache: Path) -> tuple[str, str]:
    with pytest.raises(FindingError) as caught:
        read_library(source, cache)
    (found,) = caught.value.findings
    return found.code, found.observed


def test_only_the_library_of_an_archive_travels(standin: bytes, tmp_path: Path) -> None:
    source = release(tmp_path / f"{TOP}.tar.gz", of_version(standin, "v2.13-rc"))
    library = read_library(source, tmp_path / "cache")
    assert tree_of(library) == [NAME]
    runtime = library.runtime
    assert (runtime.kind, runtime.so_machine, runtime.interface) == ("library", "aarch64", "c++")
    assert library.words == f"v2.13-rc of {TOP}.tar.gz"
    bundle = asyncio.run(
        build_bundle(RuntimeChoice("library", path=source), DeviceKind.of(PI), tmp_path / "cache" / "b")
    )
    assert bundle.path is not None
    with zipfile.ZipFile(bundle.path) as packed:
        assert packed.namelist() == [NAME]
    assert bundle.runtime == runtime
    other = DeviceKind("aarch64", "cp313", "glibc", "2.41")  # the same for every interpreter
    again = asyncio.run(build_bundle(RuntimeChoice("library", path=source), other, tmp_path / "cache" / "b"))
    assert again == bundle
    kind = DeviceKind("armv7l", "cp39", "glibc", "2.31")
    with pytest.raises(FindingError, match="is for aarch64; this device is armv7l"):
        asyncio.run(build_bundle(RuntimeChoice("library", path=source), kind, tmp_path / "cache" / "b"))


@pytest.mark.parametrize("given", ["", TOP, f"{TOP}/cxx", f"{TOP}/cxx/lib", f"{TOP}/cxx/lib/{NAME}"])
def test_an_unpacked_archive_may_be_named_anywhere(standin: bytes, tmp_path: Path, given: str) -> None:
    with tarfile.open(release(tmp_path / "a.tar.gz", standin)) as archive:
        archive.extractall(tmp_path / "unpacked", filter="fully_trusted")
    assert tree_of(read_library(tmp_path / "unpacked" / given, tmp_path / "cache")) == [NAME]


def test_a_file_alone_gets_the_name_that_the_agent_looks_for(standin: bytes, tmp_path: Path) -> None:
    (tmp_path / "paddle.so").write_bytes(standin)
    library = read_library(tmp_path / "paddle.so", tmp_path / "cache")
    assert tree_of(library) == [NAME]
    assert library.runtime.kind == "library"


def test_libraries_that_it_needs_go_along(standin: bytes, tmp_path: Path) -> None:
    needing = standin.replace(b"libstdc++.so.6\0", b"libstdc++.so.9\0")
    members = {f"{TOP}/cxx/lib/{NAME}": needing, f"{TOP}/third_party/x/libstdc++.so.9": standin, "libz.so.9": standin}
    assert tree_of(read_library(tar(tmp_path / "a.tar.gz", members), tmp_path / "cache")) == [NAME, "libstdc++.so.9"]


def test_what_no_loader_reads_stays_behind(standin: bytes) -> None:
    padded = standin + bytes(1 << 20)
    cut = without_sections(padded)
    assert len(cut) < len(standin)
    assert read_elf(cut) == read_elf(standin)
    assert without_sections(b"\x7fELF" + bytes(100)) == b"\x7fELF" + bytes(100)


def test_archives_that_are_none_or_hostile_are_sentences(standin: bytes, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    whole = release(tmp_path / "whole.tar.gz", standin).read_bytes()
    damaged = {
        "cut.tar.gz": whole[: len(whole) // 2],
        "flipped.tar.gz": whole[: len(whole) // 2] + b"\0" * 64 + whole[len(whole) // 2 + 64 :],
        "page.tar.gz": b"<!DOCTYPE html><html>Not Found</html>",
        "empty.tar.gz": b"",
        "noise.tar.gz": b"nothing known" * 99,
        "half.zip": b"PK\x03\x04" + bytes(99),
    }
    for name, data in damaged.items():
        (tmp_path / name).write_bytes(data)
        code, observed = refusal(tmp_path / name, cache)
        assert code == "LF322", name
        assert observed.startswith(name), observed
        assert observed.endswith("."), observed
    code, observed = refusal(tar(tmp_path / "out.tar.gz", {f"../../{NAME}": standin}), cache)
    assert (code, "which would not stay inside its folder" in observed) == ("LF322", True)
    assert refusal(tmp_path / "no.tar.gz", cache) == ("LF302", f"{tmp_path / 'no.tar.gz'} is missing.")
    assert refusal(tar(tmp_path / "java.tar.gz", {"java/so/libpaddle_lite_jni.so": standin}), cache) == (
        "LF302",
        f"java.tar.gz holds no {NAME} (or libpaddle_full_api_shared.so) (looked anywhere in it). "
        "It holds the library for Java: take an archive for armlinux.",
    )
    assert refusal(tar(tmp_path / "two.tar.gz", {f"a/{NAME}": standin, f"b/{NAME}": standin}), cache) == (
        "LF302",
        f"two.tar.gz holds {NAME} several times (a, b): name one of them.",
    )
    code, observed = refusal(tar(tmp_path / "short.tar.gz", {f"cxx/lib/{NAME}": standin[:9000]}), cache)
    assert (code, observed.startswith(f"{NAME} of short.tar.gz: The ELF file ends too early")) == ("LF315", True)
    (tmp_path / "x-1-cp39-cp39-linux_aarch64.whl").write_bytes(b"PK\x03\x04")
    assert refusal(tmp_path / "x-1-cp39-cp39-linux_aarch64.whl", cache)[1].endswith(
        "is a wheel: name it with `wheel:`."
    )
    assert not [path for path in (cache / "libraries").iterdir() if path.name.startswith(".reading")]
    with zipfile.ZipFile(tmp_path / "good.zip", "w") as packed:
        packed.writestr(f"{TOP}/cxx/lib/{NAME}", standin)
    assert tree_of(read_library(tmp_path / "good.zip", cache)) == [NAME]


def test_an_archive_that_unpacks_without_end_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("litefleet_controller.build.runtimes.library_files._UNPACKED", 1 << 20)
    source = tar(tmp_path / "bomb.tar.gz", {f"cxx/lib/{NAME}": bytes(2 << 20)})
    code, observed = refusal(source, tmp_path / "cache")
    assert (code, observed) == ("LF322", "bomb.tar.gz holds more than 200 libraries or 1,048,576 bytes of them.")


# --- which one a device gets


@pytest.fixture
def chosen(tmp_path: Path) -> Callable[..., tuple[str, list[str], str]]:
    def choose(runtimes: str, facts: Facts = PI) -> tuple[str, list[str], str]:
        path = tmp_path / "litefleet.yaml"
        path.write_text(f"models: {{cls: {{source: m}}}}\nruntimes:\n  aarch64: {runtimes}\n")
        found = choose_runtime(load_config(path), DEVICE, facts, cache=tmp_path / "cache")
        return found.choice.path.name, [f"{f.code} {f.observed}" for f in found.refusals], found.why

    return choose


def test_each_device_gets_the_newest_that_fits(
    standin: bytes, tmp_path: Path, chosen: Callable[..., tuple[str, list[str], str]]
) -> None:
    release(tmp_path / "old.tar.gz", of_version(standin, "v2.10"))
    release(tmp_path / "new.tar.gz", of_version(standin, "v2.13-rc", "9.9"))
    (tmp_path / "mid").mkdir()
    (tmp_path / "mid" / NAME).write_bytes(of_version(standin, "v2.12"))
    several = "[{archive: old.tar.gz}, {archive: new.tar.gz}, {folder: mid}]"
    assert chosen(several) == (
        "mid",
        [],
        "v2.12 of mid, the newest of 2 that fit; not v2.13-rc of new.tar.gz: The runtime needs glibc 9.900; this device has "
        "2.31",
    )
    assert chosen(several, PI._replace(libc=Libc("glibc", "9.999")))[0] == "new.tar.gz"
    assert chosen("{archive: old.tar.gz}") == ("old.tar.gz", [], "v2.10 of old.tar.gz")
    assert chosen("{archive: new.tar.gz}")[1] == ["LF309 The runtime needs glibc 9.900; this device has 2.31."]
    assert chosen("[{archive: new.tar.gz}, {library: gone.so}]")[1] == [
        "LF309 v2.13-rc of new.tar.gz: The runtime needs glibc 9.900; this device has 2.31.",
        f"LF302 gone.so: {tmp_path / 'gone.so'} is missing.",
    ]
    pypy = PI._replace(python=PI.python._replace(tag="pp39"))  # any interpreter drives it
    assert chosen("{archive: old.tar.gz}", pypy)[1] == []


def test_a_build_that_cannot_be_driven_is_refused_beforehand(
    standin: bytes, tmp_path: Path, chosen: Callable[..., tuple[str, list[str], str]]
) -> None:
    name = b"_ZN6paddle8lite_api12MobileConfig19set_model_from_fileERK"
    (tmp_path / "old.so").write_bytes(standin.replace(name, b"X" * len(name)) + b"\0" + name + b"Ss\0")
    (tmp_path / "none.so").write_bytes(standin.replace(name, b"X" * len(name)))
    assert chosen("{library: old.so}")[1] == [
        f"LF315 {NAME} cannot be used: it was built with the old string ABI (_GLIBCXX_USE_CXX11_ABI=0). Take the archive of a "
        "newer toolchain (`.gcc`), or build it with -D_GLIBCXX_USE_CXX11_ABI=1."
    ]
    assert chosen("{library: none.so}")[1][0].startswith(
        f"LF315 {NAME} cannot be used: it exports none of Paddle-Lite's C++ functions"
    )


@pytest.mark.toolchain
def test_what_a_build_lacks_is_known_before_it_travels(standin: bytes, tmp_path: Path) -> None:
    small = b"".join(b"_Z%dtouch_op_%sv\0" % (9 + len(op), op) for op in (b"conv2d", b"pool2d", b"softmax", b"concat",
                                                                         b"feed", b"fetch"))  # fmt: skip
    (tmp_path / "small.so").write_bytes(standin + b"\0" + small)
    runtime = read_library(tmp_path / "small.so", tmp_path / "cache").runtime
    model = read_nb(raw_nb("cls", "arm").read_bytes())
    (found,) = errors_beforehand(model, PI, runtime)
    assert found.code == "LF113"
    assert found.observed.startswith("The file uses ")
    assert errors_beforehand(model, PI, read_library(_whole(standin, tmp_path), tmp_path / "cache").runtime) == []
    whole = read_library(_whole(standin, tmp_path), tmp_path / "cache").runtime
    (found,) = errors_beforehand(model, PI._replace(noexec=True), whole)
    assert found.code == "LF327"
    asked = EngineSettings(opencl=OpenCLSettings("CL_TUNE_NORMAL"))
    (found,) = errors_beforehand(model, PI._replace(opencl="/usr/lib/libOpenCL.so.1"), whole, asked)
    assert found.code == "LF103"
    assert "its Paddle-Lite runtime was built without OpenCL: `engine: {aarch64: {opencl: null}}`" in found.observed
    (found,) = errors_beforehand(model, PI, None, asked)  # the device's own Paddle-Lite
    assert "this device has no OpenCL library" in found.observed
    assert errors_beforehand(model, PI, whole, EngineSettings(threads=2, power_mode="LITE_POWER_LOW")) == []
    assert runtime_from_dict(runtime_to_dict(runtime)) == runtime


def _whole(standin: bytes, tmp_path: Path) -> Path:
    (tmp_path / "whole.so").write_bytes(standin)
    return tmp_path / "whole.so"


def test_numpy_2_counts_where_the_library_cannot_be_driven(tmp_path: Path) -> None:
    package = tmp_path / "paddlelite"
    package.mkdir()
    (package / "__init__.py").touch()
    shutil.copy("/bin/true", package / "lite.so")
    (tmp_path / "numpy").mkdir()
    (tmp_path / "numpy" / "__init__.py").touch()
    (tmp_path / "numpy-2.2.6.dist-info").mkdir()
    runtime = describe_runtime(str(tmp_path), [])
    here = PI._replace(arch=runtime.so_machine, machine=runtime.so_machine)
    found = errors_beforehand(read_nb(raw_nb("cls", "x86").read_bytes()), here, runtime)
    assert "LF304" in [f.code for f in found]
