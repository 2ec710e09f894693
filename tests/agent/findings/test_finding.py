"""A finding between two versions: this one's form read by the version of before, and the reverse."""

from __future__ import annotations

import importlib
import io
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from litefleet_agent.findings import CATALOGUE, Certainty, Finding

from tests.conftest import lacking

CHECKOUT = Path(__file__).parents[3]
OLD = "b9da3ce"  # it sent slug, severity, why and do with each finding, and dropped them when it read one


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """Return the old version's module of findings, from git's history."""
    paths = [f"agent/litefleet_agent/{name}.py" for name in ("__init__", "findings", "catalogue")]
    done = subprocess.run(["git", "archive", OLD, *paths], cwd=CHECKOUT, capture_output=True, check=False)
    if done.returncode:
        lacking(f"git's history here lacks {OLD}: {done.stderr.decode(errors='replace').strip()}")
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        tar.extractall(folder)  # git's own; Python 3.7 has no `filter`
    (folder / "agent" / "litefleet_agent").rename(folder / "old_litefleet_agent")
    sys.path.insert(0, str(folder))
    yield importlib.import_module("old_litefleet_agent.findings")
    sys.path.remove(str(folder))


@pytest.mark.parametrize("certainty", Certainty)
def test_each_finding_comes_back_from_either_form(certainty: Certainty) -> None:
    for code in CATALOGUE:
        found = Finding(code, "What was seen, with 1 value.", certainty)
        assert set(found.to_wire()) == {"code", "seen", "certainty"}
        assert Finding.from_dict(found.to_wire()) == found
        assert Finding.from_dict(found.to_dict()) == found


@pytest.mark.parametrize("certainty", Certainty)
def test_an_old_controller_reads_what_this_agent_sends(old: ModuleType, certainty: Certainty) -> None:
    for code in old.CATALOGUE:
        read = old.Finding.from_dict(Finding(code, "seen", certainty).to_wire())
        assert (read.code, read.seen, read.certainty.value) == (code, "seen", certainty.value)
        assert read.to_dict()["why"] == old.CATALOGUE[code].why


@pytest.mark.parametrize("certainty", Certainty)
def test_this_controller_reads_what_an_old_agent_sends(old: ModuleType, certainty: Certainty) -> None:
    for code in old.CATALOGUE:
        sent = old.Finding(code, "seen", old.Certainty(certainty.value)).to_dict()
        assert {"why", "do", "slug"} <= set(sent)
        assert Finding.from_dict(sent) == Finding(code, "seen", certainty)


@pytest.mark.parametrize(
    ("data", "observed"),
    [
        ({"code": "LF999", "seen": "news", "certainty": "certain"}, "LF999: news"),
        ({"seen": "news"}, "no code: news"),
        ({"code": "LF999" * 1000, "seen": "x" * 5000}, "LF999" * 20 + ": " + "x" * 1968 + " … (3032 more characters)"),
        ([], "no code: []"),
        (None, "no code: None"),
    ],
)
def test_what_this_version_does_not_know_is_one_finding(data: object, observed: str) -> None:
    assert Finding.from_dict(data) == Finding("LF900", observed)


@pytest.mark.parametrize("certainty", [None, 7, "sure", ["likely"], {}])
def test_an_unknown_certainty_is_certain(certainty: object) -> None:
    assert Finding.from_dict({"code": "LF401", "seen": "s", "certainty": certainty}).certainty is Certainty.CERTAIN
