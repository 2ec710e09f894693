"""The corpus: what goes wrong in the field, row by row, and what is good.  Data, with the call that gives the findings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from litefleet_agent.facts import Cpu, Libc, Memory
from litefleet_agent.facts.flavour import Flavour
from litefleet_agent.findings import Finding
from litefleet_controller.build.conversion.static import check_source_for

from tests.agent.support.log_corpus import LOGS as KEPT_LOGS
from tests.agent.support.nb_builder import nb, topology
from tests.conftest import raw_nb
from tests.controller.build.conversion.test_preflight import op as source_op
from tests.controller.build.conversion.test_preflight import program, saved
from tests.controller.build.conversion.test_preflight import var as source_var
from tests.diagnosis import corpus_inputs as at
from tests.diagnosis.corpus_inputs import FP16, INT8, OLD_PC, PC, PI1, PI3, PI4, RK3588

__all__ = ["BAD", "GOOD", "Case"]


@dataclass(frozen=True)
class Case:
    """One thing that is looked at.

    `codes` are what must be found above a note (any other finding above a note is a false alarm), the first of them ranked
    first; `notes` may be found besides, and must be where `codes` is empty.
    """

    row: int  # of docs/field-failures.md
    name: str
    how: str  # "real", "quoted" (from a public thread) or "fixture"
    codes: tuple[str, ...]
    look: Callable[[], list[Finding]]
    notes: tuple[str, ...] = ()


def _made_up_source() -> list[Finding]:
    """A program with an observer that quantisation-aware training left behind."""
    parts = (
        source_var("x", [1, 4]),
        source_var("y", [1, 4]),
        source_op("moving_average_abs_max_scale", ["x"], ["y"]),
        source_op("feed", ["feed"], ["x"]),
        source_op("fetch", ["y"], ["fetch"]),
        source_var("w", [4, 4], persistable=True),
    )
    return at.sources(program(*parts), saved([4, 4]))


def _huge_weights() -> list[Finding]:
    facts = replace(at.loaded("cls").facts, beyond_fp16=(("conv2d_0.w_0", 70000.0),))
    return check_source_for(facts, "arm", "2.13rc0", True)


def _meta_0() -> bytes:
    return b"\0\0" + at.real("cls", "x86")[2:]


def _huge_topology() -> bytes:
    data = at.real("cls", "x86")
    return data[:18] + (1 << 60).to_bytes(8, "little") + data[26:]


def _log(row: int, name: str, *codes: str, notes: tuple[str, ...] = ()) -> Case:
    (origin,) = [where for known, _, where in KEPT_LOGS if known == name]
    how = {"real": "real", "quoted": "quoted"}.get(origin.split(":")[0], "fixture")
    return Case(row, f"log {name}", how, codes, lambda: at.log(name), notes)


def _plain_arm_build() -> object:
    return replace(at.runtime(), so_machine="aarch64", flavour=Flavour("tiny", True, False))


BAD: tuple[Case, ...] = (
    Case(1, "cls for arm on x86_64", "real", ("LF101",), lambda: at.inspected(raw_nb("cls", "arm"), "x86_64")),
    Case(1, "rec for arm,x86 on a PC", "real", ("LF101",), lambda: at.on(PC, raw_nb("rec", "arm,x86"))),
    Case(
        1,
        "det for arm with the x86 runtime",
        "real",
        ("LF101",),
        lambda: at.with_runtime(raw_nb("det", "arm"), at.runtime()),
    ),
    Case(1, "cls for x86 on aarch64", "real", ("LF101",), lambda: at.inspected(raw_nb("cls", "x86"), "aarch64")),
    Case(1, "cls for x86,arm", "real", ("LF102",), lambda: at.doctored(raw_nb("cls", "x86,arm"))),
    _log(1, "run-arm-file-on-x86-2.13", "LF401", "LF101"),
    Case(
        2,
        "cls for opencl,arm on a board without it",
        "real",
        ("LF103",),
        lambda: at.on(PI4, raw_nb("cls", "opencl,arm")),
    ),
    _log(2, "issue-io-copy-android", "LF103"),
    Case(
        3,
        "cls for opencl,arm where /dev/mali0 may not be opened",
        "fixture",
        ("LF321",),
        lambda: at.on(
            RK3588._replace(
                opencl="/usr/lib/libOpenCL.so", opencl_devices=("/dev/mali0",), opencl_denied=("/dev/mali0",)
            ),
            raw_nb("cls", "opencl,arm"),
        ),
    ),
    _log(3, "issue-opencl-valid", "LF321"),
    Case(
        4,
        "a real fp16 file on a build without fp16",
        "fixture",
        ("LF104",),
        lambda: at.with_runtime(raw_nb("cls", "arm", **FP16), _plain_arm_build()),  # type: ignore[arg-type]
    ),
    _log(4, "issue-calib", "LF104"),
    Case(5, "fp16 on a Cortex-A72", "real", ("LF104",), lambda: at.on(PI4, raw_nb("cls", "arm", **FP16))),
    Case(5, "fp16 on armv7l", "real", ("LF104",), lambda: at.inspected(raw_nb("cls", "arm", **FP16), "armv7l")),
    _log(5, "shell-sigill", "LF310", "LF104"),
    Case(6, "fp16 and int8 kernels in one file", "fixture", ("LF112",), lambda: at.doctored(at.mixed_precision())),
    Case(7, "a weight that fp16 can't hold", "fixture", ("LF404",), _huge_weights),
    Case(7, "outputs that are not finite", "fixture", ("LF404",), lambda: at.ran([float("nan"), 0.0], [0.0, 1.0])),
    Case(
        8,
        "a file of 2.13 with the runtime of 2.12",
        "real",
        ("LF108",),
        lambda: at.with_runtime(raw_nb("cls", "x86"), at.runtime("2.12")),
    ),
    _log(8, "issue-kernels-end", "LF401", "LF108", "LF101"),
    Case(
        9,
        "a file of an untagged converter",
        "fixture",
        (),
        lambda: at.with_runtime(at.untagged(), at.runtime()),
        ("LF109",),
    ),
    Case(10, "layout version 0", "fixture", ("LF107",), lambda: at.doctored(at.written("meta0.nb", _meta_0()))),
    _log(10, "naive-buffer-upgraded", "LF107"),
    Case(
        11,
        "a picture named .nb",
        "real",
        ("LF106",),
        lambda: at.doctored(at.written("picture.nb", b"\xff\xd8\xff\xe0" + b"JFIF" * 2000)),
    ),
    _log(11, "run-other-file-2.13", "LF106", "LF107"),
    Case(
        12,
        "cut off in its weights",
        "real",
        ("LF105",),
        lambda: at.doctored(at.written("cut.nb", at.real("rec", "x86")[:-1000])),
    ),
    Case(
        12,
        "cut off in its table of contents",
        "real",
        ("LF105",),
        lambda: at.doctored(at.written("cut2.nb", at.real("rec", "x86")[:9000])),
    ),
    _log(12, "run-truncated-2.12", "LF105"),
    Case(
        13,
        "a table of contents of 2^60 bytes",
        "fixture",
        ("LF105",),
        lambda: at.doctored(at.written("huge.nb", _huge_topology())),
    ),
    _log(13, "run-garbage-size", "LF105"),
    Case(
        14,
        "a build without an operator of the file",
        "fixture",
        ("LF113",),
        lambda: at.with_runtime(
            raw_nb("cls", "x86"),
            replace(
                at.runtime(), flavour=replace(at.runtime().flavour, ops=at.runtime().flavour.ops - {"hard_sigmoid"})
            ),
        ),
    ),
    _log(14, "issue-slice", "LF113"),
    Case(15, "rec for x86 with 2.10", "real", ("LF206", "LF204"), lambda: at.source("rec", "x86", "2.10")),
    _log(15, "opt-operator-unsupported", "LF206"),
    Case(16, "an observer left by quantisation-aware training", "fixture", ("LF208",), _made_up_source),
    _log(16, "issue-qat", "LF206", "LF208"),
    _log(17, "opt-attribute", "LF205", "LF204"),
    _log(17, "issue-beta", "LF205", "LF204"),
    Case(18, "a model saved by PaddlePaddle 3", "real", ("LF202",), at.pir),
    _log(18, "opt-pir", "LF202"),
    Case(
        19,
        "a program in the parameters' place",
        "real",
        ("LF203",),
        lambda: at.sources(at.loaded("cls").program, at.loaded("cls").program),
    ),
    _log(19, "issue-version-0", "LF203"),
    Case(
        20,
        "cls with rec's parameters",
        "real",
        ("LF203",),
        lambda: at.sources(at.loaded("cls").program, b"".join(at.loaded("rec").pieces())),
    ),
    _log(20, "opt-wrong-parameters-2.13", "LF203"),
    _log(21, "opt-segfault", "LF205", notes=("LF209",)),
    _log(22, "pip-none", "LF302"),
    Case(23, "the x86_64 wheel on aarch64", "real", ("LF308",), lambda: at.runtime_on(PI4, at.runtime())),
    _log(23, "loader-wrong-machine", "LF308"),
    Case(
        24,
        "a wheel for CPython 3.10 under 3.8",
        "real",
        ("LF307",),
        lambda: at.runtime_on(PC._replace(python=PC.python._replace(tag="cp38", version="3.8.18")), at.runtime()),
    ),
    _log(24, "import-cp310-on-3.12", "LF307"),
    Case(
        25,
        "the wheel on glibc 2.12",
        "real",
        ("LF309",),
        lambda: at.runtime_on(PC._replace(libc=Libc("glibc", "2.12")), at.runtime()),
    ),
    Case(
        25,
        "the wheel beside an old libstdc++",
        "real",
        ("LF309",),
        lambda: at.runtime_on(PC._replace(libstdcxx="3.4.19"), at.runtime()),
    ),
    Case(
        25,
        "the wheel on musl",
        "real",
        ("LF309",),
        lambda: at.runtime_on(PC._replace(libc=Libc("musl", "1.2.4")), at.runtime()),
    ),
    _log(25, "loader-glibcxx", "LF309"),
    Case(
        26,
        "the wheel on a CPU without AVX",
        "real",
        ("LF310",),
        lambda: at.on(OLD_PC, raw_nb("cls", "x86"), at.runtime()),
    ),
    Case(26, "an ARM CPU without NEON", "real", ("LF310",), lambda: at.on(PI1, raw_nb("cls", "arm"))),
    Case(
        27,
        "a container that hides CPUs",
        "real",
        ("LF316",),
        lambda: at.on(PI4._replace(cpu=Cpu(2, ("Cortex-A72",), PI4.cpu.features, 4, 2)), raw_nb("cls", "arm")),
    ),
    _log(27, "issue-cpu-arch", "LF402", "LF316"),
    Case(28, "outputs off on one board of two alike", "fixture", ("LF403",), lambda: at.ran([0.7, 0.3], [0.3, 0.7])),
    Case(29, "int8 kernels on 32-bit ARM", "fixture", (), lambda: at.on(PI3, at.int8_kernels()), ("LF114",)),
    _log(29, "issue-kernel-null", "LF402", "LF415"),
    _log(30, "issue-worker-thread", "LF401", "LF415", "LF101"),
    _log(31, "run-input-unset", "LF402", "LF416", "LF417"),
    _log(31, "issue-invalid-shape", "LF416", "LF417"),
    _log(32, "issue-w-dims", "LF417"),
    _log(33, "run-uint8-input", "LF418"),
    Case(34, "the same output for every input", "fixture", ("LF405", "LF403"), lambda: at.ran([0.5, 0.5], [0.5, 0.5])),
    Case(
        34, "another output in a later run", "fixture", ("LF406",), lambda: at.ran([1.0, 0.0], [0.0, 1.0], [0.9, 0.1])
    ),
    Case(
        35,
        "rec on a board with 16 MB free",
        "real",
        ("LF311",),
        lambda: at.on(PI4._replace(memory=Memory(64 << 20, 16 << 20)), raw_nb("rec", "arm")),
    ),
    Case(
        36,
        "memory that grows with every run",
        "fixture",
        ("LF419",),
        lambda: at.benched("self.kept.append(b'x' * 300000); time.sleep(0.004)"),
    ),
    Case(37, "numpy 2 beside Paddle-Lite", "real", ("LF304",), lambda: at.doctored(at.numpy_2_runtime())),
    _log(37, "numpy-2", "LF304"),
    Case(
        38,
        "a root file system without libstdc++",
        "real",
        ("LF306",),
        lambda: at.runtime_on(
            PC._replace(libraries=("libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0")), at.runtime()
        ),
    ),
    _log(38, "loader-library-missing", "LF306"),
    Case(0, "int8 weights for x86", "real", ("LF111",), lambda: at.inspected(raw_nb("cls", "x86", **INT8), "x86_64")),
    Case(
        0,
        "no operator names a kernel",
        "fixture",
        ("LF105",),
        lambda: at.doctored(at.written("none.nb", nb(topology([], []), b""))),
    ),
)


def _good_files() -> list[Case]:
    cases = []
    for model in ("cls", "det", "rec"):
        for target, boards in (("x86", {"pc": PC}), ("arm", {"pi4": PI4, "pi3": PI3, "rk3588": RK3588})):
            for name, facts in boards.items():
                cases.append(
                    Case(
                        0,
                        f"{model} for {target} on {name}",
                        "real",
                        (),
                        lambda f=facts, m=model, t=target: at.on(f, raw_nb(m, t)),
                    )
                )  # type: ignore[misc]
        for arch, target in (("x86_64", "x86"), ("i686", "x86"), ("aarch64", "arm"), ("armv7l", "arm")):
            cases.append(
                Case(
                    0,
                    f"{model} inspected for {arch}",
                    "real",
                    (),
                    lambda a=arch, m=model, t=target: at.inspected(raw_nb(m, t), a),
                )
            )  # type: ignore[misc]
        for target in ("x86", "arm"):
            cases.append(Case(0, f"source {model} for {target}", "real", (), lambda m=model, t=target: at.source(m, t)))  # type: ignore[misc]
        cases.append(
            Case(
                0,
                f"{model} with its runtime on a PC",
                "real",
                (),
                lambda m=model: at.on(PC, raw_nb(m, "x86"), at.runtime()),
            )
        )  # type: ignore[misc]
    return cases


def _good_runtimes() -> list[Case]:
    tags = {"2.13rc0": "cp310", "2.12": "cp37", "2.10": "cp39"}
    return [
        Case(0, f"the wheel {version} on a PC", "real", (), lambda v=version, t=tag: at.runtime_on(PC._replace(python=PC.python._replace(tag=t)), at.runtime(v)))  # type: ignore[misc]
        for version, tag in tags.items()
    ]  # fmt: skip


def _good_others() -> list[Case]:
    opencl = RK3588._replace(opencl="/usr/lib/libOpenCL.so", opencl_devices=("/dev/mali0",))
    return [
        Case(0, "fp16 on a Cortex-A76", "real", (), lambda: at.on(RK3588, raw_nb("cls", "arm", **FP16))),
        Case(0, "int8 on a Cortex-A72", "real", (), lambda: at.on(PI4, raw_nb("cls", "arm", **INT8))),
        Case(0, "opencl,arm where there is OpenCL", "real", (), lambda: at.on(opencl, raw_nb("cls", "opencl,arm"))),
        Case(0, "outputs as the reference", "fixture", (), lambda: at.ran([1.0, 0.0], [0.0, 1.0])),
        Case(0, "memory that was warming up", "fixture", (), lambda: at.benched("time.monotonic() - BEGUN < 1.5 and self.kept.append(b'x' * 300000); time.sleep(0.004)")),
    ]  # fmt: skip


def _good_logs() -> list[Case]:
    quiet = [name for name, codes, _ in KEPT_LOGS if not codes or codes == ("LF108",)]
    return [_log(0, name) for name in quiet]


GOOD: tuple[Case, ...] = (*_good_files(), *_good_runtimes(), *_good_others(), *_good_logs())
