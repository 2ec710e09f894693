"""Files on disk, the example and the checked-in schema."""

import json
import os
import re
from pathlib import Path

import pytest
import yaml
from litefleet_inventory import InventoryError, load
from litefleet_inventory.fields import FIELDS, RETIRED
from litefleet_inventory.schema import main, schema_text
from litefleet_inventory.sources import MAX_BYTES

HERE = Path(__file__).parents[2] / "inventory"


def said(path: Path) -> str:
    with pytest.raises(InventoryError) as caught:
        load(path)
    return str(caught.value)


def test_the_example_loads() -> None:
    inventory = load(HERE / "example.yaml")
    assert len(inventory.devices) == 54
    assert {g.name: len(g.devices) for g in inventory.groups} == {
        "berlin": 40,
        "munich": 12,
        "outdoor": 6,
        "germany": 52,
    }
    kiosk = inventory.by_name["kiosk-03"]
    assert (kiosk.host, kiosk.port, kiosk.tags) == ("kiosk-03.munich.example", 2203, ("production", "weatherproof"))
    assert inventory.jump_chain(inventory.by_name["cam-40"]) == (inventory.by_name["gw-berlin"],)


def test_the_schema_is_current() -> None:
    assert (HERE / "schema.json").read_text(encoding="utf-8") == schema_text(), (
        "run python -m litefleet_inventory.schema"
    )


def test_the_schema_command_writes_it(tmp_path: Path) -> None:
    assert main([str(tmp_path / "s.json")]) == 0
    assert (tmp_path / "s.json").read_text(encoding="utf-8") == schema_text()


def test_schema_and_parser_know_the_same_settings_and_names() -> None:
    schema = json.loads(schema_text())
    assert set(schema["$defs"]["settings"]["properties"]) == {*FIELDS, *RETIRED}
    assert set(schema["$defs"]["group"]["properties"]) == {*FIELDS, *RETIRED, "devices", "children"}
    pattern = schema["$defs"]["devices"]["propertyNames"]["pattern"]
    example = yaml.safe_load((HERE / "example.yaml").read_text(encoding="utf-8"))
    assert all(re.search(pattern, name) for name in ("cam-[01:40]", "r[1:2]-[0:10:5]x", *example["devices"]))
    assert not any(re.search(pattern, name) for name in ("-x", "a b", "c[1-3]", ""))


def test_a_folder_is_read_by_name(tmp_path: Path) -> None:
    (tmp_path / "20-site.yml").write_text("groups: {g: {devices: {b: }}}")
    (tmp_path / "10-base.yaml").write_text("defaults: {user: u}\ndevices: {a: }")
    (tmp_path / ".hidden.yaml").write_text("][")
    (tmp_path / "notes.txt").write_text("][")
    inventory = load(str(tmp_path))
    assert [(d.name, d.user) for d in inventory.devices] == [("a", "u"), ("b", "u")]
    assert inventory.devices[1].source == f"{tmp_path}/20-site.yml:1"


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    assert said(tmp_path / "none.yaml") == f"{tmp_path}/none.yaml: the file is missing; name the inventory with -i"
    assert said(tmp_path) == f"{tmp_path}: this folder contains no *.yaml file; name the inventory file with -i"
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"devices:\n  # M\xfcnchen\n")
    assert said(latin) == f"{latin}:2: not UTF-8 (byte 0xfc); save the file as UTF-8"
    big = tmp_path / "big.yaml"
    with big.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    assert said(big) == f"{big}: larger than 32 MiB; is this an inventory?"
    assert said(Path("a\0b")).endswith("b: cannot be read: embedded null byte")
    assert said(latin / "x") == f"{latin}/x: cannot be read: Not a directory"


def test_all_unreadable_files_of_a_folder_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xff")
    os.symlink(tmp_path / "gone", tmp_path / "b.yaml")
    assert said(tmp_path).splitlines() == [
        f"{tmp_path}/a.yaml:1: not UTF-8 (byte 0xff); save the file as UTF-8",
        f"{tmp_path}/b.yaml: the file is missing; name the inventory with -i",
    ]


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbfdevices: {a: }\r\n")
    assert load(tmp_path / "a.yaml").devices[0].name == "a"
