"""HEAD, wrong paths, headers of every response, pages of other origins and proxies."""

from __future__ import annotations

import socket
from pathlib import Path

import httpx
import pytest

from tests.serving.answers import labels, problem
from tests.serving.servers import Running, serving
from tests.serving.small_bundle import png, random_images

GET_PATHS = (
    "/model",
    "/metrics",
    "/health/live",
    "/health/ready",
    "/docs",
    "/openapi.json",
    "/",
)


@pytest.fixture(scope="module")
def files() -> list[bytes]:
    return [png(image) for image in random_images(2, 21)]


@pytest.mark.parametrize("path", GET_PATHS)
def test_head_is_answered_as_get_without_the_body(server: Running, path: str) -> None:
    request = f"{{}} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answers = []
    for method in ("GET", "HEAD"):
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
            connection.sendall(request.format(method).encode())
            with connection.makefile("rb") as file:
                answers.append(file.read().partition(b"\r\n\r\n"))
    (get, _, body), (head, _, nothing) = answers
    assert body
    assert nothing == b""
    names = [[line.partition(b":")[0] for line in each.split(b"\r\n")] for each in (get, head)]
    assert names[0] == names[1]
    assert head.startswith(b"HTTP/1.1 200")


def test_wrong_paths_and_methods_are_problems(client: httpx.Client) -> None:
    assert client.head("/classify").status_code == 405
    assert "POST only" in problem(client.get("/classify"), 405, "method-not-allowed")
    wrong = client.post("/model")
    assert "GET, HEAD only" in problem(wrong, 405, "method-not-allowed")
    assert wrong.headers["allow"] == "GET, HEAD"
    assert "is not served" in problem(client.get("/nowhere"), 404, "not-found")
    assert len(problem(client.get("/" + "a" * 3000), 404, "not-found")) < 400


@pytest.mark.parametrize("path", [*GET_PATHS[:-1], "/classify", "/classify/pixels"])
def test_no_path_is_redirected_to_the_host_of_the_client(client: httpx.Client, path: str) -> None:
    method = "POST" if "classify" in path else "GET"
    response = client.request(method, path + "/", headers={"host": "evil.example"})
    assert "is not served" in problem(response, 404, "not-found")
    assert "evil.example" not in response.text + str(response.headers)


def test_every_response_forbids_to_guess_its_type(client: httpx.Client, files: list[bytes]) -> None:
    jpeg = png(random_images(1, 0)[0], "JPEG")  # answered by the fast path
    responses = [
        *(client.get(path) for path in (*GET_PATHS, "/nowhere", "/classify")),
        *(client.post("/classify", content=content) for content in (files[0], jpeg, b"?", b"")),
        client.post("/classify?budget=huge", content=jpeg),
        client.post("/classify", json={"images": []}),
        client.head("/docs"),
        client.options("/model"),
    ]
    for response in responses:
        assert response.headers.get_list("x-content-type-options") == ["nosniff"], response


def test_pages_of_other_origins_are_not_allowed_by_default(
    client: httpx.Client, files: list[bytes]
) -> None:
    origin = {"origin": "https://shop.example"}
    preflight = origin | {"access-control-request-method": "POST"}
    for response in (
        client.post("/classify", content=files[0], headers=origin),
        client.options("/classify", headers=preflight),
    ):
        assert not [name for name in response.headers if name.startswith("access-control")]


def test_pages_of_allowed_origins_can_call_the_api(bundle: Path, files: list[bytes]) -> None:
    allowed = {"origin": "https://shop.example"}
    jpeg = png(random_images(1, 0)[0], "JPEG")
    origins = "http://localhost:3000, https://SHOP.example"
    with serving(bundle, cors_origins=origins, api_key="s3cret") as server, server.client as client:
        key = {"authorization": "Bearer s3cret"}
        asked = allowed | {
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization, content-type",
        }
        preflight = client.options("/classify", headers=asked)
        assert preflight.status_code == 200
        assert "POST" in preflight.headers["access-control-allow-methods"]
        for content in (files[0], jpeg, b"?"):
            response = client.post("/classify", content=content, headers=allowed | key)
            assert response.headers["access-control-allow-origin"] == allowed["origin"]
        problem(client.post("/classify", content=jpeg, headers=allowed), 401, "unauthorized")
        other = {"origin": "https://evil.example"}
        response = client.post("/classify", content=jpeg, headers=other | key)
        assert labels(response)
        assert "access-control-allow-origin" not in response.headers
        assert client.options("/classify", headers=asked | other).status_code == 400
        assert labels(client.post("/classify", content=jpeg, headers=key))


@pytest.mark.parametrize("prefix", ["", "/api"])
def test_a_prefix_can_be_removed_or_kept_by_a_proxy(
    bundle: Path, files: list[bytes], prefix: str
) -> None:
    jpeg = png(random_images(1, 0)[0], "JPEG")
    with serving(bundle, root_path="/api") as server, server.client as client:
        document = client.get(f"{prefix}/openapi.json").json()
        assert document["servers"] == [{"url": "/api"}]
        assert 'href="openapi.json"' in client.get(f"{prefix}/docs").text
        for content in (files[0], jpeg):
            assert labels(client.post(f"{prefix}/classify", content=content))
        pixels = random_images(1, 0).tobytes()
        assert labels(client.post(f"{prefix}/classify/pixels", content=pixels))
        assert client.head(f"{prefix}/health/live").status_code == 200
        problem(client.get(f"{prefix}/nowhere"), 404, "not-found")
