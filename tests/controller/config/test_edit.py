"""An entry under `runtimes:` is added wherever that is clear, and nothing else of the file changes."""

from __future__ import annotations

from pathlib import Path

import pytest
from litefleet_controller.common.errors import ConfigError, UsageError
from litefleet_controller.config.edit import add_runtime
from litefleet_controller.config.load import load_config

MODELS = "# our fleet\nmodels: {cls: {source: m}}  # the classifier\n"
NEW = "{archive: new.tar.gz}"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", f"\nruntimes:\n  aarch64: {NEW}\n"),
        ("runtimes: {}\n", f"runtimes: {{aarch64: {NEW}}}\n"),
        ("runtimes: {x86_64: system}\n", f"runtimes: {{aarch64: {NEW}, x86_64: system}}\n"),
        (
            "runtimes:\n    # the gateways\n    x86_64: system\nfleet: a\n",
            f"runtimes:\n    # the gateways\n    aarch64: {NEW}\n    x86_64: system\nfleet: a\n",
        ),
        ("runtimes:\n  arm64: system  # own\n", f"runtimes:\n  arm64: [system, {NEW}]  # own\n"),
        ("runtimes:\n  aarch64: {wheel: a.whl}\n", f"runtimes:\n  aarch64: [{{wheel: a.whl}}, {NEW}]\n"),
        ("runtimes:\n  aarch64: [{wheel: a.whl}]", f"runtimes:\n  aarch64: [{NEW}, {{wheel: a.whl}}]"),
        (
            "runtimes:\n  aarch64:\n    wheel: a.whl  # tried\n    numpy: '<2'\n",
            f"runtimes:\n  aarch64:\n  - {NEW}\n  - wheel: a.whl  # tried\n    numpy: '<2'\n",
        ),
        (
            "runtimes:\n  aarch64:\n    - wheel: a.whl\n      numpy: '<2'\n    - system\n",
            f"runtimes:\n  aarch64:\n    - {NEW}\n    - wheel: a.whl\n      numpy: '<2'\n    - system\n",
        ),
    ],
)
def test_only_the_entry_is_new(tmp_path: Path, before: str, after: str) -> None:
    path = tmp_path / "litefleet.yaml"
    path.write_text(MODELS + before)
    assert add_runtime(path, "aarch64", "archive", tmp_path / "new.tar.gz") == f"runtimes: aarch64: {NEW}"
    assert path.read_text() == MODELS + after
    assert tmp_path / "new.tar.gz" in [one.archive for one in load_config(path).runtimes["aarch64"]]
    assert load_config(path).models["cls"].source is not None


@pytest.mark.parametrize(
    "text",
    [
        "{models: {cls: {source: m}}}\n",
        MODELS + "runtimes:\n  x86_64: &own\n    system: true\n  aarch64: *own\n",
        MODELS + "runtimes:\n aarch64:\n  system: true\n",  # one that could be changed by reindenting only
    ],
)
def test_what_is_written_in_another_way_stays_and_the_entry_is_shown(tmp_path: Path, text: str) -> None:
    path = tmp_path / "litefleet.yaml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        add_runtime(path, "aarch64", "archive", tmp_path / "new.tar.gz")
    assert f"write `runtimes: {{aarch64: {NEW}}}` into {path} yourself" in str(caught.value)
    assert path.read_text() == text


def test_paths_outside_are_absolute_and_unusual_ones_are_quoted(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    path = tmp_path / "project" / "litefleet.yaml"
    path.write_text(MODELS)
    add_runtime(path, "armv7l", "library", tmp_path / "a: b #c.so")
    assert load_config(path).runtimes["armv7l"][0].library == tmp_path / "a: b #c.so"
    path.write_text("nonsense: 1\n")
    with pytest.raises(ConfigError, match="nonsense"):
        add_runtime(path, "armv7l", "library", tmp_path / "x.so")
