"""The inventory's JSON schema, for editors; generated from the parser's table of settings.

`python -m litefleet_inventory.schema [FILE]` writes it (inventory/schema.json by default).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from .checks import ARCHES
from .fields import FIELDS, RETIRED, Field, Kind
from .parse import SECTIONS

_NAME_OR_RANGE = r"^([A-Za-z0-9_]|\[[0-9]+:[0-9]+(:[0-9]+)?\])([A-Za-z0-9._-]|\[[0-9]+:[0-9]+(:[0-9]+)?\])*$"
_TEMPLATE = r"\[[0-9]+:[0-9]+(:[0-9]+)?\]|\{(name|0?n[1-9]?)\}"


def json_schema() -> dict[str, object]:
    """Return the JSON schema (draft 2020-12) of the YAML form."""
    devices = {
        "type": ["object", "null"],
        "description": "Devices by name; cam-[01:40] names forty.",
        "propertyNames": {"pattern": _NAME_OR_RANGE},
        "additionalProperties": {"$ref": "#/$defs/settings"},
    }
    sections = {
        "defaults": {"$ref": "#/$defs/settings", "description": "Settings of every device."},
        "groups": {
            "type": ["object", "null"],
            "description": "Groups by name.",
            "additionalProperties": {"$ref": "#/$defs/group"},
        },
        "devices": {"$ref": "#/$defs/devices"},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "litefleet inventory",
        "type": ["object", "null"],
        "properties": {name: sections[name] for name in SECTIONS},
        "patternProperties": {"^x-": {"description": "Ignored; they can hold YAML anchors."}},
        "additionalProperties": False,
        "$defs": {
            "settings": _closed(_settings()),
            "devices": devices,
            "group": _closed({**_settings(), **_group_keys()}),
        },
    }


def _settings() -> dict[str, object]:
    retired = {"deprecated": True, "description": "Ignored: a setting of earlier versions. Leave it out."}
    return {**{name: _field(name, field) for name, field in FIELDS.items()}, **dict.fromkeys(RETIRED, retired)}


def _closed(properties: dict[str, object]) -> dict[str, object]:
    return {"type": ["object", "null"], "properties": properties, "additionalProperties": False}


def _group_keys() -> dict[str, object]:
    names = {"type": "array", "items": {"type": "string"}}
    return {
        "devices": {
            "anyOf": [{"$ref": "#/$defs/devices"}, {**names, "description": "Names of devices defined elsewhere."}]
        },
        "children": {**names, "type": ["array", "null"], "description": "Groups whose devices belong to this one too."},
    }


def _field(name: str, field: Field) -> dict[str, object]:
    text = {"type": "string"}
    if field.kind is Kind.PORT:
        port = {"type": "integer", "minimum": 1, "maximum": 65535}
        form: dict[str, object] = {
            "anyOf": [port, {**text, "pattern": f"^[1-9][0-9]{{0,4}}$|{_TEMPLATE}"}, {"type": "null"}]
        }
    elif field.kind is Kind.FLAG:
        form = {"type": ["boolean", "null"]}
    elif field.kind is Kind.LIST:
        form = {"anyOf": [{"type": "array", "items": text}, text, {"type": "null"}]}
    elif name == "arch":
        form = {"anyOf": [{"enum": list(ARCHES)}, {**text, "pattern": _TEMPLATE}, {"type": "null"}]}
    else:
        form = {"type": ["string", "null"], "minLength": 1}
    return {"description": field.doc, **form}


def schema_text() -> str:
    """Return the text of inventory/schema.json."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def main(argv: list[str]) -> int:
    """Write the schema to the file named, or to inventory/schema.json in the checkout."""
    target = Path(argv[0]) if argv else Path(__file__).parent.parent / "schema.json"
    target.write_text(schema_text(), encoding="utf-8")
    print(f"wrote {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
