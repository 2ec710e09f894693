"""The plugin that starts no test from a given moment on, in pytest runs of its own."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TESTS = """
import pytest

@pytest.fixture
def made():
    print("a fixture was made")

def test_first(request):
    request.config.option.start_until = 0  # the moment has come
    assert {passes}

def test_second(made):
    raise AssertionError("it was started")

def test_third(made):
    raise AssertionError("it was started")
"""


def _run(folder: Path, text: str, *options: str) -> tuple[int, str]:
    (folder / "test_some.py").write_text(text)
    argv = [sys.executable, "-m", "pytest", "-s", "-p", "no:cacheprovider", "-p", "tests.start_limit", *options]
    argv += ["--start-until", str(time.time() + 3600), "--rootdir", str(folder), str(folder)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("options", [(), ("-n", "1")], ids=["one process", "a worker"])
def test_what_was_not_started_is_named_and_not_counted_as_passed(tmp_path: Path, options: tuple[str, ...]) -> None:
    code, text = _run(tmp_path, TESTS.format(passes=True), *options)
    assert code == 0, text
    assert "2 tests were not started: their time was over" in text
    assert "\ntest_some.py::test_second\n" in text
    assert "\ntest_some.py::test_third\n" in text
    assert "1 passed, 2 not started" in text
    assert "a fixture was made" not in text


def test_a_failure_before_that_moment_fails_the_run(tmp_path: Path) -> None:
    code, text = _run(tmp_path, TESTS.format(passes=False))
    assert code == 1, text
    assert "1 failed, 2 not started" in text


def test_before_that_moment_every_test_is_started(tmp_path: Path) -> None:
    code, text = _run(tmp_path, "def test_one():\n    pass\n")
    assert code == 0, text
    assert "1 passed" in text
    assert "not started" not in text
