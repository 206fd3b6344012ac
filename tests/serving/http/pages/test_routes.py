"""The pages over real HTTP: the playground, the API reference and their files."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from serving.http.pages.static import POLICY, load_files
from tests.serving.answers import problem
from tests.serving.servers import serving

PATHS = ("/", "/docs", *(f"/pages/{name}" for name in load_files() if name != "index.html"))


@pytest.mark.parametrize("path", PATHS)
def test_each_page_has_its_policy_and_a_validator(client: httpx.Client, path: str) -> None:
    first = client.get(path)
    assert first.status_code == 200
    assert first.headers["content-security-policy"] == POLICY
    assert first.headers["cache-control"] == "no-cache"
    again = client.get(path, headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    head = client.head(path)
    assert head.content == b""
    assert {**head.headers, "date": ""} == {**first.headers, "date": ""}


def test_other_names_are_problems(client: httpx.Client) -> None:
    for name in ("index.html", "nothing.js", "%2e%2e%2froutes.py", "a" * 3000, "__init__.py"):
        problem(client.get(f"/pages/{name}"), 404, "not-found")
    problem(client.post("/", content=b"x"), 405, "method-not-allowed")


def test_the_pages_are_not_in_the_api(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert not {"/", "/docs", "/pages/{name}"} & paths.keys()


def test_without_a_playground_the_reference_stays(bundle: Path) -> None:
    with serving(bundle, playground=False) as server, server.client as client:
        problem(client.get("/"), 404, "not-found")
        for name in ("main.js", "models.html"):
            problem(client.get(f"/pages/{name}"), 404, "not-found")
        reference = client.get("/docs")
        assert "Playground" not in reference.text
        assert "models.html" not in reference.text
        assert client.get("/pages/style.css").status_code == 200


def test_the_pages_need_no_key_and_have_relative_links(bundle: Path) -> None:
    with serving(bundle, root_path="/api", api_key="s3cret") as server, server.client as client:
        for path in (prefix + path for prefix in ("", "/api") for path in PATHS):
            page = client.get(path)
            assert page.status_code == 200, path
            for link in ('href="/', 'src="/', "/api/", "s3cret"):
                assert link not in page.text
        problem(client.get("/api/model"), 401, "unauthorized")
