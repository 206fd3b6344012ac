"""Requests of every sort."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from starlette.datastructures import QueryParams

from benchmarks.serving.revisions.request import Request
from benchmarks.serving.revisions.requests import (
    GENEROUS,
    IMPOSSIBLE,
    all_requests,
    random_query,
    special_requests,
)
from benchmarks.serving.servers.subject import SHIPPED
from offramp.bundle.manifest import Manifest, read_manifest
from serving.engine.policy import resolve
from tests.serving.small_bundle import png, random_images

FILES = [png(image, "JPEG") for image in random_images(20, seed=3)]
NEVER_MET = f"deadline_ms={IMPOSSIBLE}"


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return read_manifest(Path(SHIPPED))


@pytest.fixture(scope="module")
def requests(manifest: Manifest) -> list[Request]:
    return all_requests(FILES, manifest, 500, seed=0)


def test_a_seed_gives_the_same_requests_again(requests: list[Request], manifest: Manifest) -> None:
    assert len(requests) == 500
    assert all_requests(FILES, manifest, 500, seed=0) == requests
    assert all_requests(FILES, manifest, 500, seed=1) != requests


def test_every_special_request_is_sent(requests: list[Request], manifest: Manifest) -> None:
    special = special_requests(FILES, manifest)
    assert 100 < len(special) < 300
    assert all(request in requests for request in special)


def test_every_content_type_and_parameter_is_sent(requests: list[Request]) -> None:
    types = Counter(request.headers.get("Content-Type", "").split(";")[0] for request in requests)
    for content_type in (
        *("image/jpeg", "image/png", "image/webp", "multipart/form-data", "application/json"),
        "application/vnd.offramp.uint8",
    ):
        assert types[content_type] >= 20
    queries = [request.target.partition("?")[2] for request in requests]
    for parameter in ("budget=low", "M", "%25", "min_confidence=", "deadline_ms=", "top_k="):
        assert sum(parameter in query for query in queries) >= 10, parameter
    assert sum("explain=true" in query for query in queries) >= 10
    assert sum(NEVER_MET in query for query in queries) == 12


def test_random_queries_are_valid_and_their_deadlines_generous(manifest: Manifest) -> None:
    rng = np.random.default_rng(0)
    deadlines = set()
    for _ in range(300):
        query = QueryParams(random_query(manifest, rng))
        confidence, deadline = query.get("min_confidence"), query.get("deadline_ms")
        resolve(
            manifest,
            query.get("budget"),
            None if confidence is None else float(confidence),
            None if deadline is None else float(deadline),
        )
        assert 1 <= int(query.get("top_k", 5)) <= 100
        deadlines.add(deadline)
    assert deadlines == {None, str(GENEROUS)}
