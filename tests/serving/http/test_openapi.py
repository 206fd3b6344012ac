"""The OpenAPI document, over real HTTP."""

from __future__ import annotations

import re
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import example, given
from hypothesis import strategies as st

from offramp.bundle.promises import PATTERN, parse_level
from serving.errors import (
    ModelLoadError,
    NoAdminError,
    ProviderError,
    ServingError,
    WorkerError,
)
from serving.http.query import ClassifyQuery
from serving.http.schemas import Classification, ModelDescription, Problem
from tests.serving.answers import problem
from tests.serving.servers import serving

LIKE_A_PROMISE = r"(harm:|exit:|accuracy:|all:)?[0-9]{0,3}(\.[0-9]{0,7})?%?"
PIXELS = "application/vnd.offramp.uint8"
CLASSIFY = (
    "/classify",
    "/classify/pixels",
    "/models/{name}/classify",
    "/models/{name}/classify/pixels",
)


@pytest.fixture(scope="module")
def document(client: httpx.Client) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/openapi.json").json()
    return found


def references(part: object) -> Iterator[str]:
    """Yield every reference in a part of the document."""
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        part = list(part.values())
    if isinstance(part, list):
        for each in part:
            yield from references(each)


def errors_below(base: type[ServingError]) -> Iterator[type[ServingError]]:
    yield base
    for each in base.__subclasses__():
        yield from errors_below(each)


def test_the_events_of_a_stream_are_described(document: dict[str, Any]) -> None:
    for path in CLASSIFY:
        content = document["paths"][path]["post"]["responses"]["200"]["content"]
        events = content["text/event-stream"]["x-events"]
        assert events["exit"] == {"$ref": "#/components/schemas/ExitAnswer"}
        assert events["answer"] == content["application/json"]["schema"]


def test_every_operation_has_a_short_name(document: dict[str, Any]) -> None:
    names = {
        path: {method: each["operationId"] for method, each in methods.items()}
        for path, methods in document["paths"].items()
    }
    assert names == {
        "/classify": {"post": "classify"},
        "/classify/pixels": {"post": "classify_pixels"},
        "/models/{name}/classify": {"post": "model_classify"},
        "/models/{name}/classify/pixels": {"post": "model_classify_pixels"},
        "/model": {"get": "model"},
        "/models": {"get": "models"},
        "/models/{name}": {"get": "named_model"},
        "/health/live": {"get": "live"},
        "/health/ready": {"get": "ready"},
        "/metrics": {"get": "metrics"},
    }


def test_every_reference_has_a_schema_and_every_schema_is_used(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    used = set(references(document))
    assert used == {f"#/components/schemas/{name}" for name in schemas}
    assert [name for name in schemas if "Problem" in name] == ["Problem"]


@pytest.mark.parametrize("record", [Classification, ModelDescription, Problem])
def test_records_are_described_as_fastapi_describes_them(
    document: dict[str, Any], record: type[Any]
) -> None:
    app = FastAPI()

    @app.get("/", response_model=record)
    async def answer() -> None:
        raise AssertionError

    ours = document["components"]["schemas"]
    for name, schema in app.openapi()["components"]["schemas"].items():
        found = deepcopy(ours[name])
        if name == "Problem":
            del found["properties"]["type"]["examples"]  # the problem types
        assert found == schema


def test_it_describes_the_weights_that_a_model_started_from(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    weights = schemas["ModelDescription"]["properties"]["weights"]
    assert list(references(weights)) == ["#/components/schemas/PretrainedWeights"]
    described = schemas["PretrainedWeights"]["properties"]
    assert set(described) == {"source", "licence", "sha256", "images"}
    assert list(references(described)) == ["#/components/schemas/PretrainingImages"]
    images = schemas["PretrainingImages"]["properties"]
    assert set(images) == {"size", "mean", "std", "filter", "margin"}
    assert all(each["description"] for each in (*described.values(), *images.values()))


@pytest.mark.parametrize("path", CLASSIFY)
def test_it_describes_every_parameter_with_its_bounds(document: dict[str, Any], path: str) -> None:
    described = document["paths"][path]["post"]["parameters"]
    if "{name}" in path:
        named, *described = described
        assert (named["name"], named["in"], named["required"]) == ("name", "path", True)
    places = {each["name"]: (each["in"], each["required"]) for each in described}
    names = ClassifyQuery.model_fields.keys() - {"promise"}  # this bundle promises nothing
    assert places == dict.fromkeys(names, ("query", False))
    for each in described:
        assert each["description"] == ClassifyQuery.model_fields[each["name"]].description
        assert "anyOf" not in each["schema"]
    schema = {each["name"]: each["schema"] for each in described}
    assert (schema["top_k"]["minimum"], schema["top_k"]["maximum"]) == (1, 100)
    confidence = schema["min_confidence"]
    assert (confidence["type"], confidence["minimum"], confidence["maximum"]) == ("number", 0, 1)
    assert schema["deadline_ms"]["exclusiveMinimum"] == 0
    assert (schema["budget"]["type"], schema["budget"]["maxLength"]) == ("string", 64)


@pytest.fixture(scope="module")
def promise_pattern(asking: httpx.Client) -> str:
    parameters = asking.get("/openapi.json").json()["paths"]["/classify"]["post"]["parameters"]
    found: str = next(each["schema"]["pattern"] for each in parameters if each["name"] == "promise")
    return found


@given(text=st.from_regex(PATTERN, fullmatch=True) | st.from_regex(LIKE_A_PROMISE, fullmatch=True))
@example(text="0%")
@example(text="exit:00.0%")
@example(text="99.1234567%")
def test_the_pattern_of_a_promise_describes_what_is_read(promise_pattern: str, text: str) -> None:
    try:
        parse_level(text)
    except ValueError:
        assert not re.search(promise_pattern, text)
    else:
        assert re.search(promise_pattern, text)


def test_it_describes_every_body_with_the_bounds_of_the_server(bundle: Path) -> None:
    with serving(bundle, max_images=3, max_body_bytes=50_000) as server, server.client as client:
        document = client.get("/openapi.json").json()
    content = document["paths"]["/classify"]["post"]["requestBody"]["content"]
    bodies = {kind: each["schema"]["$ref"].rpartition("/")[2] for kind, each in content.items()}
    assert bodies == {
        "application/octet-stream": "ImageFile",
        "image/*": "ImageFile",
        "multipart/form-data": "ClassifyForm",
        "application/json": "ClassifyImages",
        PIXELS: "Pixels",
    }
    pixels = document["paths"]["/classify/pixels"]["post"]["requestBody"]["content"]
    assert list(references(pixels)) == ["#/components/schemas/Pixels"]
    schemas = document["components"]["schemas"]
    lengths = {
        name: (schemas[name]["minLength"], schemas[name]["maxLength"])
        for name in ("ImageFile", "Pixels")
    }
    assert lengths == {"ImageFile": (1, 50_000), "Pixels": (3072, 3 * 3072)}
    for name in ("ClassifyForm", "ClassifyImages"):
        images = schemas[name]["properties"]["images"]
        assert (images["minItems"], images["maxItems"]) == (1, 3)
        assert images["items"]["maxLength"] == 50_000
        assert (schemas[name]["required"], schemas[name]["additionalProperties"]) == (
            ["images"],
            False,
        )


@pytest.mark.parametrize("path", CLASSIFY)
def test_it_lists_every_problem_type_with_its_status(document: dict[str, Any], path: str) -> None:
    responses = document["paths"][path]["post"]["responses"]
    elsewhere = {ProviderError, WorkerError, NoAdminError, ModelLoadError}
    reported = set(errors_below(ServingError)) - elsewhere
    assert set(responses) == {"200", *(str(error.status) for error in reported)}
    for error in reported:
        response = responses[str(error.status)]
        assert error.type in response["description"].split(": ")[1].split(", ")
        (schema,) = response["content"].values()
        assert schema["schema"] == {"$ref": "#/components/schemas/Problem"}
    examples = document["components"]["schemas"]["Problem"]["properties"]["type"]["examples"]
    assert set(examples) == {f"/problems/{error.type}" for error in reported}
    for status in ("429", "503"):
        assert "Retry-After" in responses[status]["headers"]


def test_it_describes_the_key_of_a_server_with_one(bundle: Path, client: httpx.Client) -> None:
    with serving(bundle, api_key="s3cret") as server, server.client as guarded:
        paths = guarded.get("/openapi.json").json()["paths"]
    for path, method in (("/classify", "post"), ("/classify/pixels", "post"), ("/model", "get")):
        assert paths[path][method]["security"] == [{"HTTPBearer": []}]
    assert "security" not in paths["/health/live"]["get"]
    assert "security" not in client.get("/openapi.json").json()["paths"]["/classify"]["post"]


def test_documented_bounds_are_those_of_the_server(client: httpx.Client) -> None:
    for query, kind in (
        ("min_confidence=1.01", "invalid-parameter"),
        ("deadline_ms=0", "invalid-parameter"),
        ("top_k=101", "invalid-parameter"),
        ("budget=", "unknown-budget"),
        ("budget=LOW!", "unknown-budget"),
        (f"budget={'1' * 16}", "unknown-budget"),
    ):
        problem(client.post(f"/classify?{query}", content=b"x"), 422, kind)
