"""The API reference: everything in the OpenAPI document, as HTML without scripts."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest

from serving.http.pages.reference import write_reference

VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """Checks that elements close in order, and collects ids, links and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag != "script"
        if tag not in VOID:
            self.open.append(tag)
        self.ids += [value for name, value in attrs if name == "id" and value]
        self.links += [value for name, value in attrs if name == "href" and value]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def document(client: httpx.Client) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/openapi.json").json()
    return found


def test_it_has_every_operation_parameter_and_schema(
    client: httpx.Client, document: dict[str, Any]
) -> None:
    page = Page(client.get("/docs").text)
    schemas = document["components"]["schemas"]
    assert len(set(page.ids)) == len(page.ids)
    assert {f"schema-{name}" for name in schemas} <= set(page.ids)
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert f"{method.upper()} {path}" in page.text
            assert operation["operationId"] in page.ids
            for parameter in operation.get("parameters", []):
                assert re.sub("`", "", parameter["description"]) in page.text
    for link in page.links:
        if link.startswith("#"):
            assert link[1:] in page.ids, link
    for bound in ("≥ 1", "≤ 100", "default 5", "list of RankedClass"):
        assert bound in page.text


def test_texts_of_a_document_are_not_markup() -> None:
    bad = "<script>alert(1)</script>"
    schema = {"type": "object", "properties": {bad: {"enum": [bad]}}, "description": bad}
    operation = {
        "operationId": "x",
        "description": f"{bad}\n\n`{bad}`",
        "security": [{}],
        "responses": {"200": {"description": bad, "content": {bad: {}}}},
    }
    document = {
        "info": {"title": bad, "version": bad},
        "paths": {f"/{bad}": {"get": operation}},
        "components": {"schemas": {bad: schema}},
    }
    page = Page(write_reference(document, playground=False))
    assert bad in page.text
    assert "Needs the API key" in page.text
