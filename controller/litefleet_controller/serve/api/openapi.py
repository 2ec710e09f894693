"""The OpenAPI 3.1 document, made from the operations and their models."""

from __future__ import annotations

import functools
import inspect
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from ... import __version__
from ..errors import PROBLEM
from .idempotency import HEADER, PATTERN
from .operation import JSON, OPERATIONS, PREFIX, Operation
from .problems import Problem

_ABOUT = (
    "The fleet of one litefleet project. Every document is the one that the command of the same name shows with `--json`. "
    "Programs ignore members that they do not know. Work that takes minutes is a job: the answer is 202 with its address."
)
_EVENTS_PATH = "/rollouts/{rollout}/events"
_REF = "#/components/schemas/{model}"
_ALWAYS = (401, 403, 429)


@functools.cache
def openapi() -> dict[str, Any]:
    """Return the document."""
    schemas, definitions = _schemas()
    paths: dict[str, dict[str, Any]] = {}
    for one in OPERATIONS:
        paths.setdefault(PREFIX + one.path, {})[one.method.lower()] = _operation(one, schemas)
    paths[PREFIX + _EVENTS_PATH] = {"get": _events()}
    return {
        "openapi": "3.1.0",
        "info": {"title": "litefleet", "version": __version__, "description": _ABOUT},
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": definitions,
            "responses": {
                "Problem": {
                    "description": "why the request was not carried out (RFC 9457)",
                    "content": {PROBLEM: {"schema": schemas[(_key(Problem), "serialization")]}},
                }
            },
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _key(model: Any) -> str:
    return f"{model.__module__}.{model.__qualname__}"


def _schemas() -> tuple[dict[tuple[str, str], dict[str, Any]], dict[str, Any]]:
    """Return the schema of each model in its mode, and the definitions that they share."""
    wanted: dict[tuple[str, JsonSchemaMode], TypeAdapter[Any]] = {}
    for model in (*(one.answer for one in OPERATIONS), Problem):
        wanted[(_key(model), "serialization")] = TypeAdapter(model)
    for one in OPERATIONS:
        for given in (one.query, one.body):
            if given is not None:
                wanted[(_key(given), "validation")] = TypeAdapter(given)
    inputs = [(name, mode, adapter) for (name, mode), adapter in wanted.items()]
    schemas, shared = TypeAdapter.json_schemas(inputs, ref_template=_REF)
    return dict(schemas), dict(shared.get("$defs", {}))  # type: ignore[arg-type]


def _operation(one: Operation, schemas: dict[tuple[str, str], dict[str, Any]]) -> dict[str, Any]:
    doc = " ".join((inspect.getdoc(one.handler) or "").split())
    found: dict[str, Any] = {
        "operationId": one.handler.__name__,
        "summary": doc.split(". ")[0].rstrip("."),
        "description": f"{doc} Needs the role `{one.role}`.",
        "parameters": [*_of_path(one.parts), *_of_query(one), *(_of_key() if one.changes else ())],
        "responses": {
            str(one.status): {
                "description": "done" if one.status == 200 else "begun: the job's address is in Location",
                "headers": _headers(one),
                "content": {JSON: {"schema": schemas[(_key(one.answer), "serialization")]}},
            },
            **{str(code): {"$ref": "#/components/responses/Problem"} for code in _problems(one)},
        },
    }
    if not one.changes:
        found["responses"]["304"] = {"description": "unchanged since the ETag in If-None-Match"}
    if one.body is not None:
        schema = schemas[(_key(one.body), "validation")]
        found["requestBody"] = {
            "content": {JSON: {"schema": schema}},
            "required": bool(one.body.model_json_schema().get("required")),
        }
    return found


def _problems(one: Operation) -> list[int]:
    found = {*_ALWAYS, 422, 503, one.usage}
    if one.parts or one.query is not None:
        found.add(404)
    if one.changes:
        found |= {404, 409, 413, 415}
    if one.body is not None:
        found.add(400)
    if "host-key" in one.path:
        found.add(502)
    if one.path == "/rollback":
        found.add(409)
    return sorted(found)


def _headers(one: Operation) -> dict[str, Any]:
    text = {"schema": {"type": "string"}}
    if one.status == 202:
        return {"Location": {**text, "description": "the job's address", "required": True}}
    return {} if one.changes else {"ETag": text, **({"Link": text} if _is_paged(one) else {})}


def _is_paged(one: Operation) -> bool:
    return one.query is not None and "cursor" in one.query.model_fields


def _of_path(parts: tuple[str, ...]) -> list[dict[str, Any]]:
    return [
        {"name": part, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}} for part in parts
    ]


def _of_query(one: Operation) -> list[dict[str, Any]]:
    if one.query is None:
        return []
    schema = one.query.model_json_schema()
    return [
        {"name": name, "in": "query", "required": False, "schema": {k: v for k, v in member.items() if k != "title"}}
        for name, member in schema.get("properties", {}).items()
    ]


def _of_key() -> list[dict[str, Any]]:
    about = "sent again with the same key, the request is answered and not carried out twice"
    return [
        {
            "name": HEADER,
            "in": "header",
            "required": False,
            "description": about,
            "schema": {"type": "string", "pattern": PATTERN},
        }
    ]


def _events() -> dict[str, Any]:
    number = {"type": "string", "pattern": "^[0-9]{1,18}$"}
    return {
        "operationId": "events",
        "summary": "Follow a rollout: server-sent events",
        "description": (
            "`move`: a device's transition, with its number as the event's ID; `rollout`: the rollout's own state, first and at "
            "each change; `end`: it is over, and the stream ends. `Last-Event-ID` continues after that number. Needs `view`."
        ),
        "parameters": [
            *_of_path(("rollout",)),
            {"name": "Last-Event-ID", "in": "header", "required": False, "schema": number},
        ],
        "responses": {
            "200": {"description": "events", "content": {"text/event-stream": {"schema": {"type": "string"}}}},
            **{str(code): {"$ref": "#/components/responses/Problem"} for code in (*_ALWAYS, 404, 422, 503)},
        },
    }
