"""`litefleet inspect` with many files: each is told, one's failure stops no other, and the exit code says the worst."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from litefleet_agent.findings import finding
from litefleet_controller.common.errors import UsageError
from litefleet_controller.inspection import FailOn
from litefleet_controller.inspection.inspect import Inspected, inspect_all
from litefleet_controller.inspection.model import Inspection

from tests.agent.support import nb_builder as build

ROOT = Path(__file__).parents[3]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """models/good.nb, models/cut.nb, models/sub/far.NB, and what is not to be found."""
    models = tmp_path / "models"
    (models / "sub").mkdir(parents=True)
    (models / ".hidden").mkdir()
    for name in ("good.nb", "sub/far.NB", ".hidden/unseen.nb"):
        (models / name).write_bytes(build.small())
    (models / "cut.nb").write_bytes(build.small()[:-3])
    (models / "notes.txt").write_text("no model", encoding="utf-8")
    (models / "loop").symlink_to(models)
    return tmp_path


def litefleet(*args: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join(str(ROOT / part) for part in ("agent", "inventory", "controller"))
    env = {**os.environ, "PYTHONPATH": paths, "COLUMNS": "120", "TERM": "dumb"}
    argv = [sys.executable, "-m", "litefleet_controller", "inspect", *map(str, args)]
    return subprocess.run(argv, cwd=cwd, env=env, capture_output=True, text=True, timeout=60, check=False)


def names(inspected: Inspected, root: Path) -> list[str]:
    return [str(one.path.relative_to(root)) for one in inspected.inspections]


def test_recursive_takes_all_nb_files_below(folder: Path) -> None:
    done = inspect_all([folder], recursive=True)
    assert names(done, folder) == ["models/cut.nb", "models/good.nb", "models/sub/far.NB"]
    assert done.unread == ()


def test_a_file_named_twice_is_looked_at_once(folder: Path) -> None:
    models = folder / "models"
    done = inspect_all([models / "good.nb", models, models / "good.nb"], recursive=True)
    assert names(done, folder) == ["models/good.nb", "models/cut.nb", "models/sub/far.NB"]
    again = inspect_all([models / "sub" / "far.NB", models / "sub"], recursive=True)
    assert (len(again.inspections), again.unread) == (1, ())


def test_each_architecture_is_judged(folder: Path) -> None:
    done = inspect_all([folder / "models" / "good.nb"], ["x86_64", "arm64", "aarch64"])
    assert [(one.arch.name, one.verdict) for one in done.inspections if one.arch] == [
        ("x86_64", "good"),
        ("aarch64", "refused"),
    ]
    assert done.to_text().splitlines()[-1] == "1 file, 1 refused"


def test_a_wrong_architecture_is_reported_before_anything_is_read(folder: Path) -> None:
    with pytest.raises(UsageError, match="no CPU backend for the architecture 'z80'"):
        inspect_all([folder / "none.nb"], ["x86_64", "z80"])


def test_what_cannot_be_read_stops_nothing(folder: Path) -> None:
    models = folder / "models"
    (folder / "empty").mkdir()
    os.mkfifo(folder / "pipe.nb")
    done = inspect_all([folder / "none.nb", folder / "pipe.nb", models / "good.nb", folder / "empty"], recursive=True)
    assert names(done, folder) == ["models/good.nb"]
    assert [path.name for path, _ in done.unread] == ["none.nb", "pipe.nb", "empty"]
    assert [output.partition(str(folder))[2] for _, output in done.unread] == [
        "/none.nb cannot be read: No such file or directory. Check path and permissions.",
        "/pipe.nb is not an ordinary file; name the .nb file itself.",
        "/empty. Name the folder that holds the converted models.",
    ]
    assert done.exit_code == 2
    (folder_alone,) = inspect_all([models]).unread
    assert folder_alone[1].endswith("is a folder; name the .nb files, or add --recursive for all below it.")


def test_names_that_no_file_can_have_and_too_many_names() -> None:
    done = inspect_all([Path("n" * 300), Path("a.nb/b.nb")], recursive=True)
    assert "File name too long" in done.unread[0][1]
    assert len(done.unread) == 2
    with pytest.raises(UsageError, match="more than 10000 files"):
        inspect_all([Path(str(number)) for number in range(10_001)])


@pytest.mark.parametrize(
    ("code", "fail_on", "exit_code"),
    [
        ("LF105", FailOn.ERROR, 1),
        ("LF105", FailOn.WARNING, 1),
        ("LF105", FailOn.NEVER, 0),
        ("LF108", FailOn.ERROR, 0),
        ("LF108", FailOn.WARNING, 1),
        ("LF109", FailOn.WARNING, 0),
    ],
)
def test_fail_on_draws_the_line(code: str, fail_on: FailOn, exit_code: int) -> None:
    one = Inspection(Path("a.nb"), 1, None, None, (finding(code, "seen"),))
    assert Inspected((one,), (), fail_on).exit_code == exit_code
    assert Inspected((one,), ((Path("b"), "gone"),), fail_on).exit_code == 2


def test_the_document_has_one_shape_for_one_and_for_many(folder: Path) -> None:
    one: dict[str, Any] = inspect_all([folder / "models" / "good.nb"], ["x86_64"]).to_dict()
    many: dict[str, Any] = inspect_all([folder / "models"], ["x86_64"], recursive=True).to_dict()
    for document in (one, many):
        assert (document["schema"], document["unread"]) == (1, [])
        assert all(file["for"] == "x86_64" for file in document["files"])
    assert {key: one[key] for key in one["files"][0]} == one["files"][0]  # as it was when there could be only one
    assert set(many) == {"schema", "exit_code", "files", "unread"}
    assert [file["verdict"] for file in many["files"]] == ["refused", "good", "good"]


def test_the_table_at_the_end(folder: Path) -> None:
    done = litefleet("models", "none.nb", "--recursive", "--for", "x86_64", cwd=folder)
    assert done.returncode == 2
    assert done.stderr == "litefleet: none.nb cannot be read: No such file or directory. Check path and permissions.\n"
    assert done.stdout.splitlines()[-6:] == [
        "FILE               FOR     VERDICT  FINDINGS",
        "models/cut.nb      x86_64  refused  LF105",
        "models/good.nb     x86_64  good     none",
        "models/sub/far.NB  x86_64  good     none",
        "",
        "4 files, 1 refused, 1 could not be read",
    ]


def test_quiet_shows_only_what_has_findings(folder: Path) -> None:
    done = litefleet("models", "--recursive", "--quiet", cwd=folder)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("models/cut.nb\n")
    assert "good.nb" not in done.stdout
    silent = litefleet("models/good.nb", "models/sub/far.NB", "-q", cwd=folder)
    assert (silent.returncode, silent.stdout, silent.stderr) == (0, "", "")


def test_json_and_sarif_of_one_run(folder: Path) -> None:
    done = litefleet("models", "none.nb", "--recursive", "--json", "--sarif", "out.sarif", cwd=folder)
    document: dict[str, Any] = json.loads(done.stdout)
    assert (done.returncode, document["exit_code"]) == (2, 2)
    assert document["unread"][0]["file"] == "none.nb"
    run = json.loads((folder / "out.sarif").read_text(encoding="utf-8"))["runs"][0]
    uris = [artifact["location"]["uri"] for artifact in run["artifacts"]]
    assert uris == ["models/cut.nb", "models/good.nb", "models/sub/far.NB"]
    assert [result["ruleId"] for result in run["results"]] == ["LF105"]
    assert run["invocations"][0]["exitCode"] == 2


def test_sarif_alone_on_stdout(folder: Path) -> None:
    done = litefleet("models/cut.nb", "--sarif", "-", "--fail-on", "never", cwd=folder)
    assert done.returncode == 0
    assert json.loads(done.stdout)["runs"][0]["invocations"][0]["exitCode"] == 0
    both = litefleet("models/cut.nb", "--sarif", "-", "--json", cwd=folder)
    assert both.returncode == 2
    assert "both write to stdout" in json.loads(both.stdout)["error"]["message"]
    assert "both write to stdout" in both.stderr


def test_a_sarif_file_that_cannot_be_written_costs_no_result(folder: Path) -> None:
    done = litefleet("models/good.nb", "--sarif", "no/where.sarif", cwd=folder)
    assert done.returncode == 2
    assert "SHA-256" in done.stdout
    assert done.stderr == "litefleet: no/where.sarif cannot be written: No such file or directory\n"


@pytest.mark.toolchain
def test_no_false_alarm_on_real_files(nb_files: Callable[..., Path]) -> None:
    arm = [nb_files(model, "arm") for model in ("cls", "det", "rec")]
    x86 = [nb_files(model, "x86") for model in ("cls", "det", "rec")]
    for files, arches in ((arm, ["aarch64", "armv7l"]), (x86, ["x86_64"])):
        done = inspect_all(files, arches, fail_on=FailOn.WARNING)
        assert [one.verdict for one in done.inspections] == ["good"] * len(files) * len(arches)
        assert done.exit_code == 0
    assert inspect_all([*arm, *x86], ["x86_64"]).exit_code == 1
