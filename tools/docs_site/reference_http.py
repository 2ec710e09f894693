"""The reference of the HTTP API, from the OpenAPI document that the server offers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from litefleet_controller.serve.api.openapi import openapi

from .markdown import Lang, code, page_name, paragraphs, table

_WORDS = {
    Lang.EN: {
        "title": "HTTP API",
        "note": "Generated from the code. How a client logs in, pages, jobs, errors and events are described in "
        "[HTTP API](../api.md); the members of all documents are in [HTTP API: documents](http-api-documents.md). "
        "[openapi.json](openapi.json) is the same for programs (OpenAPI 3.1).",
        "documents": "HTTP API: documents",
        "documents_note": "Generated from the code. The operations are in [HTTP API](http-api.md). Programs ignore members "
        "that are not listed here.",
        "parameters": ("parameter", "type", "meaning"),
        "members": ("member", "type", "meaning"),
        "body": "Body",
        "answer": "Answer",
        "errors": "errors",
        "path": "in the path",
        "header": "in the header",
        "optional": "optional",
        "default": "default",
        "no_members": "No members of its own.",
    },
    Lang.ZH: {
        "title": "HTTP API",
        "note": "由代码生成，说明为代码中的英文。登录、分页、任务、错误和事件见 [HTTP API](../api.md)；"
        "各文档的成员见 [HTTP API：文档](http-api-documents.md)。[openapi.json](openapi.json) 供程序使用（OpenAPI 3.1）。",
        "documents": "HTTP API：文档",
        "documents_note": "由代码生成，说明为代码中的英文。各操作见 [HTTP API](http-api.md)。程序应忽略这里没有列出的成员。",
        "parameters": ("参数", "类型", "含义"),
        "members": ("成员", "类型", "含义"),
        "body": "正文",
        "answer": "回答",
        "errors": "错误",
        "path": "在路径中",
        "header": "在请求头中",
        "optional": "可省略",
        "default": "默认值",
        "no_members": "没有自己的成员。",
    },
}
_REF = "#/components/schemas/"
_BOUNDS = (("minimum", "≥ {}"), ("maximum", "≤ {}"), ("maxLength", "≤ {} characters"), ("maxItems", "≤ {} entries"))


def http_pages() -> dict[str, str]:
    """Return the pages of operations and of documents in each language, and openapi.json, by name."""
    document = openapi()
    made = {"reference/openapi.json": json.dumps(document, indent=1, ensure_ascii=False) + "\n"}
    for lang in Lang:
        made[page_name("reference/http-api", lang)] = _operations(document, lang)
        made[page_name("reference/http-api-documents", lang)] = _documents(document, lang)
    return made


def _operations(document: Mapping[str, Any], lang: Lang) -> str:
    words: Any = _WORDS[lang]
    parts = [f"# {words['title']}", words["note"]]
    group = ""
    for path, methods in document["paths"].items():
        first = path.removeprefix("/api/v1").split("/")[1]
        if first != group:
            group = first
            parts.append(f"## `/{group}`")
        for method, one in methods.items():
            parts += _operation(f"{method.upper()} {path}", one, words)
    return "\n\n".join(parts) + "\n"


def _operation(name: str, one: Mapping[str, Any], words: Any) -> Iterator[str]:
    yield f"### `{name}` {{ #{one['operationId']} }}"
    yield from paragraphs(one["description"])
    rows = [(code(p["name"]), _type(p["schema"]), _meaning(p, words)) for p in one["parameters"]]
    if rows:
        yield table(words["parameters"], rows)
    lines = []
    if "requestBody" in one:
        lines.append(f"{words['body']}: {_type(_schema_of(one['requestBody']), link=True)}")
    good = [(status, answer) for status, answer in one["responses"].items() if "$ref" not in answer]
    for status, answer in good:
        about = _type(_schema_of(answer), link=True) if "content" in answer else answer["description"]
        lines.append(f"{words['answer']} {status}: {about}")
    errors = [status for status, answer in one["responses"].items() if "$ref" in answer]
    lines.append(f"{words['answer']} {', '.join(errors)}: {_link('Problem')}")
    yield "\n".join(f"- {line}" for line in lines)


def _schema_of(holder: Mapping[str, Any]) -> Mapping[str, Any]:
    (content,) = holder["content"].values()
    schema: Mapping[str, Any] = content["schema"]
    return schema


def _meaning(parameter: Mapping[str, Any], words: Any) -> str:
    schema = parameter["schema"]
    about = parameter.get("description") or schema.get("description", "")
    place = words.get(parameter["in"], "")
    return "; ".join(filter(None, (*paragraphs(about), place, _default(schema, words))))


def _default(schema: Mapping[str, Any], words: Any) -> str:
    value = schema.get("default")
    return "" if value in (None, "", [], False) else f"{words['default']} {code(json.dumps(value))}"


def _documents(document: Mapping[str, Any], lang: Lang) -> str:
    words: Any = _WORDS[lang]
    parts = [f"# {words['documents']}", words["documents_note"]]
    for name, schema in sorted(document["components"]["schemas"].items()):
        if name.endswith("Query") or name == "Paged":
            continue  # their members are the operations' parameters
        parts += [f"## {name} {{ #{name.lower()} }}", *paragraphs(schema.get("description", ""))]
        parts.append(_members(schema, words) or _type(schema) or words["no_members"])
    return "\n\n".join(parts) + "\n"


def _members(schema: Mapping[str, Any], words: Any) -> str:
    required = schema.get("required", [])
    rows = []
    for name, member in schema.get("properties", {}).items():
        optional = "" if name in required else words["optional"]
        about = "; ".join(filter(None, (*paragraphs(member.get("description", "")), _default(member, words), optional)))
        rows.append((code(name), _type(member, link=True), about))
    return table(words["members"], rows)


def _type(schema: Mapping[str, Any], link: bool = False) -> str:
    """Return a schema's type in a few words: "list of Job", "text, ≤ 80 characters"."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(_REF)
        return _link(name) if link else name
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            return " or ".join(_type(one, link) for one in schema[several])
    if "const" in schema or "enum" in schema:
        return ", ".join(code(json.dumps(value)) for value in schema.get("enum", [schema.get("const")]))
    kind = schema.get("type", "any")
    if kind == "array" and "items" in schema:
        kind = f"list of {_type(schema['items'], link)}"
    bounds = [form.format(schema[key]) for key, form in _BOUNDS if key in schema]
    return ", ".join([kind, *bounds, *([code(schema["pattern"])] if "pattern" in schema else [])])


def _link(name: str) -> str:
    return f"[{name}](http-api-documents.md#{name.lower()})"
