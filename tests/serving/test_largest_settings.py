"""A server with the largest allowed numbers answers, and ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from annotated_types import Le

from serving.settings import Settings
from tests.serving.servers import serving
from tests.serving.small_bundle import png, random_images

# Not those that need as many threads, processes, ports, devices or measured batches.
APART = {"port", "grpc_port", "device", "workers", "threads", "max_batch"}


def largest() -> dict[str, Any]:
    """Return the upper bound of each setting."""
    return {
        name: float(str(bound.le)) if field.annotation is float else int(str(bound.le))
        for name, field in Settings.model_fields.items()
        for bound in field.metadata
        if isinstance(bound, Le) and name not in APART
    }


def test_the_largest_settings_start_answer_and_stop(bundle: Path) -> None:
    bounds = largest()
    assert {"drain_seconds", "body_seconds", "slots", "max_body_bytes", "max_pixels"} <= {*bounds}
    (image,) = random_images(1, 3)
    with (
        serving(bundle, grpc_port=0, overload="degrade", **bounds) as server,
        server.client as client,
    ):
        answer = client.post("/classify", content=png(image))
    assert answer.status_code == 200
