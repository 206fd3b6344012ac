"""The OpenAPI description of `POST /classify`.

The endpoint is a plain ASGI app, which FastAPI cannot inspect. One record describes it here, and
its part of the OpenAPI document is generated from that record, in the form that FastAPI uses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from serving.http.body import JSON, MULTIPART, PIXELS, ClassifyImages
from serving.http.problems import PROBLEM_JSON
from serving.http.query import ClassifyQuery
from serving.http.schemas import Classification, Problem

REFERENCE = "#/components/schemas/{model}"
Schema = dict[str, Any]
Responses = Mapping[int | str, Schema]
FILE: Schema = {"type": "string", "format": "binary"}
PROBLEMS: Responses = {
    code: {
        "description": text,
        "content": {PROBLEM_JSON: {"schema": Problem.model_json_schema()}},
    }
    for code, text in {"4XX": "The call is at fault.", "5XX": "The server is at fault."}.items()
}


@dataclass(frozen=True, slots=True)
class Operation:
    """An endpoint's description.

    Attributes:
        path: Path of the URL.
        method: HTTP method.
        name: Name of the operation.
        description: Text for users, Markdown.
        tag: Group of the operation.
        query: Query parameters, one for each field.
        body: Description of the request body.
        content: Schema of the request body, by media type.
        answer: JSON body of the response with status 200.
        problems: Responses with other statuses.
    """

    path: str
    method: str
    name: str
    description: str
    tag: str
    query: type[BaseModel]
    body: str
    content: Mapping[str, Schema]
    answer: type[BaseModel]
    problems: Responses


CLASSIFY = Operation(
    path="/classify",
    method="POST",
    name="classify",
    description="Classify one image or several, each at the earliest exit that the budget allows.\n"
    "\n`curl --data-binary @cat.jpg 'localhost:8000/classify?budget=low'`",
    tag="classification",
    query=ClassifyQuery,
    body="One image file (the default for all other content types), several as a multipart form "
    "or as base64 in JSON, or one image or several as pixels, already of the size that GET /model "
    "gives (`input`).",
    content={
        "image/*": FILE,
        MULTIPART: {"type": "object", "properties": {"images": {"type": "array", "items": FILE}}},
        PIXELS: FILE | {"description": "uint8 [n, height, width, 3], RGB, C order"},
        JSON: ClassifyImages.model_json_schema(mode="validation"),
    },
    answer=Classification,
    problems=PROBLEMS,
)


def add_operation(document: Schema, operation: Operation, *, secured: bool) -> None:
    """Add an operation to an OpenAPI document, before all others.

    Args:
        document: The document, changed in place.
        operation: Description of the endpoint.
        secured: Whether it requires the API key, as the scheme `HTTPBearer`.
    """
    _, schemas = models_json_schema([(operation.answer, "serialization")], ref_template=REFERENCE)
    components = document.setdefault("components", {}).setdefault("schemas", {})
    components.update(_without_nulls(schemas["$defs"]))
    path = {operation.method.lower(): _described(operation, secured=secured)}
    document["paths"] = {operation.path: path, **document["paths"]}


def _described(operation: Operation, *, secured: bool) -> Schema:
    answer = {"$ref": REFERENCE.format(model=operation.answer.__name__)}
    described: Schema = {
        "tags": [operation.tag],
        "summary": operation.name.capitalize(),
        "description": operation.description,
        "operationId": f"{operation.name}_{operation.name}_{operation.method.lower()}",
        "parameters": _parameters(operation.query),
        "requestBody": {
            "required": True,
            "description": operation.body,
            "content": {kind: {"schema": schema} for kind, schema in operation.content.items()},
        },
        "responses": {
            "200": {"description": "Successful Response", "content": {JSON: {"schema": answer}}},
            **operation.problems,
        },
    }
    return described | {"security": [{"HTTPBearer": []}]} if secured else described


def _parameters(query: type[BaseModel]) -> list[Schema]:
    """Return a parameter for each field."""
    schema = _without_nulls(query.model_json_schema())
    required = schema.get("required", [])
    return [
        {
            "name": name,
            "in": "query",
            "required": name in required,
            "schema": field,
            "description": field["description"],
        }
        for name, field in schema["properties"].items()
    ]


def _without_nulls(schema: Schema) -> Schema:
    """Return a schema without keys of value null, as FastAPI writes it."""
    return {
        key: _without_nulls(value) if isinstance(value, dict) else value
        for key, value in schema.items()
        if value is not None
    }
