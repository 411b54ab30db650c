"""The OpenAPI 3.1 document of the API, with every endpoint in it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from jsonschema import Draft202012Validator

from orchestrator.server.http import openapi
from orchestrator.server.http.api import ENDPOINTS
from tests.fixtures.daemon import Daemon

Json = dict[str, Any]


@pytest.fixture(scope="module")
def document() -> Json:
    return openapi.document(ENDPOINTS)


def operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in cast("Json", value).items():
            if name == "$ref":
                yield str(inner)
            else:
                yield from references(inner)
    elif isinstance(value, list):
        for inner in cast("list[object]", value):
            yield from references(inner)


@pytest.mark.requirement("http:api:openapi")
def test_every_endpoint_is_in_the_document_and_nothing_else(document: Json) -> None:
    described = {(path, method.upper()) for path, method, _ in operations(document)}
    assert described == {(one.path, one.method) for one in ENDPOINTS}
    assert len(described) == len(ENDPOINTS)


def test_every_operation_has_a_name_a_summary_and_an_answer(document: Json) -> None:
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(names)) == len(names)
    for path, method, operation in operations(document):
        assert operation["summary"].endswith("."), (path, method)
        assert any(status.startswith("2") for status in operation["responses"])
        assert operation["responses"]["default"] == {"$ref": "#/components/responses/Problem"}
        given = {one["name"] for one in operation["parameters"] if one.get("in") == "path"}
        assert given == set(re.findall(r"\{(\w+)\}", path))


def test_every_schema_is_valid_and_every_reference_leads_somewhere(document: Json) -> None:
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    for reference in references(document):
        place: Any = document
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]
        assert place


@pytest.mark.requirement("http:api:openapi")
def test_the_daemon_serves_it_and_its_answers_fit_it(daemon: Daemon, document: Json) -> None:
    with daemon.http() as client:
        served = client.get("/v1/openapi.json")
        assert served.status_code == 200
        assert served.json() == json.loads(json.dumps(document))
        for path, status, name in (("/v1/health", 200, "Health"), ("/v1/agents", 422, "Problem")):
            answer = client.get(path)
            assert answer.status_code == status
            schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
            validate = cast("Callable[[object], None]", Draft202012Validator(schema).validate)
            validate(answer.json())
