"""The facts of a device whose Python was brought: what it has of its own, and what came along."""

from pathlib import Path

import pytest
from litefleet_agent.facts import Facts, Libc, Process, gather
from litefleet_agent.facts.libraries import describe_brought
from litefleet_agent.facts.values import Brought
from litefleet_agent.formats.files import Tree

KEY = "0123456789abcdef" * 2


def brought(folder: Path, with_loader: bool = True) -> Path:
    python = folder / "python" / KEY / "bin" / "python3"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\n")
    python.with_name("python3.real").write_bytes(b"\x7fELF")
    (python.parents[1] / "lib").mkdir()
    for name in ("libc.so.6", "libgomp.so.1") + (("ld.so",) if with_loader else ()):
        (python.parents[1] / "lib" / name).write_bytes(b"\x7fELF")
    return python


@pytest.mark.parametrize(
    ("files", "libc"),
    [
        ((), "none"),
        (("lib/ld-musl-aarch64.so.1",), "musl"),
        (("lib64/ld-linux-x86-64.so.2",), "glibc"),
        (("lib/aarch64-linux-gnu/ld-2.28.so",), "glibc"),
    ],
)
def test_the_devices_own_libc_is_named(tmp_path: Path, files: tuple, libc: str) -> None:
    python = brought(tmp_path)
    system = tmp_path / "system"
    for name in files:
        (system / name).parent.mkdir(parents=True)
        (system / name).write_bytes(b"")
    found, folders = describe_brought(Tree(str(system)), str(python))
    assert found == Brought(KEY, libc)
    assert folders == (str(python.parents[1] / "lib"),)
    facts = Facts(libc=Libc("glibc", "2.36"), brought=found)
    assert facts.libc_words == f"glibc 2.36 (brought; the system has {libc})"
    assert Facts.from_dict(facts.to_dict()) == facts


def test_the_libraries_that_came_along_count(tmp_path: Path) -> None:
    python = brought(tmp_path)
    facts = gather(str(tmp_path), "/", Process(machine="x86_64", executable=str(python), confstr="glibc 2.36"))
    assert {"libc.so.6", "libgomp.so.1"} <= set(facts.libraries)
    assert facts.brought.key == KEY
    assert facts.libc == Libc("glibc", "2.36")


def test_a_python_on_the_devices_own_libc_brings_none(tmp_path: Path) -> None:
    python = brought(tmp_path, with_loader=False)
    assert describe_brought(Tree("/"), str(python)) == (Brought(KEY, ""), ())


@pytest.mark.parametrize("path", ["/usr/bin/python3", "", "python3", f"/opt/{KEY}/bin/python3"])
def test_the_devices_own_is_none_that_was_brought(path: str) -> None:
    assert describe_brought(Tree("/"), path) == (Brought(), ())
    assert Facts(libc=Libc("glibc", "2.31")).libc_words == "glibc 2.31"


def test_an_old_agents_facts_have_none() -> None:
    data = Facts().to_dict()
    del data["brought"]
    assert Facts.from_dict(data).brought == Brought()
