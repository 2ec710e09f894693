"""The public face `litefleet`: its names, its laziness, and its functions on a real fleet."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import litefleet
import pytest

ROOT = Path(__file__).parents[2]
UTILITIES = ("accuracy_of", "acting_as", "prepare", "read_picture")
FUNCTIONS = [n for n in litefleet.__all__ if inspect.isfunction(getattr(litefleet, n)) and n not in UTILITIES]


def test_every_public_name_is_there_and_is_documented() -> None:
    for name in litefleet.__all__:
        value = getattr(litefleet, name)
        assert inspect.getdoc(value), name
    assert sorted(litefleet.__all__) == dir(litefleet)


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'litefleet' has no attribute 'nothing'"):
        litefleet.nothing  # noqa: B018


def test_importing_it_loads_no_other_module_of_ours_nor_a_library() -> None:
    code = "import sys; before = set(sys.modules); import litefleet; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert {name for name in loaded if name not in sys.stdlib_module_names} == {"litefleet"}
    assert not [name for name in done.stdout.split() if name.startswith("litefleet.")]


def test_the_table_of_modules_names_what_type_checkers_see() -> None:
    """The imports under TYPE_CHECKING and the table for `__getattr__` are two lists of the same names: they must agree."""
    tree = ast.parse(Path(litefleet.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        module = f"litefleet.{node.module}" if node.level else str(node.module)
        seen.update({alias.name: module for alias in node.names})
    assert seen == litefleet._MODULES
    assert set(seen) == set(litefleet.__all__)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_function_says_what_it_raises_and_shows_an_example(name: str) -> None:
    doc = inspect.getdoc(getattr(litefleet, name)) or ""
    assert "Raises:" in doc
    examples = [line for line in doc.splitlines() if line.startswith("    ") and "(" in line]
    assert examples, name
    compile("\n".join(line[4:] for line in doc.splitlines() if line.startswith("    ")), name, "exec")


def test_python_m_litefleet_is_the_command_line() -> None:
    done = subprocess.run([sys.executable, "-m", "litefleet", "--help"], capture_output=True, text=True, check=True)
    assert "rollout" in done.stdout


def test_docs_and_examples_use_the_public_api_only() -> None:
    found = [*ROOT.glob("docs/*.md"), *ROOT.glob("docs/examples/**/*"), *ROOT.glob("README*.md")]
    for path in filter(Path.is_file, found):
        code = [line for line in path.read_text().splitlines() if line.lstrip().startswith(("from ", "import "))]
        assert not [line for line in code if "litefleet_controller" in line], path


def test_a_project_that_is_missing_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(litefleet.ConfigError, match=r"litefleet\.yaml"):
        litefleet.open_project(tmp_path / "litefleet.yaml")


def test_a_file_is_inspected(nb_files: Callable[..., Path], tmp_path: Path) -> None:
    inspection = litefleet.inspect(nb_files("cls", "x86"), "x86_64")
    assert inspection.exit_code == 0
    with pytest.raises(litefleet.UsageError):
        litefleet.inspect(tmp_path / "missing.nb")
