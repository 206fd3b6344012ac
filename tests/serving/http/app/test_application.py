"""The app without a socket: its errors, its metrics, and bundles that it refuses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from prometheus_client.parser import text_string_to_metric_families

from offramp.bundle.errors import BundleError
from offramp.bundle.manifest import Manifest
from serving.errors import ProviderError
from serving.http.app import Offramp, create_app
from serving.runtime.cuda.runtime import CudaRuntime
from serving.settings import Settings
from tests.serving.servers import Encode


def settings(bundle: Path, **options: Any) -> Settings:
    return Settings(bundle=bundle, **{"threads": 1, "max_batch": 2, "slots": 16, **options})


def ask(app: Offramp, method: str, path: str, **options: Any) -> httpx.Response:
    """Make one call without a socket. Errors of the app come as they would over one."""

    async def call() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, **options)

    return asyncio.run(call())


def sample(app: Offramp, name: str, **labels: str) -> float:
    """Return the value of a metric, as a scrape shows it."""
    families = text_string_to_metric_families(ask(app, "GET", "/metrics").text)
    samples = [sample for family in families for sample in family.samples]
    (value,) = [s.value for s in samples if s.name == name and s.labels == labels]
    return float(value)


def test_errors_of_http_are_problems_too(bundle: Path) -> None:
    app = create_app(settings(bundle))
    missing = ask(app, "GET", "/classified")
    assert (missing.status_code, missing.json()["type"]) == (404, "/problems/not-found")
    assert missing.headers["content-type"] == "application/problem+json"
    assert "/docs" in missing.json()["detail"]
    wrong = ask(app, "GET", "/classify")
    assert (wrong.status_code, wrong.json()["type"]) == (405, "/problems/method-not-allowed")
    assert wrong.headers["allow"] == "POST"


def test_an_unexpected_error_is_a_problem_without_details(
    bundle: Path,
    images: Callable[[int, int], NDArray[np.uint8]],
    encode: Encode,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = create_app(settings(bundle))
    monkeypatch.setattr(app.engine, "admission", None)
    answer = ask(app, "POST", "/classify", content=encode(images(1, 0)[0]))
    assert (answer.status_code, answer.json()["type"]) == (500, "/problems/internal")
    assert "NoneType" not in answer.text


def test_problems_are_counted_by_type(bundle: Path) -> None:
    app = create_app(settings(bundle))
    for _ in range(3):
        ask(app, "POST", "/classify", content=b"?")
    assert sample(app, "offramp_problems_total", type="not-an-image") == 3


def test_the_manifest_is_in_the_metrics(bundle: Path, manifest: Manifest) -> None:
    app = create_app(settings(bundle))
    for name, point in manifest.budgets.items():
        for number, share in enumerate(point.exit_shares, 1):
            labels = {"model": "testnet", "budget": name, "exit": str(number)}
            value = sample(app, "offramp_exit_share_expected", **labels)
            assert value == share.value


def test_damaged_bundles_are_refused(damaged: Path) -> None:
    path = damaged / "stage4.onnx"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BundleError, match=r"stage4\.onnx"):
        create_app(settings(damaged))
    manifest = damaged / "manifest.json"
    manifest.write_text(json.dumps({"format": 1}))
    with pytest.raises(BundleError, match=r"manifest\.json"):
        create_app(settings(damaged))


def test_cuda_is_served_or_refused_and_never_replaced(bundle: Path) -> None:
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        with pytest.raises(ProviderError, match="gpu"):
            create_app(settings(bundle, provider="cuda"))
        return
    runtime = create_app(settings(bundle, provider="cuda")).engine.stage_threads.runtime
    assert isinstance(runtime, CudaRuntime)
    for stage in runtime.stages:
        for lanes in stage.lanes.values():
            assert lanes.session.get_providers()[0] == "CUDAExecutionProvider"
