"""The OpenAPI description of the operations that FastAPI cannot inspect, and of all problems.

`POST /classify` and `POST /classify/pixels` are a plain ASGI app. One record describes each of
them here, and their part of the OpenAPI document is generated from these records.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from offramp.bundle.manifest import ImageInput, Manifest
from serving.http.anytime.events import EVENTS
from serving.http.anytime.openapi import STREAM
from serving.http.body import FILE_BYTES, JSON, MULTIPART, PIXELS
from serving.http.problems import PROBLEM_JSON, problem_types
from serving.http.query import ClassifyQuery
from serving.http.schemas import Classification, ExitAnswer, Problem

BASE64 = r"^(data:[A-Za-z0-9/+.;=_-]{0,200};base64,)?[A-Za-z0-9+/_\r\n-]+={0,2}[\r\n]*$"
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
            "content": {PROBLEM_JSON: {"schema": {"$ref": REFERENCE.format(model="Problem")}}},
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


def body_schemas(target: ImageInput, max_images: int, max_bytes: int) -> dict[str, Schema]:
    """Return the schemas of request bodies by name, with the bounds of this server.

    Args:
        target: Input of the model.
        max_images: Largest number of images in one call.
        max_bytes: Largest size of one body, in bytes.
    """
    file = {"type": "string", "format": "binary", "minLength": 1, "maxLength": max_bytes}
    pixel_bytes = target.height * target.width * 3
    text = {
        "type": "string",
        "contentEncoding": "base64",
        "pattern": BASE64,
        "minLength": 4,
        "maxLength": max_bytes,
        "description": "an image file as base64, which can have line ends, or as a data URI",
    }
    return {
        "ImageFile": file | {"description": "an image file"},
        "Pixels": file
        | {
            "minLength": pixel_bytes,
            "maxLength": max_images * pixel_bytes,
            "description": f"uint8 [n, {target.height}, {target.width}, 3], RGB, C order: "
            f"{pixel_bytes} bytes for each of 1 to {max_images} images",
        },
        "ClassifyForm": _object(_list(file, max_images), "image files, each with a file name"),
        "ClassifyImages": _object(_list(text, max_images), "image files in JSON"),
    }


def _list(items: Schema, max_images: int) -> Schema:
    return {"type": "array", "items": items, "minItems": 1, "maxItems": max_images}


def _object(images: Schema, description: str) -> Schema:
    return {
        "type": "object",
        "properties": {"images": images},
        "required": ["images"],
        "additionalProperties": False,
        "description": description,
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
    records: list[type[BaseModel]] = [Classification, ExitAnswer, Problem]
    _, schemas = models_json_schema(
        [(record, "serialization") for record in records], ref_template=REFERENCE
    )
    components = document.setdefault("components", {}).setdefault("schemas", {})
    components.update(_without_nulls(schemas["$defs"]))
    components.update({name: {"title": name} | schema for name, schema in bodies.items()})
    names = [f"/problems/{name}" for names in problem_types().values() for name in names]
    components["Problem"]["properties"]["type"]["examples"] = sorted(set(names))
    described = {
        operation.path: {POST.lower(): _described(operation, manifest, secured=secured)}
        for operation in OPERATIONS
    }
    document["paths"] = {**described, **document["paths"]}


def _described(operation: Operation, manifest: Manifest, *, secured: bool) -> Schema:
    parameters = _parameters(operation.query)
    if manifest.promises is None:
        parameters = [each for each in parameters if each["name"] != "promise"]
    for parameter in parameters:
        if parameter["name"] == "reject" and manifest.reject is None:
            parameter["schema"]["const"] = False
    described: Schema = {
        "tags": [operation.tag],
        "summary": operation.name.replace("_", " ").capitalize(),
        "description": operation.description,
        "operationId": operation.name,
        "parameters": parameters,
        "requestBody": {
            "required": True,
            "description": operation.body,
            "content": {
                kind: {"schema": {"$ref": REFERENCE.format(model=name)}}
                for kind, name in operation.content.items()
            },
        },
        "responses": {
            "200": {
                "description": "Successful Response",
                "content": {
                    JSON: {"schema": {"$ref": REFERENCE.format(model=operation.answer.__name__)}},
                    EVENTS: STREAM,
                },
            },
            **{str(status): each for status, each in problems([*problem_types()]).items()},
        },
    }
    return described | {"security": [{"HTTPBearer": []}]} if secured else described


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
