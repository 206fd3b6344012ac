"""The OpenAPI description of the operations that FastAPI cannot inspect, and of all problems.

`POST /classify` and `POST /classify/pixels` are a plain ASGI app. One record describes each of
them here, and their part of the OpenAPI document is generated from these records.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from offramp.bundle.manifest import Manifest
from serving.http.anytime.events import EVENTS
from serving.http.anytime.openapi import STREAM
from serving.http.bodies.body import FILE_BYTES, JSON, MULTIPART, PIXELS
from serving.http.problems import PROBLEM_JSON, problem_types
from serving.http.query import ClassifyQuery
from serving.http.schemas import Classification, ExitAnswer, Problem

REFERENCE = "#/components/schemas/{model}"
POST = "POST"
Schema = dict[str, Any]
RETRY_AFTER = (429, 503)
HEADERS: Mapping[int, Schema] = {
    **{
        status: {
            "Retry-After": {
                "description": "seconds to wait before the next attempt",
                "schema": {"type": "integer", "minimum": 1},
            }
        }
        for status in RETRY_AFTER
    },
    401: {"WWW-Authenticate": {"schema": {"type": "string"}}},
}


def problems(statuses: Sequence[int]) -> dict[int | str, Schema]:
    """Return the responses with these statuses, each with the problem types that it can have."""
    return {
        status: {
            "description": "Problem types: " + ", ".join(problem_types()[status]),
            "content": {PROBLEM_JSON: _content_of("Problem")},
        }
        | ({"headers": HEADERS[status]} if status in HEADERS else {})
        for status in statuses
    }


@dataclass(frozen=True, slots=True)
class Operation:
    """An endpoint's description.

    Attributes:
        path: Path of the URL.
        name: Name of the operation.
        description: Text for users, Markdown.
        body: Description of the request body.
        content: Name of the schema of the request body, by media type.
        tag: Group of the operation.
        query: Query parameters, one for each field.
        answer: JSON body of the response with status 200.
    """

    path: str
    name: str
    description: str
    body: str
    content: Mapping[str, str]
    tag: str = "classification"
    query: type[BaseModel] = ClassifyQuery
    answer: type[BaseModel] = Classification


CLASSIFY = Operation(
    path="/classify",
    name="classify",
    description="Classify one image or several, each at the earliest exit that the budget allows.\n"
    "\n`curl --data-binary @cat.jpg 'localhost:8000/classify?budget=low'`",
    body="One image file (the default for all other content types), several as a multipart form "
    "or as base64 in JSON, or one image or several as pixels, already of the size that GET /model "
    "gives (`input`).",
    content={
        FILE_BYTES: "ImageFile",
        "image/*": "ImageFile",
        MULTIPART: "ClassifyForm",
        PIXELS: "Pixels",
        JSON: "ClassifyImages",
    },
)
CLASSIFY_PIXELS = Operation(
    path="/classify/pixels",
    name="classify_pixels",
    description="Classify images that are sent as pixels. The same as POST /classify with the "
    f"content type `{PIXELS}`, for clients that cannot choose it.",
    body="One image or several, already of the size that GET /model gives (`input`).",
    content={FILE_BYTES: "Pixels"},
)
OPERATIONS = (CLASSIFY, CLASSIFY_PIXELS)
MODELS = "/models/{name}"  # before the path of a call to a model by its name
NAME_IN_PATH: Schema = {
    "name": "name",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "maxLength": 64},
    "description": "name of the model",
}


def describe_operations(
    document: Schema, bodies: Mapping[str, Schema], manifest: Manifest, *, secured: bool
) -> None:
    """Add the operations and their schemas to an OpenAPI document, before all others.

    Args:
        document: The document, changed in place.
        bodies: Schemas of request bodies, as `body_schemas` returns them.
        manifest: Manifest of the bundle. Where it rejects nothing, `reject` can only be false.
            Where it promises nothing, there is no `promise`.
        secured: Whether the operations require the API key, as the scheme `HTTPBearer`.
    """
    _add_schemas(document, bodies)
    named = [
        replace(each, path=MODELS + each.path, name=f"model_{each.name}") for each in OPERATIONS
    ]
    described = {
        operation.path: {POST.lower(): _described(operation, manifest, secured=secured)}
        for operation in (*OPERATIONS, *named)
    }
    document["paths"] = {**described, **document["paths"]}


def _add_schemas(document: Schema, bodies: Mapping[str, Schema]) -> None:
    """Add the schemas of answers, problems and request bodies."""
    records: list[type[BaseModel]] = [Classification, ExitAnswer, Problem]
    _, schemas = models_json_schema(
        [(record, "serialization") for record in records], ref_template=REFERENCE
    )
    components = document.setdefault("components", {}).setdefault("schemas", {})
    components.update(_without_nulls(schemas["$defs"]))
    components.update({name: {"title": name} | schema for name, schema in bodies.items()})
    names = [f"/problems/{name}" for names in problem_types().values() for name in names]
    components["Problem"]["properties"]["type"]["examples"] = sorted(set(names))


def _described(operation: Operation, manifest: Manifest, *, secured: bool) -> Schema:
    described: Schema = {
        "tags": [operation.tag],
        "summary": operation.name.replace("_", " ").capitalize(),
        "description": operation.description,
        "operationId": operation.name,
        "parameters": _possible_parameters(operation, manifest),
        "requestBody": {
            "required": True,
            "description": operation.body,
            "content": {kind: _content_of(name) for kind, name in operation.content.items()},
        },
        "responses": {
            "200": _answer(operation.answer),
            **{str(status): each for status, each in problems([*problem_types()]).items()},
        },
    }
    return described | {"security": [{"HTTPBearer": []}]} if secured else described


def _content_of(model: str) -> Schema:
    """Return the content of a body with a schema of this name."""
    return {"schema": {"$ref": REFERENCE.format(model=model)}}


def _answer(answer: type[BaseModel]) -> Schema:
    """Return the response with status 200: JSON, or a stream of events."""
    content = {JSON: _content_of(answer.__name__), EVENTS: STREAM}
    return {"description": "Successful Response", "content": content}


def _possible_parameters(operation: Operation, manifest: Manifest) -> list[Schema]:
    """Return the parameters of an operation, without those that this bundle cannot take."""
    parameters = _parameters(operation.query)
    if manifest.promises is None:
        parameters = [each for each in parameters if each["name"] != "promise"]
    for parameter in parameters:
        if parameter["name"] == "reject" and manifest.reject is None:
            parameter["schema"]["const"] = False
    return [NAME_IN_PATH, *parameters] if operation.path.startswith(MODELS) else parameters


def _parameters(query: type[BaseModel]) -> list[Schema]:
    """Return a parameter for each field. The alternative null means that it is optional."""
    schema = _without_nulls(query.model_json_schema())
    required = schema.get("required", [])
    return [
        {
            "name": name,
            "in": "query",
            "required": name in required,
            "schema": _not_null(field),
            "description": field["description"],
        }
        for name, field in schema["properties"].items()
    ]


def _not_null(field: Schema) -> Schema:
    """Return the schema of a field without the alternative null."""
    alternatives: list[Schema] = [
        each for each in field.get("anyOf", []) if each != {"type": "null"}
    ]
    if len(alternatives) != 1:
        return field
    rest = {key: value for key, value in field.items() if key != "anyOf"}
    return alternatives[0] | rest


def _without_nulls(schema: Schema) -> Schema:
    """Return a schema without keys of value null, as FastAPI writes it."""
    return {
        key: _without_nulls(value) if isinstance(value, dict) else value
        for key, value in schema.items()
        if value is not None
    }
