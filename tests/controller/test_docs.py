"""The user documentation: its examples load, both languages say the same, and it keeps up with the program."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest
import typer
from litefleet_agent.findings import CATALOGUE, Verdict
from litefleet_agent.service.metrics import METRICS
from litefleet_agent.service.settings import Settings
from litefleet_agent.service.systemd import MESSAGE_IDS
from litefleet_controller.cli import app
from litefleet_controller.config import load_config
from litefleet_controller.config.model import known_keys
from litefleet_inventory.fields import FIELDS
from litefleet_inventory.parse import parse
from litefleet_inventory.select import select

ROOT = Path(__file__).parents[2]
READMES = ("README.md", "README.zh.md")


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("name", READMES)
def test_examples_load(name: str, tmp_path: Path) -> None:
    fleet, config = blocks(text_of(name), "yaml")
    inventory = parse(fleet)
    assert [d.host for d in select(inventory, "cam-01 cam-12 desk")] == ["10.1.0.101", "10.1.0.112", "192.0.2.17"]
    (tmp_path / "litefleet.yaml").write_text(config, encoding="utf-8")
    loaded = load_config(tmp_path / "litefleet.yaml")
    assert loaded.inventory.path == tmp_path / "fleet.yaml"
    assert loaded.models["cls"].input_specs["x"].plain == (1, 3, 48, 192)


def test_both_languages_have_the_same_bones() -> None:
    english, chinese = map(text_of, READMES)
    assert [len(blocks(english, kind)) for kind in ("sh", "yaml")] == [7, 2]
    for kind in ("sh", "yaml"):
        assert blocks(english, kind) == blocks(chinese, kind)
    for bone in (r"^#+ ", r"^\| ", r"^- ", r"^\*\*\d\."):
        assert len(re.findall(bone, english, re.MULTILINE)) == len(re.findall(bone, chinese, re.MULTILINE)), bone
    assert _rows(english) == _rows(chinese)


def _rows(text: str) -> list[str]:
    """First cells of the tables of verdicts and exit codes."""
    return re.findall(r"^\| (`[a-z]+`|\d) \|", text, re.MULTILINE)


@pytest.mark.parametrize("name", READMES)
def test_every_verdict_is_explained(name: str) -> None:
    assert [row.strip("`") for row in _rows(text_of(name)) if row.startswith("`")] == [v.value for v in Verdict]


PAGES = (
    "docs/api",
    "docs/architecture",
    "docs/bench",
    "docs/ci",
    "docs/configuration",
    "docs/day-2",
    "docs/evaluate",
    "docs/field-failures",
    "docs/findings",
    "docs/from-segfault",
    "docs/how-to/air-gapped-sites",
    "docs/how-to/index",
    "docs/how-to/jetson",
    "docs/how-to/jump-hosts",
    "docs/how-to/offline-devices",
    "docs/how-to/openwrt",
    "docs/how-to/raspberry-pi",
    "docs/how-to/rk3588",
    "docs/how-to/runtimes",
    "docs/index",
    "docs/infer",
    "docs/monitoring",
    "docs/models",
    "docs/protocol",
    "docs/releases",
    "docs/rollouts",
    "docs/safety",
    "docs/security",
    "docs/service",
    "docs/variants",
)  # each in both languages


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_the_same_tables_and_sections_in_both_languages(name: str) -> None:
    english, chinese = text_of(f"{name}.md"), text_of(f"{name}.zh.md")
    for bone in (r"^#+ ", r"^\| ", r"^- ", r"^\d\. ", r"^```"):
        assert len(re.findall(bone, english, re.MULTILINE)) == len(re.findall(bone, chinese, re.MULTILINE)), bone
    keys = r"^\| (`[^`]*`)"
    assert re.findall(keys, english, re.MULTILINE) == re.findall(keys, chinese, re.MULTILINE)
    assert len(re.findall(r"^#+ ", english, re.MULTILINE)) > 1 or "| --- |" in english


def _leaves(path: tuple[str, ...]) -> list[str]:
    """Dotted names of the settings under a path; a gate's limit (`count`, `share`, `then`) is one setting."""
    found: list[str] = []
    for key in known_keys(path):
        inner = known_keys((*path, key))
        limit = {"count", "share", "then"} if {"count", "share", "then"} <= set(inner) else set()
        found += [key] if limit or not inner else []
        found += [f"{key}.{leaf}" for leaf in _leaves((*path, key)) if leaf not in limit | {"then"}]
    return found


def test_every_setting_is_in_the_configuration_page() -> None:
    text = text_of("docs/configuration.md")
    keys = [k for k in FIELDS if f"| `{k}` |" not in text]
    keys += [k for k in known_keys(()) if k not in text]
    for part in ("toolchain", "verify", "ssh", "signing", "history"):
        keys += [f"{part}.{k}" for k in known_keys((part,)) if f"`{part}.{k}`" not in text]
    keys += [k for k in known_keys(("models", "any")) if f"`models.NAME.{k}`" not in text]
    keys += [f"rollout.{k}" for k in _leaves(("rollout",)) if f"`rollout.{k}`" not in text]
    assert keys == []


def test_every_setting_of_the_service_is_in_its_page_with_its_default() -> None:
    (section,) = re.findall(r"^## Settings\n(.*?)^## ", text_of("docs/service.md"), re.MULTILINE | re.DOTALL)
    rows = re.findall(r"^\| `(\w+)` \| `([^`]*)` \|", section, re.MULTILINE)
    reported = {name: json.loads(default) for name, default in rows}
    assert reported == {name: list(d) if isinstance(d, tuple) else d for name, d in asdict(Settings()).items()}


@pytest.mark.parametrize("page", ["docs/service.md", "docs/service.zh.md"])
def test_every_metric_and_kind_of_the_service_is_in_its_page(page: str) -> None:
    text = text_of(page)
    assert len(METRICS) > 30
    assert [name for name in METRICS if f"`litefleet_{name}`" not in text] == []
    assert [kind for kind in MESSAGE_IDS if f"`{kind}`" not in text] == []


@pytest.mark.parametrize(
    "page",
    [
        *READMES,
        *(name + ending for name in PAGES for ending in (".md", ".zh.md")),
        "docs/adr/0001-main-command.md",
        "docs/adr/0005-plan-waves-lease.md",
        "docs/adr/0006-durable-state.md",
        "docs/adr/0009-layout-and-names.md",
    ],
)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", text_of(page)):
        assert (ROOT / page).parent.joinpath(target).is_file(), target


PACKAGES = ("agent/litefleet_agent", "controller/litefleet_controller", "inventory/litefleet_inventory")
ON_DEVICE = {"work/", "history/"}  # folders of a device


def _named_paths(text: str) -> set[str]:
    """Folders and modules that a text names in backquotes: `cli/`, `cli/main.py`, `litefleet_agent.facts.arch`."""
    paths = set(re.findall(r"`([\w/]+(?:/|\.py))`", text))
    dotted = re.findall(r"`((?:litefleet_agent|litefleet_controller|litefleet_inventory)(?:\.[a-z_]+)+)`", text)
    return paths | {name.partition(".")[2].replace(".", "/") + ".py" for name in dotted}


@pytest.mark.parametrize(
    "page", ["docs/architecture.md", "docs/architecture.zh.md", "docs/protocol.md", "docs/security.md"]
)
def test_every_module_that_a_page_names_exists(page: str) -> None:
    roots = [ROOT, *(ROOT / package for package in PACKAGES)]
    ours = {path for path in _named_paths(text_of(page)) if path not in ON_DEVICE}
    assert len(ours) > 40 or "architecture" not in page
    assert sorted(path for path in ours if not any((root / path).exists() for root in roots)) == []


def test_the_architecture_names_every_folder_of_both_packages() -> None:
    named = _named_paths(text_of("docs/architecture.md"))
    for package in PACKAGES[:2]:
        folders = {f"{init.parent.name}/" for init in (ROOT / package).glob("*/__init__.py")}
        assert len(folders) > 8
        assert folders - named == set()


def _commands() -> dict[str, set[str]]:
    """Each command with its options."""
    group = typer.main.get_command(app)
    found: dict[str, set[str]] = {}
    for name, command in vars(group)["commands"].items():  # typer brings a click of its own
        found[name] = {"--help", *(opt for p in command.params for opt in (*p.opts, *p.secondary_opts))}
    return found


def typed(text: str) -> set[str]:
    """Each `litefleet ...` that a text gives to type."""
    lines = [line.partition("#")[0] for block in blocks(text, "sh") for line in block.splitlines()]
    whole = [line for line in lines if line.startswith("litefleet ")]
    return {*whole, *re.findall(r"`(litefleet [a-z][^`]*)`", text)}


@pytest.mark.parametrize("page", [*READMES, *(name + ending for name in PAGES for ending in (".md", ".zh.md"))])
def test_what_is_to_be_typed_exists(page: str) -> None:
    check_typed(page, typed(text_of(page)))


@pytest.mark.parametrize("code", sorted(CATALOGUE))
def test_what_a_finding_says_to_type_exists(code: str) -> None:
    check_typed(code, typed(CATALOGUE[code].do))


def check_typed(where: str, lines: set[str]) -> None:
    commands = _commands()
    for line in lines:
        name, *words = line.split()[1:]
        if name == "COMMAND":
            continue
        assert name in commands, (where, line)
        for word in words:
            assert not word.startswith("-") or word in commands[name], (where, line, word)


@pytest.mark.parametrize("name", ["docs/releases.md", "docs/releases.zh.md"])
def test_the_example_of_signing_loads(name: str, tmp_path: Path) -> None:
    (example,) = blocks(text_of(name), "yaml")
    (tmp_path / "litefleet.yaml").write_text(example + "models: {cls: {source: .}}\n", encoding="utf-8")
    loaded = load_config(tmp_path / "litefleet.yaml")
    assert loaded.signing is not None
    assert (loaded.fleet, loaded.signing.expires_after) == ("shop", 90 * 86400)


@pytest.mark.parametrize("name", ["docs/api", "docs/bench", "docs/releases", "docs/rollouts"])
def test_pages_have_the_same_things_to_type(name: str) -> None:
    english, chinese = text_of(f"{name}.md"), text_of(f"{name}.zh.md")
    assert blocks(english, "sh") == blocks(chinese, "sh") != []
    assert typed(english) == typed(chinese)
