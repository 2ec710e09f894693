"""The reference of litefleet.yaml and of the inventory, from the models that check them: keys, types, defaults, limits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from litefleet_controller.config.model import Config
from litefleet_inventory.fields import FIELDS

from .markdown import Lang, code, page_name, table

_MOST_DEPTH = 8
_WORDS = {
    Lang.EN: {
        "title": "Settings",
        "note": "Generated from what checks the files: each key with its type, its default and its limits. What each key means "
        "is in [Configuration](../configuration.md). For editors: the [JSON schema of litefleet.yaml](litefleet.schema.json), "
        "and [that of the inventory](../examples/inventory.schema.json).",
        "heads": ("key", "type", "default"),
        "device": ("key", "type", "meaning"),
        "inventory": "The inventory",
        "device_note": "A device, a group and `defaults` take these keys. The [example](../examples/inventory.yaml) shows each.",
    },
    Lang.ZH: {
        "title": "设置",
        "note": "由检查这些文件的代码生成：每个键的类型、默认值和限制。各键的含义见[配置](../configuration.md)。供编辑器使用："
        "[litefleet.yaml 的 JSON schema](litefleet.schema.json)，[设备清单的 JSON schema](../examples/inventory.schema.json)。",
        "heads": ("键", "类型", "默认值"),
        "device": ("键", "类型", "含义（英文，取自代码）"),
        "inventory": "设备清单",
        "device_note": "设备、组和 `defaults` 接受这些键。[示例](../examples/inventory.yaml)展示了每一个。",
    },
}


def settings_pages() -> dict[str, str]:
    """Return the page of all settings in each language, and the JSON schema of litefleet.yaml, by name."""
    schema = Config.model_json_schema()
    made = {page_name("reference/settings", lang): _page(lang, schema) for lang in Lang}
    return {**made, "reference/litefleet.schema.json": json.dumps(schema, indent=1, ensure_ascii=False) + "\n"}


def _page(lang: Lang, schema: dict[str, Any]) -> str:
    words: Any = _WORDS[lang]
    parts = [f"# {words['title']}", words["note"], "## litefleet.yaml"]
    for key, value in schema["properties"].items():
        rows = list(_rows(key, value, schema, 0))
        parts += [f"### `{key}` {{ #{key} }}", table(words["heads"], rows)]
    parts += [f"## {words['inventory']}", words["device_note"]]
    parts.append(table(words["device"], [(code(k), field.kind.value, field.doc) for k, field in FIELDS.items()]))
    return "\n\n".join(parts) + "\n"


def _rows(key: str, value: dict[str, Any], schema: dict[str, Any], depth: int) -> Iterator[tuple[str, str, str]]:
    """Return the rows of a key and of the keys in it."""
    forms = list(_forms(value, schema))
    default = value.get("default")
    shown = (
        code(json.dumps(default, ensure_ascii=False)) if default is not None and not isinstance(default, dict) else ""
    )
    if depth or not all("properties" in form for form in forms):
        yield code(key), " / ".join(dict.fromkeys(filter(None, map(_kind, forms)))), shown
    if depth >= _MOST_DEPTH:
        return
    for form in forms:
        for inner, there in form.get("properties", {}).items():
            yield from _rows(f"{key}.{inner}", there, schema, depth + 1)
        named = form.get("additionalProperties")
        if isinstance(named, dict) and any("properties" in one for one in _forms(named, schema)):
            yield from _rows(f"{key}.NAME", named, schema, depth + 1)


def _forms(value: dict[str, Any], schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Return the forms that a value may have, references followed."""
    if "$ref" in value:
        yield from _forms(schema["$defs"][value["$ref"].rpartition("/")[2]], schema)
        return
    options = value.get("anyOf", value.get("oneOf"))
    if options is None:
        yield value
        return
    for option in options:
        yield from _forms(option, schema)


def _kind(form: dict[str, Any]) -> str:
    """Return a form's type in words, with its limits."""
    if "enum" in form:
        return ", ".join(code(json.dumps(one)) for one in form["enum"])
    if "const" in form:
        return code(json.dumps(form["const"]))
    kind = str(form.get("type", ""))
    if kind == "null":
        return ""
    signs = (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))
    limits = [f"{sign} {form[name]}" for name, sign in signs if name in form]
    return " ".join([kind, ", ".join(limits)]).strip()
