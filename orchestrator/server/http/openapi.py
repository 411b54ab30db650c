"""Generates the OpenAPI 3.1 document from the endpoints and the types that validate their requests."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from orchestrator import VERSION
from orchestrator.server.handshake import HELLO
from orchestrator.server.http.endpoint import KEY, Endpoint
from orchestrator.server.http.problems import MEDIA_TYPE, Problem
from orchestrator.server.http.schemas import NoBody

Json = dict[str, Any]

_REF = "#/components/schemas/{model}"
_PARAMETER = re.compile(r"\{(\w+)\}")


def document(endpoints: Sequence[Endpoint[Any, Any]]) -> Json:
    """Return the OpenAPI document of these endpoints."""
    paths: dict[str, Json] = {}
    for one in endpoints:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Fleet",
            "version": VERSION,
            "description": "Served on http.sock in the state directory, and on loopback if FLEET_HTTP_PORT is set.",
        },
        "paths": paths,
        "security": [{}, {"token": []}],
        "components": {
            "schemas": _schemas(endpoints),
            "parameters": {
                "Hello": _header(HELLO, "who calls: a JSON object with project, cwd, orchestrator", required=True),
                "IdempotencyKey": _header(KEY, "a call that is sent again under the same key is done once"),
            },
            "responses": {"Problem": {"description": "What is wrong", "content": _content(MEDIA_TYPE, Problem)}},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "content of http.token"}},
        },
    }


def _operation(one: Endpoint[Any, Any]) -> Json:
    operation: Json = {
        "operationId": one.name,
        "summary": (one.verb.__doc__ or "").splitlines()[0],
        "parameters": _parameters(one),
        "responses": {
            str(one.status): {"description": one.returns.__name__, "content": _content(one.media_type, one.returns)},
            "default": {"$ref": "#/components/responses/Problem"},
        },
    }
    if one.body is not NoBody:
        operation["requestBody"] = {"required": True, "content": _content("application/json", one.body)}
    return operation


def _parameters(one: Endpoint[Any, Any]) -> list[Json]:
    named = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PARAMETER.findall(one.path)
    ]
    schema = one.query.model_json_schema()
    asked = [
        {"name": name, "in": "query", "required": name in schema.get("required", ()), "schema": field}
        for name, field in schema.get("properties", {}).items()
    ]
    heads = [] if one.anonymous else ["Hello"]
    heads += [] if one.method == "GET" or one.anonymous else ["IdempotencyKey"]
    return [*named, *asked, *({"$ref": f"#/components/parameters/{name}"} for name in heads)]


def _schemas(endpoints: Sequence[Endpoint[Any, Any]]) -> Json:
    taken = {one.body: None for one in endpoints if one.body is not NoBody}
    returned = {one.returns: None for one in endpoints}
    models: list[tuple[type[BaseModel], JsonSchemaMode]] = [
        *((model, "validation") for model in taken),
        *((model, "serialization") for model in (*returned, Problem)),
    ]
    return models_json_schema(models, ref_template=_REF)[1]["$defs"]


def _content(media_type: str, model: type[BaseModel]) -> Json:
    return {media_type: {"schema": {"$ref": _REF.format(model=model.__name__)}}}


def _header(name: str, description: str, *, required: bool = False) -> Json:
    return {
        "name": name,
        "in": "header",
        "required": required,
        "description": description,
        "schema": {"type": "string"},
    }
