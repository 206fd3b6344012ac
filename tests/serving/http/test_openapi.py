"""The OpenAPI document, over real HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import httpx
from fastapi import FastAPI, Query

from serving.http.openapi import CLASSIFY, PROBLEMS, add_operation
from serving.http.query import ClassifyQuery
from serving.http.schemas import Classification
from tests.serving.servers import serving


def test_the_description_is_the_one_that_fastapi_gives_for_a_function() -> None:
    """Compare `add_operation` with FastAPI's own description of an equal function."""
    app, ours = FastAPI(), FastAPI()
    content = {kind: {"schema": schema} for kind, schema in CLASSIFY.content.items()}
    body = {"required": True, "description": CLASSIFY.body, "content": content}

    @app.post(
        CLASSIFY.path,
        tags=[CLASSIFY.tag],
        description=CLASSIFY.description,
        response_model=Classification,
        responses=dict(PROBLEMS),
        openapi_extra={"requestBody": body},
    )
    async def classify(query: Annotated[ClassifyQuery, Query()]) -> None:
        raise AssertionError(query)

    document: dict[str, Any] = ours.openapi()
    add_operation(document, CLASSIFY, secured=False)
    assert document == app.openapi()


def test_it_describes_bodies_answers_and_problems(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    classify = paths["/classify"]["post"]
    pixels = "application/vnd.offramp.uint8"
    kinds = {"image/*", "multipart/form-data", "application/json", pixels}
    assert set(classify["requestBody"]["content"]) == kinds
    assert set(classify["responses"]) == {"200", "4XX", "5XX"}
    answer = classify["responses"]["200"]["content"]["application/json"]["schema"]
    assert answer == {"$ref": "#/components/schemas/Classification"}
    assert set(paths) == {"/classify", "/model", "/health/live", "/health/ready", "/metrics"}
    assert client.get("/docs").status_code == 200


def test_it_describes_every_parameter(client: httpx.Client) -> None:
    described = client.get("/openapi.json").json()["paths"]["/classify"]["post"]["parameters"]
    places = {each["name"]: (each["in"], each["required"]) for each in described}
    assert places == dict.fromkeys(ClassifyQuery.model_fields, ("query", False))
    for each in described:
        assert each["description"] == ClassifyQuery.model_fields[each["name"]].description
    schema = {each["name"]: each["schema"] for each in described}
    assert (schema["top_k"]["minimum"], schema["top_k"]["maximum"]) == (1, 100)


def test_it_describes_the_key_of_a_server_with_one(bundle: Path, client: httpx.Client) -> None:
    with serving(bundle, api_key="s3cret") as server, server.client as guarded:
        paths = guarded.get("/openapi.json").json()["paths"]
    for path, method in (("/classify", "post"), ("/model", "get")):
        assert paths[path][method]["security"] == [{"HTTPBearer": []}]
    assert "security" not in paths["/health/live"]["get"]
    assert "security" not in client.get("/openapi.json").json()["paths"]["/classify"]["post"]
