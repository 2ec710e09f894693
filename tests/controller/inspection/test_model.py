"""What `litefleet inspect` says, to programs and to people, about real files, damaged ones and other things."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from litefleet_controller.common.errors import UsageError
from litefleet_controller.inspection.model import inspect_file

from tests.agent.support import nb_builder as build

MakeNb = Callable[..., Path]


def written(folder: Path, data: bytes, name: str = "model.nb") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


@pytest.mark.toolchain
def test_a_good_file_as_json(nb_files: MakeNb) -> None:
    inspection = inspect_file(nb_files("cls", "x86"), "amd64")
    document = json.loads(json.dumps(inspection.to_dict()))
    assert document["meta_version"] == 2
    assert document["opt_version"] == "v2.13-rc"
    assert document["program_version"] == 2003002
    assert document["kernels"] == {
        "total": 97,
        "by_target": {"x86": 83, "host": 14},
        "by_precision": {"fp32": 92, "any": 5},
        "by_layout": {"nchw": 93, "any": 4},
    }
    assert document["inputs"] == [{"name": "x", "dtype": "float32", "dims": [-1, 3, -1, -1]}]
    assert document["outputs"] == [{"name": "softmax_0.tmp_0", "dtype": "float32", "dims": [-1, 2]}]
    assert document["parameters"] == {"count": 106, "bytes": 508592, "walked": True, "dtypes": {"float32": 106}}
    assert document["ops"]["conv2d"] == 41
    assert document["complete"] is True
    assert (document["for"], document["verdict"], document["findings"]) == ("x86_64", "good", [])
    assert document["deciding"] == []
    assert len(document["sha256"]) == len(document["normalised_sha256"]) == 64
    assert document["size"] == nb_files("cls", "x86").stat().st_size
    assert inspection.exit_code == 0


@pytest.mark.toolchain
def test_the_seed_case_is_refused_in_words_and_numbers(nb_files: MakeNb) -> None:
    inspection = inspect_file(nb_files("cls", "arm,x86"), "x86_64")
    document: dict[str, Any] = inspection.to_dict()
    assert document["verdict"] == "refused"
    assert [f["code"] for f in document["findings"]] == ["LF101"]
    assert document["deciding"][0] == {
        "op": "conv2d",
        "alias": "def",
        "target": "arm",
        "precision": "fp32",
        "layout": "nchw",
        "count": 41,
    }
    assert sum(kernel["count"] for kernel in document["deciding"]) == 99
    assert inspection.exit_code == 1
    text = inspection.to_text()
    assert "99 of 104 kernels are for arm; this device is x86_64." in text
    assert "41 conv2d (arm, fp32, nchw)" in text
    assert text.endswith("refused for x86_64")


@pytest.mark.toolchain
@pytest.mark.parametrize(
    ("targets", "arch", "verdict", "found"),
    [
        ("opencl,arm", "aarch64", "conditional", []),
        ("x86,arm", "x86_64", "refused", ["LF102"]),
        ("x86,arm", "arm64", "refused", ["LF102"]),
        ("arm", "armv7l", "good", []),
    ],
)
def test_verdicts_on_real_files(nb_files: MakeNb, targets: str, arch: str, verdict: str, found: list[str]) -> None:
    inspection = inspect_file(nb_files("cls", targets), arch)
    assert inspection.verdict == verdict
    assert [f.code for f in inspection.findings] == found
    assert inspection.exit_code == (verdict == "refused")


@pytest.mark.toolchain
@pytest.mark.parametrize(
    ("targets", "flags", "key", "needs", "says"),
    [
        ("opencl,arm", {}, "accelerators", "opencl", "OpenCL"),
        ("arm", {"enable_fp16": "true"}, "cpu_features", "asimdhp", "half precision (asimdhp)"),
    ],
)
def test_what_a_file_needs_is_said(
    nb_files: MakeNb, targets: str, flags: dict[str, str], key: str, needs: str, says: str
) -> None:
    inspection = inspect_file(nb_files("cls", targets, **flags), "aarch64")
    assert inspection.to_dict()[key] == [needs]
    lines = inspection.to_text().splitlines()
    assert f"  needs           {needs}" in lines
    assert lines[-1] == f"needs {says} on the device; else nothing in the file rules out aarch64"
    assert (inspection.verdict, inspection.needs, inspection.exit_code) == ("conditional", (needs,), 0)


@pytest.mark.toolchain
def test_good_claims_no_more_than_was_checked(nb_files: MakeNb) -> None:
    text = inspect_file(nb_files("cls", "x86"), "x86_64").to_text()
    assert text.splitlines()[-1] == "nothing in the file rules out x86_64"


def test_without_an_architecture_there_is_no_verdict(tmp_path: Path) -> None:
    inspection = inspect_file(written(tmp_path, build.small()))
    assert (inspection.verdict, inspection.exit_code) == (None, 0)
    assert inspection.to_dict()["for"] is None


def test_the_text_of_a_small_file(tmp_path: Path) -> None:
    lines = inspect_file(written(tmp_path, build.small()), "x86_64").to_text().splitlines()
    assert lines[0] == str(tmp_path / "model.nb")
    assert "  opt version     v2.13-rc" in lines
    assert "  PaddlePaddle    2.3.2" in lines
    assert "  kernels         3: 2 host, 1 x86" in lines
    assert "  input           x float32 ? x 2" in lines
    assert "  parameters      1, 24 bytes (1 float32)" in lines
    assert "  whole           yes" in lines
    assert lines[-1] == "nothing in the file rules out x86_64"


def test_a_truncated_file_is_described_and_refused(tmp_path: Path) -> None:
    inspection = inspect_file(written(tmp_path, build.small()[:-3]))
    document: dict[str, Any] = inspection.to_dict()
    assert document["complete"] is False
    assert document["kernels"]["by_target"] == {"host": 2, "x86": 1}
    assert [f["code"] for f in document["findings"]] == ["LF105"]
    assert inspection.exit_code == 1
    assert "  whole           no: the file ends 3 bytes short, in parameter 1 of 1" in inspection.to_text()


def test_layout_version_1_is_not_called_whole(tmp_path: Path) -> None:
    inspection = inspect_file(written(tmp_path, b"\1\0" + build.small()[2:]))
    text = inspection.to_text()
    assert "as far as layout version 1 can be checked" in text
    assert "(layout version 1, not read)" in text
    assert inspection.to_dict()["parameters"]["walked"] is False


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "LF106"),
        (b'{"base_code":{"magic":"pir"}}', "LF106"),
        (bytes(64), "LF107"),
        (build.small()[:100], "LF105"),
    ],
)
@pytest.mark.parametrize("arch", [None, "aarch64"])
def test_what_cannot_be_described_is_refused(tmp_path: Path, data: bytes, code: str, arch: str | None) -> None:
    inspection = inspect_file(written(tmp_path, data), arch)
    document: dict[str, Any] = inspection.to_dict()
    assert (document["verdict"], inspection.exit_code) == ("refused", 1)
    assert [f["code"] for f in document["findings"]] == [code]
    assert document["kernels"] is None
    assert document["size"] == len(data)
    assert "refused" in inspection.to_text().splitlines()[-1]


def test_described_and_undescribable_have_the_same_keys(tmp_path: Path) -> None:
    good = inspect_file(written(tmp_path, build.small())).to_dict()
    bad = inspect_file(written(tmp_path, b"nonsense", "bad.nb")).to_dict()
    assert list(good) == list(bad)


def test_a_huge_foreign_file_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = written(tmp_path, b"\x7fELF")
    os.truncate(path, 1 << 40)  # sparse: reading it whole would not end
    inspection = inspect_file(path)
    assert [f.code for f in inspection.findings] == ["LF106"]
    assert inspection.size == 1 << 40


def test_a_name_in_the_file_cannot_steer_the_terminal(tmp_path: Path) -> None:
    ops = [build.op("feed", None, ["feed"], ["x\x1b[2J"]), build.op("re\x1b[31mlu", "re\x1b[31mlu/def/4/1/1")]
    path = written(tmp_path, build.nb(build.topology(ops, [build.var("x\x1b[2J", [1])]), build.params()))
    text = inspect_file(path, "x86_64").to_text()
    assert "\x1b" not in text
    assert "x\\x1b[2J" in text


def test_an_unknown_architecture_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        inspect_file(written(tmp_path, build.small()), "riscv64")
    assert str(caught.value) == (
        "Paddle-Lite has no CPU backend for the architecture 'riscv64'; "
        "name one of x86_64, i686, aarch64, armv7l (what `uname -m` says on the device)."
    )


def test_what_is_no_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder; name the"):
        inspect_file(tmp_path)
    with pytest.raises(UsageError, match="cannot be read: No such file or directory"):
        inspect_file(tmp_path / "none.nb")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="is not an ordinary file"):
        inspect_file(tmp_path / "pipe")
