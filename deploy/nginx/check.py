"""Check the example of a proxy: a real nginx on loopback, in front of a real server.

    python -m deploy.nginx.check

The answer through nginx must be the server's own, connections to the server must be kept, and what
nginx refuses must have the status and the problem type that the server gives.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx

from benchmarks.client import serving
from deploy.check.programs import PROXY, can_run
from deploy.check.samples import BUNDLE, images
from deploy.nginx.proxy import PREFIX, proxying

LARGEST_BODY = 16 << 20  # bytes
LINE = 8 << 10  # bytes, of the target or of a header
CALLS = 50
NO_SERVER = "127.0.0.1:9"


def connections(port: int) -> int:
    """Return the number of IPv4 sockets with this local port that are open, or closed just now."""
    lines = Path("/proc/net/tcp").read_text(encoding="utf-8").splitlines()[1:]
    return sum(line.split()[1].endswith(f":{port:04X}") for line in lines) - 1  # one listens


def problem(response: httpx.Response) -> tuple[int, str]:
    """Return the status and the problem type of a refusal, or its content type if it has none."""
    content_type = response.headers.get("content-type", "")
    if content_type != "application/problem+json":
        return response.status_code, content_type
    body = response.json()
    assert body["status"] == response.status_code, body
    assert response.headers["x-content-type-options"] == "nosniff", response.headers
    return response.status_code, body["type"].removeprefix("/problems/")


def answers(direct: httpx.Client, proxied: httpx.Client, image: bytes) -> Iterator[str]:
    """Yield the differences between answers of the server and answers through the proxy."""
    query = {"budget": "medium"}
    expected = direct.post("/classify", params=query, content=image).json()["answers"][0]
    port = direct.base_url.port
    assert port is not None
    before = connections(port)
    h2c = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAQAAP__"}
    for number in range(CALLS):
        headers = h2c if number % 10 == 0 else None
        response = proxied.post("/classify", params=query, content=image, headers=headers)
        answer = response.json()["answers"][0] if response.is_success else {}
        if (answer.get("label"), answer.get("exit")) != (expected["label"], expected["exit"]):
            yield f"call {number}: {response.status_code} {response.text}, expected {expected}"
    opened = connections(port) - before
    if opened > 1:
        yield f"{CALLS} calls opened {opened} connections to the server, and 1 is enough"
    servers = proxied.get("/openapi.json").json()["servers"]
    if servers != [{"url": PREFIX}]:
        yield f"the OpenAPI document names {servers}"


def refusals(proxied: httpx.Client) -> Iterator[str]:
    """Yield each refusal that does not have the status and the problem type of the server."""
    for name, (response, expected) in _refused(proxied).items():
        if problem(response) != expected:
            yield f"{name}: {problem(response)}, expected {expected}"


def _refused(proxied: httpx.Client) -> dict[str, tuple[httpx.Response, tuple[int, str]]]:
    """Send requests to refuse, and return each response with its status and problem type."""
    beyond = bytes(LARGEST_BODY + 1)
    return {
        "the largest body": (
            proxied.post("/classify", content=beyond[:-1]),
            (415, "not-an-image"),
        ),
        "a larger body": (proxied.post("/classify", content=beyond), (413, "body-too-large")),
        "a larger body in chunks": (
            proxied.post("/classify", content=iter([beyond])),
            (413, "body-too-large"),
        ),
        "a long target": (proxied.get(f"/model?a={'a' * LINE}"), (414, "target-too-long")),
        "a long header": (
            proxied.get("/model", headers={"X-Long": "a" * LINE}),
            (431, "head-too-large"),
        ),
        "the metrics": (proxied.get("/metrics"), (404, "not-found")),
        "another path": (proxied.get("/nothing"), (404, "not-found")),
    }


def run_check(folder: Path) -> list[str]:
    """Send requests through nginx, with a server and without one, and return the faults."""
    with (
        serving(BUNDLE, "--root-path", PREFIX) as server,
        proxying(server.removeprefix("http://"), folder / "with") as url,
        httpx.Client(base_url=server, timeout=60) as direct,
        httpx.Client(base_url=f"{url}{PREFIX}", timeout=60) as proxied,
    ):
        faults = [*answers(direct, proxied, images()[0]), *refusals(proxied)]
    with proxying(NO_SERVER, folder / "without") as url:
        found = problem(httpx.get(f"{url}{PREFIX}/model"))
        if found != (503, "not-ready"):
            faults.append(f"without a server: {found}")
    return faults


def main() -> int:
    """Run the check and return the exit status, 1 if it failed."""
    if not can_run("proxy", PROXY):
        return 1
    with tempfile.TemporaryDirectory(prefix="offramp-nginx-") as folder:
        faults = run_check(Path(folder))
    for fault in faults:
        print(f"{'proxy':12} FAILED     {fault}")
    if not faults:
        print(f"{'proxy':12} real       {CALLS} answers by one connection, refusals are problems")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
