"""The header `x-request-id`, over real HTTP: taken, echoed, and named in the log."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from serving.http.connection.request_id import request_id_of, valid_request_id
from tests.serving.servers import serving
from tests.serving.small_bundle import png, random_images

PIXELS = random_images(1, 0)[0]
FILES = {"fast path": png(PIXELS, "JPEG"), "slow path": png(PIXELS), "problem": b"?"}
VALID = "a-Z.9_" * 21 + "zz"  # 128 characters


@pytest.mark.parametrize("file", FILES.values(), ids=FILES)
def test_a_valid_id_is_echoed_and_any_other_is_not(client: httpx.Client, file: bytes) -> None:
    for given, echoed in ((VALID, VALID), (f"{VALID}z", None), ("a b", None), ("é", None)):
        headers = {b"x-request-id": given.encode()}
        for response in (
            client.post("/classify", content=file, headers=headers),
            client.post("/classify?budget=huge", content=file, headers=headers),
            client.get("/model", headers=headers),
            client.get("/nowhere", headers=headers),
        ):
            assert response.headers.get("x-request-id") == echoed, response
    assert "x-request-id" not in client.post("/classify", content=file).headers


def test_two_ids_are_no_id() -> None:
    header = (b"x-request-id", b"a")
    assert request_id_of({"headers": [header]}) == b"a"
    assert request_id_of({"headers": [header, header]}) == b""
    assert valid_request_id(b"a\n") == b""


@pytest.mark.parametrize("given", ["mine-1", None])
@pytest.mark.parametrize("file", ["fast path", "slow path"])
def test_an_error_of_the_server_has_its_id_in_response_and_log(
    bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    file: str,
    given: str | None,
) -> None:
    headers = {"x-request-id": given} if given else {}
    with serving(bundle) as server, server.client as client:
        monkeypatch.setattr(server.app.engine, "submit", None)
        response = client.post("/classify", content=FILES[file], headers=headers)
        monkeypatch.undo()
    assert response.status_code == 500
    request_id = response.headers["x-request-id"]
    assert request_id == given or len(request_id) == 16
    assert f"x-request-id: {request_id}" in caplog.text


def test_a_stream_echoes_the_id(client: httpx.Client) -> None:
    headers = {"accept": "text/event-stream", "x-request-id": "mine-2"}
    response = client.post("/classify", content=FILES["fast path"], headers=headers)
    assert response.headers["x-request-id"] == "mine-2"
