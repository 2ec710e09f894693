"""Conversion with the real converters, and what becomes of everything that goes wrong in them."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from litefleet_agent.formats.nb import normalise
from litefleet_agent.sandbox import describe_kernel
from litefleet_controller.build.artifacts import ArtifactStore
from litefleet_controller.build.conversion.convert import admit, convert, explain_end
from litefleet_controller.build.conversion.preflight import Source, load_source
from litefleet_controller.build.conversion.variant import make_variant
from litefleet_controller.build.toolchain import Toolchain, Toolchains
from litefleet_controller.common.errors import FindingError
from litefleet_controller.common.subprocesses import run_subprocess

pytestmark = pytest.mark.toolchain


@pytest.fixture(scope="module")
def cls(models: dict[str, Path]) -> Source:
    return load_source(models["cls"])


class OneConverter:
    """Gives the same program as the converter of every version: what a broken opt would do can be tried with it."""

    def __init__(self, folder: Path, body: str) -> None:
        self.script = folder / "opt.py"
        self.script.write_text(
            "import os, sys\nargs = dict(a[2:].split('=', 1) for a in sys.argv[1:])\n"
            "out = args['optimize_out'] + '.nb'\n" + body
        )

    async def lite(self, version: str) -> Toolchain:
        return Toolchain(version, Path(sys.executable), self.script)


async def refused(*args: object, **options: object) -> tuple[str, str]:
    with pytest.raises(FindingError) as caught:
        await convert(*args, **options)  # type: ignore[arg-type]
    return caught.value.findings[0].code, caught.value.findings[0].observed


async def test_two_conversions_give_identical_bytes(
    cls: Source, toolchains: Toolchains, tmp_path: Path, nb_files: Callable[..., Path]
) -> None:
    variant = make_variant(cls.sha256, "x86")
    one = await convert(cls, variant, toolchains, ArtifactStore(tmp_path / "one"))
    two = await convert(cls, variant, toolchains, ArtifactStore(tmp_path / "two"))
    assert one.path.read_bytes() == two.path.read_bytes() == normalise(nb_files("cls", "x86").read_bytes())
    assert one.sha256 == two.sha256 == one.nb.sha256
    assert one.nb.kernels_by_target() == {"x86": 83, "host": 14}
    assert one.findings == ()


async def test_a_second_run_converts_nothing_and_damage_converts_again(
    cls: Source, toolchains: Toolchains, store: ArtifactStore, tmp_path: Path
) -> None:
    variant = make_variant(cls.sha256, "arm")
    first = await convert(cls, variant, toolchains, store)
    never = OneConverter(tmp_path, "sys.exit('must not run')")
    again = await convert(cls, variant, never, store)
    assert (first.cached, again.cached) == (False, True)
    assert (again.sha256, again.nb, again.path) == (first.sha256, first.nb, first.path)
    first.path.write_bytes(first.path.read_bytes()[:-1] + b"!")
    mended = await convert(cls, variant, toolchains, store)
    assert (mended.cached, mended.sha256) == (False, first.sha256)
    assert store.intact(first.sha256)


async def test_every_kind_of_variant(cls: Source, toolchains: Toolchains, store: ArtifactStore) -> None:
    sha = cls.sha256
    opencl, half, arm8, x8, old = variants = [
        make_variant(sha, "arm,opencl"),
        make_variant(sha, "arm", fp16=True),
        make_variant(sha, "arm", quant="int8"),
        make_variant(sha, "x86", quant="int16"),
        make_variant(sha, "x86", opt_version="2.12"),
    ]
    good = {variant: await convert(cls, variant, toolchains, store) for variant in variants}
    assert good[opencl].nb.kernels_by_target()["opencl"] > 50
    assert good[half].nb.kernels_by_precision()["fp16"] > 50
    assert good[arm8].findings == ()
    assert good[arm8].nb.quantised_weights > 0
    assert [f.code for f in good[x8].findings] == ["LF111"]  # int weights on x86 answer NaN
    assert good[old].nb.opt_version == "v2.12"
    assert len({a.sha256 for a in good.values()}) == 5


async def test_an_operator_without_a_kernel_is_named(cls: Source, toolchains: Toolchains, store: ArtifactStore) -> None:
    code, observed = await refused(cls, make_variant(cls.sha256, "x86", opt_version="2.10"), toolchains, store)
    assert code == "LF206"
    assert "1 ops are not supported on 'x86'" in observed
    assert "'matmul_v2'" in observed
    assert not store.root.exists()


async def test_an_abort_is_decoded_with_its_last_words(
    cls: Source, models: dict[str, Path], toolchains: Toolchains, store: ArtifactStore
) -> None:
    # The preflight would refuse this pair; it is put past it here to see the converter's own end.
    rec = (models["rec"] / "inference.pdmodel").read_bytes()
    mixed = dataclasses.replace(cls, program=rec)
    code, seen = await refused(mixed, make_variant(cls.sha256, "x86"), toolchains, store)
    assert code == "LF205"
    assert seen == (
        "Paddle-Lite 2.13rc0's converter, target x86, stopped itself at a failed check. "
        "Its output: Check failed: !reader->ReachEnd(): Nothing to read."
    )
    assert not store.root.exists()


async def test_the_time_limit_ends_a_conversion(cls: Source, toolchains: Toolchains, store: ArtifactStore) -> None:
    await toolchains.lite()
    code, seen = await refused(cls, make_variant(cls.sha256, "x86"), toolchains, store, time_limit_s=0.05)
    assert (code, seen) == (
        "LF205",
        "Paddle-Lite 2.13rc0's converter, target x86, did not finish within 0.05 s and was stopped.",
    )


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("os.kill(os.getpid(), 11)", "was killed by SIGSEGV. It printed nothing."),
        ("sys.exit('disk is full')", "ended with exit code 1. Its output: disk is full."),
        (
            "import subprocess\nwhile True: print(subprocess.call('true'), end=' ', flush=True); os.kill(os.getppid(), 0)",
            "ended with exit code 1. Its output: PermissionError: [Errno 1] Operation not permitted.",
        ),
        ("open(os.path.dirname(__file__) + '/new', 'w')", "/new'."),
        ("print('optimized successfully')", "reported success and wrote no file. Its output: optimized successfully."),
    ],
)
async def test_other_ends_of_a_converter(
    cls: Source, store: ArtifactStore, tmp_path: Path, body: str, says: str
) -> None:
    if "/new" in body and not describe_kernel().landlock_abi:
        pytest.skip("this kernel has no Landlock: opt may write where its user may")
    code, seen = await refused(cls, make_variant(cls.sha256, "arm"), OneConverter(tmp_path, body), store)
    assert code == "LF205"
    assert seen.endswith(says)


@pytest.mark.parametrize(
    ("target", "made_for", "code"),
    [("x86", "arm", "LF101"), ("arm", "x86", "LF101"), ("x86", "x86,arm", "LF102"), ("opencl,arm", "arm", "LF206")],
)
async def test_a_file_for_another_machine_never_reaches_the_store(
    cls: Source,
    store: ArtifactStore,
    tmp_path: Path,
    nb_files: Callable[..., Path],
    target: str,
    made_for: str,
    code: str,
) -> None:
    wrong = OneConverter(tmp_path, f"open(out, 'wb').write({nb_files('cls', made_for).read_bytes()!r})")
    assert (await refused(cls, make_variant(cls.sha256, target), wrong, store))[0] == code
    assert not [path for path in store.root.rglob("*") if path.is_file()]


async def test_garbage_and_cut_files_from_a_converter_are_refused(
    cls: Source, store: ArtifactStore, tmp_path: Path, nb_files: Callable[..., Path]
) -> None:
    variant = make_variant(cls.sha256, "x86")
    garbage = OneConverter(tmp_path, "open(out, 'wb').write(b'no model' * 100)")
    assert (await refused(cls, variant, garbage, store))[0] in ("LF105", "LF106", "LF107")
    cut = OneConverter(tmp_path, f"open(out, 'wb').write({nb_files('cls', 'x86').read_bytes()[:-10]!r})")
    assert (await refused(cls, variant, cut, store))[0] == "LF105"


async def test_the_users_python_settings_do_not_reach_the_converter(
    cls: Source, toolchains: Toolchains, store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit('the wrong numpy')")
    (tmp_path / "argparse.py").write_text("raise SystemExit('the wrong argparse')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert (await convert(cls, make_variant(cls.sha256, "x86"), toolchains, store)).nb.complete


async def test_a_variant_of_another_source_is_a_programmers_mistake(
    cls: Source, toolchains: Toolchains, store: ArtifactStore
) -> None:
    with pytest.raises(ValueError, match="another source"):
        await convert(cls, make_variant("0" * 64, "x86"), toolchains, store)


async def test_only_the_telling_lines_are_quoted(cls: Source) -> None:
    script = "echo Loading; printf '\\033[1m[F 1/1 1:1:1. 1 x.h:1 Y] Check failed: a: b\\n'; kill -ABRT $$"
    end = await run_subprocess(["sh", "-c", script], time_limit_s=10)
    found = explain_end(end, make_variant(cls.sha256, "arm"), 10)
    assert found.observed.endswith("stopped itself at a failed check. Its output: Check failed: a: b.")


@pytest.mark.parametrize(("targets", "codes"), [("x86", []), ("opencl,arm", []), ("x86,arm", ["LF102"])])
def test_ready_made_files_are_stored_with_their_findings(
    store: ArtifactStore, nb_files: Callable[..., Path], targets: str, codes: list[str]
) -> None:
    path = nb_files("cls", targets)
    artifact = admit(path, store)
    assert [f.code for f in artifact.findings] == codes
    assert artifact.path.read_bytes() == path.read_bytes()
    assert admit(path, store).sha256 == artifact.sha256


def test_what_is_no_nb_is_never_admitted(store: ArtifactStore, models: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(FindingError, match=r"LF10[67]"):
        admit(models["cls"] / "inference.pdmodel", store)
    with pytest.raises(FindingError, match="cannot be read: No such file"):
        admit(tmp_path / "gone.nb", store)
    assert not [path for path in store.root.rglob("*") if path.is_file()]
