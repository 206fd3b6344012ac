import asyncio
import json

import httpx
import onnxruntime as ort
import pytest

from offramp.bundle.errors import BundleError
from serving.errors import ProviderError
from serving.http.app import create_app
from serving.settings import Settings


def settings(bundle, **options):
    return Settings(bundle=bundle, **{"threads": 1, "max_batch": 2, "slots": 16, **options})


def ask(app, method, path, **options):
    """One call without a socket; errors of the app come as they would over one."""

    async def call():
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, **options)

    return asyncio.run(call())


def test_errors_of_http_are_problems_too(bundle) -> None:
    app = create_app(settings(bundle))
    missing = ask(app, "GET", "/classified")
    assert (missing.status_code, missing.json()["type"]) == (404, "/problems/not-found")
    assert missing.headers["content-type"] == "application/problem+json"
    assert "/docs" in missing.json()["detail"]
    wrong = ask(app, "GET", "/classify")
    assert (wrong.status_code, wrong.json()["type"]) == (405, "/problems/method-not-allowed")
    assert wrong.headers["allow"] == "POST"


def test_an_error_of_ours_is_a_problem_that_tells_nothing(bundle, images, encode) -> None:
    app = create_app(settings(bundle))
    app.state.context.engine._pool = None
    answer = ask(app, "POST", "/classify", content=encode(images(1, 0)[0]))
    assert (answer.status_code, answer.json()["type"]) == (500, "/problems/internal")
    assert "NoneType" not in answer.text


def test_problems_are_counted_by_type(bundle) -> None:
    app = create_app(settings(bundle))
    for _ in range(3):
        ask(app, "POST", "/classify", content=b"?")
    registry = app.state.context.metrics.registry
    labels = {"type": "not-an-image"}
    assert registry.get_sample_value("offramp_problems_total", labels) == 3


def test_the_manifest_is_in_the_metrics(bundle, manifest) -> None:
    registry = create_app(settings(bundle)).state.context.metrics.registry
    for name, point in manifest.budgets.items():
        for number, share in enumerate(point.exit_shares, 1):
            labels = {"model": "testnet", "budget": name, "exit": str(number)}
            value = registry.get_sample_value("offramp_exit_share_expected", labels)
            assert value == share.value


def test_damaged_bundles_are_refused(damaged) -> None:
    path = damaged / "stage4.onnx"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BundleError, match=r"stage4\.onnx"):
        create_app(settings(damaged))
    manifest = damaged / "manifest.json"
    manifest.write_text(json.dumps({"format": 1}))
    with pytest.raises(BundleError, match=r"manifest\.json"):
        create_app(settings(damaged))


def test_cuda_is_served_or_refused_never_exchanged(bundle) -> None:
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        with pytest.raises(ProviderError, match="gpu"):
            create_app(settings(bundle, provider="cuda"))
        return
    session = create_app(
        settings(bundle, provider="cuda")
    ).state.context.engine._threads.runtime._sessions[0]
    assert session.get_providers()[0] == "CUDAExecutionProvider"
