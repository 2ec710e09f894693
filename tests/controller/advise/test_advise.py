"""Advice on variants: which device takes which file and why, and what other options would bring; facts of many boards."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from litefleet_agent.facts import Facts
from litefleet_agent.facts.values import Cpu, Libc, Memory, PythonFacts
from litefleet_agent.findings import Finding, finding
from litefleet_agent.formats.nb import read_nb
from litefleet_controller.advise.kinds import DeviceReport, Kind, Origin, Runtime, kind_of, runtime_on
from litefleet_controller.advise.options import Possible, Proof, options_for
from litefleet_controller.advise.summary import Advice, KindAdvice, OptionBenchmark
from litefleet_controller.advise.variants import CandidateFile, Placement, PlacementStatus, needed_files, place
from litefleet_controller.config import Config
from litefleet_controller.config.choices import PUBLISHED_PYTHONS as PUBLISHED
from litefleet_controller.reports.advice_text import advice_text
from litefleet_inventory import Device

PLAIN = ("asimd", "fp")
HALF = (*PLAIN, "asimdhp", "fphp")
AVX2 = ("avx", "avx2", "fma")
VERSIONS = ("2.13rc0", "2.12", "2.10")
NOW = 1_800_000_000.0


def board(
    machine: str, arch: str, part: str, features: tuple[str, ...], tag: str = "cp310", libc: str = "glibc"
) -> Facts:
    return Facts(
        machine=machine,
        arch=arch,
        cpu=Cpu(4, tuple(part.split("+")), tuple(sorted(features)), 4, 4),
        libc=Libc(libc, "2.36" if libc == "glibc" else "1.2"),
        python=PythonFacts("/usr/bin/python3", "3.10.1", "cpython", tag, 64),
        memory=Memory(4 << 30, 2 << 30),
    )


BOARDS = {
    "pi4": board("aarch64", "aarch64", "Cortex-A72", PLAIN),
    "pi3": board("aarch64", "armv7l", "Cortex-A53", ("neon", "vfpv4"), "cp39"),
    "rk3588": board("aarch64", "aarch64", "Cortex-A55+Cortex-A76", HALF),
    "jetson": board("aarch64", "aarch64", "Carmel", HALF, "cp38"),
    "nuc": board("x86_64", "x86_64", "Intel N100", AVX2),
    "old": board("x86_64", "x86_64", "Celeron J1900", ("sse4_2",)),
    "alpine": board("x86_64", "x86_64", "Intel N100", AVX2, libc="musl"),
    "router": board("mips", "", "MIPS 24Kc", ()),
}
BUILT = Runtime("folder built", "")
WHEEL = Runtime("published wheel of 2.13rc0", "2.13rc0", published=True)


@pytest.fixture(scope="session")
def files(nb_files: Callable[..., Path]) -> dict[str, CandidateFile]:
    """Real files for arm, arm with fp16, and x86."""

    def read(label: str, *args: str, **flags: str) -> CandidateFile:
        model = read_nb(nb_files("cls", *args, **flags).read_bytes())
        return CandidateFile(model.sha256, label, model)

    return {
        "arm": read("arm", "arm"),
        "x86": read("x86", "x86"),
        "arm fp16": read("arm fp16", "arm", enable_fp16="true"),
    }


def device_report(name: str, origin: Origin = Origin.PROBE, *findings: Finding) -> DeviceReport:
    return DeviceReport(name, BOARDS[name], origin, NOW - 60, findings)


def placed(name: str, file: CandidateFile | None, runtime: Runtime = BUILT) -> Placement:
    return place("cls", device_report(name), runtime, file)


def codes(placement: Placement) -> list[str]:
    return [f.code for f in placement.findings if f.severity.value == "error"]


def options(name: str, runtime: Runtime = BUILT, **more: object) -> dict[str, Possible]:
    found = options_for(kind_of(BOARDS[name], runtime), {}, PUBLISHED, VERSIONS, current="2.13rc0", **more)  # type: ignore[arg-type]
    return {option.name: option.possible for option in found}


@pytest.mark.parametrize("name", ["pi4", "pi3", "rk3588", "jetson"])
def test_every_arm_board_takes_the_plain_arm_file(name: str, files: dict[str, CandidateFile]) -> None:
    found = placed(name, files["arm"])
    assert (found.status, found.findings) == (PlacementStatus.READY, ())


def test_32_bit_programs_on_a_64_bit_kernel_are_named(files: dict[str, CandidateFile]) -> None:
    assert "arm for armv7l (its programs; the kernel is aarch64)" in placed("pi3", files["arm"]).why


def test_one_file_for_both_arm_architectures(files: dict[str, CandidateFile]) -> None:
    arm = [placed(name, files["arm"]) for name in ("pi4", "pi3", "rk3588")]
    needed = needed_files([placed("nuc", files["x86"]), *arm])
    assert [(n.file.label, n.devices, n.arches) for n in needed] == [
        ("arm", ("pi4", "pi3", "rk3588"), ("aarch64", "armv7l")),
        ("x86", ("nuc",), ("x86_64",)),
    ]
    assert needed[0].parts == ("Cortex-A53", "Cortex-A55", "Cortex-A72", "Cortex-A76")


@pytest.mark.parametrize(
    ("name", "status", "expected"),
    [
        ("rk3588", PlacementStatus.READY, []),
        ("pi4", PlacementStatus.EXCLUDED, ["LF104"]),
        ("pi3", PlacementStatus.EXCLUDED, ["LF104"]),
    ],
)
def test_an_fp16_file_excludes_cpus_without_it(
    name: str, status: PlacementStatus, expected: list[str], files: dict[str, CandidateFile]
) -> None:
    found = placed(name, files["arm fp16"])
    assert (found.status, codes(found)) == (status, expected)


def test_a_machine_without_a_backend_is_excluded(files: dict[str, CandidateFile]) -> None:
    found = placed("router", None, Runtime())
    assert (found.status, codes(found), needed_files([found])) == (PlacementStatus.EXCLUDED, ["LF303"], ())


def test_a_cpu_without_avx2_cannot_run_the_published_wheel(files: dict[str, CandidateFile]) -> None:
    assert placed("nuc", files["x86"], WHEEL).status is PlacementStatus.READY
    found = placed("old", files["x86"], WHEEL)
    assert (found.status, codes(found)) == (PlacementStatus.NO_RUNTIME, ["LF310"])
    assert found.file is not None  # the file is right all the same
    assert placed("old", files["x86"], BUILT).status is PlacementStatus.READY


def test_a_failed_conversion_is_the_reason(files: dict[str, CandidateFile]) -> None:
    found = place("cls", device_report("pi4"), BUILT, None, [finding("LF206", "no kernel for einsum")])
    assert (found.status, found.why) == (PlacementStatus.EXCLUDED, "LF206: no kernel for einsum")


def test_what_was_never_seen_is_unknown() -> None:
    found = place("cls", DeviceReport("ghost", Facts(), Origin.NONE), Runtime(), None)
    assert found.status is PlacementStatus.UNKNOWN
    assert "its facts are unknown" in found.why


def test_an_unreachable_device_keeps_its_file(files: dict[str, CandidateFile]) -> None:
    away = device_report("pi4", Origin.STATE, finding("LF501", "no answer"))
    assert place("cls", away, BUILT, files["arm"]).status is PlacementStatus.READY


def test_options_by_cpu_part() -> None:
    assert options("pi4")["fp16"] is Possible.NO
    assert options("pi3")["fp16"] is Possible.NO
    assert options("rk3588")["fp16"] is Possible.NEEDS
    assert options("jetson")["fp16"] is Possible.NEEDS
    assert options("pi4")["int8 weights"] is Possible.YES
    assert options("nuc")["fp16"] is Possible.NO
    assert (
        options("nuc")["int8 weights"] is options("nuc")["int16 weights"] is Possible.UNKNOWN
    )  # by the model's layers
    assert options("router") == {}


def test_the_rules_agree_with_the_check_of_a_real_file(files: dict[str, CandidateFile]) -> None:
    for name in ("pi4", "pi3", "rk3588", "jetson"):
        fits = placed(name, files["arm fp16"]).status is PlacementStatus.READY
        assert (options(name)["fp16"] is not Possible.NO) == fits, name


def test_another_paddle_lite_serves_every_cpython() -> None:
    assert options("nuc")["Paddle-Lite 2.12"] is Possible.YES  # of CPython 3.7; others use its C++ library
    none = Kind("x86_64", ("Intel N100",), AVX2, True, "glibc", "", "", "")
    assert {o.possible for o in options_for(none, {}, PUBLISHED, VERSIONS) if o.name == "Paddle-Lite 2.12"} == {
        Possible.NEEDS
    }
    older = Kind("x86_64", ("Intel N100",), AVX2, True, "glibc", "cp39", "", "")
    found = options_for(older, {}, PUBLISHED, VERSIONS, current="2.13rc0")
    by_name = {option.name: option for option in found}
    assert by_name["Paddle-Lite 2.10"].possible is Possible.YES
    assert "Paddle-Lite 2.13rc0" not in by_name
    newer = options_for(older, {}, PUBLISHED, VERSIONS, current="2.10")
    assert any("release notes" in e.text for o in newer if o.name == "Paddle-Lite 2.13rc0" for e in o.evidence)


def test_what_is_configured_is_in_use_and_unknown_features_decide_nothing() -> None:
    assert options("rk3588", in_use=("fp16",))["fp16"] is Possible.IN_USE
    blind = kind_of(board("aarch64", "aarch64", "Cortex-A76", ()), BUILT)
    found = {o.name: o.possible for o in options_for(blind, {}, PUBLISHED, VERSIONS)}
    assert found["fp16"] is Possible.UNKNOWN


def test_measured_sizes_are_evidence_and_every_option_has_some() -> None:
    sizes = {"cls": {"plain": 788_000, "int8": 510_000, "int16": 616_000}}
    found = options_for(kind_of(BOARDS["pi4"], BUILT), sizes, PUBLISHED, VERSIONS, current="2.13rc0")
    small = next(option for option in found if option.name == "int8 weights")
    assert small.evidence[0].text == "converted now: cls 788 kB to 510 kB (65%)"
    assert small.do == "`options: {aarch64: {quant: int8}}` under the model"
    assert all(option.evidence and option.gain and option.risk for option in found)


CONFIG = Config.model_validate({"models": {"cls": {"source": "m"}}}, context={"base": Path()})


@pytest.mark.parametrize(
    ("name", "words", "expected"),
    [
        ("nuc", "published wheel of 2.13rc0", []),
        ("pi4", "", ["LF302"]),
        ("alpine", "", ["LF309"]),
        ("router", "", []),
    ],
)
def test_the_runtime_that_a_device_would_get(name: str, words: str, expected: list[str]) -> None:
    found = runtime_on(CONFIG, Device(name=name, host="192.0.2.1"), BOARDS[name])
    assert (found.label, [f.code for f in found.findings]) == (words, expected)


def advice(files: dict[str, CandidateFile]) -> Advice:
    rows = [
        *(placed(name, files["arm"]) for name in ("pi4", "pi3", "rk3588")),
        placed("nuc", files["x86"], WHEEL),
        placed("router", None, Runtime()),
        place("cls", DeviceReport("ghost\x1b[2J", Facts(), Origin.NONE), Runtime(), None),
        place("cls", DeviceReport("away", BOARDS["jetson"], Origin.STATE, NOW - 3 * 86400), BUILT, files["arm"]),
    ]
    kinds: dict[Kind, list[str]] = {}
    for row in rows:
        if row.kind.isa:
            kinds.setdefault(row.kind, []).append(row.device)
    proof = Proof("aarch64", ("Cortex-A72",), "cls", "arm", "v2.13-rc", 3)
    advised = tuple(
        KindAdvice(
            kind,
            tuple(names),
            options_for(kind, {}, PUBLISHED, VERSIONS, current="2.13rc0"),
            (proof,) if kind.parts == proof.parts else (),
        )
        for kind, names in kinds.items()
    )
    trials = (
        OptionBenchmark("cls", "2.13rc0", "plain", "verified", max_abs=2e-6, size=796_000, load_ms=8.0, run_ms=2.1),
        OptionBenchmark(
            "cls", "2.13rc0", "int8", "wrong", "2 of 2 items are NaN or Inf", "LF404", None, 517_000, 8.0, 4.0
        ),
    )
    return Advice(("cls",), needed_files(rows), tuple(rows), advised, trials, ("a note",), NOW)


def test_the_text_for_operators(files: dict[str, CandidateFile]) -> None:
    text = advice_text(advice(files), 140)
    assert text.startswith("cls: 2 files are enough for 5 devices (1 excluded, 1 never seen)\n")
    assert "aarch64, armv7l" in text
    assert "LF303: This device is mips." in text
    assert "the state database" in text
    assert "3 days ago: away" in text
    assert "cls arm (v2.13-rc) on 3 devices" in text
    assert "no verification on this part yet" in text
    assert "wrong (LF404)" in text
    assert "pi4, pi3" not in text.split("beware")[0].split("Possible changes")[1]
    assert "and pi4 would be refused" in " ".join(text.split())
    assert "\x1b" not in text
    changes = text.split("Possible changes")[1]
    order = [changes.index(f"\n{name}\n") for name in ("fp16", "int8 weights", "int16 weights", "Paddle-Lite 2.12")]
    assert order == sorted(order)


def test_the_json_says_the_same(files: dict[str, CandidateFile]) -> None:
    made = advice(files)
    data = json.loads(json.dumps(made.to_dict()))
    assert (data["schema"], data["command"], data["exit_code"]) == (1, "advise", 1)
    assert [(f["variant"], len(f["devices"])) for f in data["files"]] == [("arm", 4), ("x86", 1)]
    assert {d["device"]: d["standing"] for d in data["devices"]}["router"] == "excluded"
    assert data["trials"][1]["code"] == "LF404"
    fp16 = [o for k in data["kinds"] for o in k["options"] if o["option"] == "fp16"]
    assert {o["possible"] for o in fp16} == {"no", "needs something first"}
