"""Requests of every sort, the same for the same seed."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from urllib.parse import urlencode

import numpy as np
from PIL import Image

from benchmarks.serving.revisions.bodies import (
    FORM,
    JSON,
    PIXELS,
    json_base64,
    malformed_bodies,
    multipart,
    raw_pixels,
    readable_bodies,
)
from benchmarks.serving.revisions.files import encode, readable_files
from benchmarks.serving.revisions.request import CLASSIFY, Request, classify
from offramp.bundle.manifest import Manifest

KEY = "key-of-the-comparison"
AUTHORIZATION = {"Authorization": f"Bearer {KEY}"}
GENEROUS, IMPOSSIBLE = 10_000, 0.01  # deadlines in milliseconds, which always and never hold
MOST_TOGETHER = 6  # images of a random request
INVALID_QUERIES = (
    *("budget=cheap", "budget=", "budget", "budget=1k", "budget=0.1%25", "budget=-5"),
    *("budget=1e6", "budget=12T", "budget=40%25%25", "budget=NaN", "budget=%00", "budget=%ff"),
    *("budget=low&budget=high", "top_k=1&top_k=1", "budget=low&min_confidence=0.5"),
    *("min_confidence=1.5", "min_confidence=-0.1", "min_confidence=nan", "min_confidence=sure"),
    *("min_confidence=", "deadline_ms=0", "deadline_ms=-5", "deadline_ms=soon", "deadline_ms=inf"),
    *("deadline_ms=nan", "top_k=0", "top_k=101", "top_k=2.5", "top_k=many", "top_k="),
    *("explain=perhaps", "explain=", "buget=low", "Budget=low", "budget=low&x=1", "%ff=%fe"),
    *(f"budget={'x' * 300}", f"{'x' * 300}=1", "budget=low;top_k=1"),
)
OTHER_PATHS = (
    *("GET /model", "HEAD /model", "POST /model", "GET /model?x=1", "GET /models", "GET /"),
    *("GET /classify", "HEAD /classify", "PUT /classify", "DELETE /classify", "OPTIONS /classify"),
    *("GET /nowhere", "POST /nowhere", "POST /classify/", "POST //classify", "POST /classify%2F"),
    *("GET /health", "GET /health/live", "GET /health/ready", "HEAD /health/live"),
    *("HEAD /health/ready", "POST /health/ready", "GET /docs", "GET /openapi.json"),
    *("GET /metrics", "POST /metrics", "PATCH /classify"),
)


def all_requests(
    files: Sequence[bytes], manifest: Manifest, count: int, seed: int
) -> list[Request]:
    """Return `count` requests in random order: every special one, the rest valid and random.

    Args:
        files: At least 17 JPEG files.
        manifest: Manifest of the served bundle.
        count: Number of requests. The special ones come first where it is small.
        seed: Seed of choices and order.
    """
    rng = np.random.default_rng(seed)
    special = special_requests(files, manifest)[:count]
    valid = [random_request(files, manifest, rng) for _ in range(count - len(special))]
    both = [*special, *valid]
    return [both[i] for i in rng.permutation(len(both))]


def special_requests(files: Sequence[bytes], manifest: Manifest) -> list[Request]:
    """Return one request of each sort that random ones do not cover."""
    jpeg = files[0]
    made = readable_bodies(files, manifest) + malformed_bodies(files, manifest)
    made += [classify("invalid query", jpeg, query=query) for query in INVALID_QUERIES]
    made += [
        classify("deadline never met", body, content_type, f"deadline_ms={IMPOSSIBLE}{more}")
        for body, content_type in (
            (jpeg, "image/jpeg"),
            (readable_files(jpeg)["PNG, large"], "image/png"),
            (multipart(files[:3]), FORM),
            (raw_pixels(files[:3], manifest), PIXELS),
        )
        for more in ("", "&budget=full", "&min_confidence=0.9&explain=true")
    ]
    for line in OTHER_PATHS:
        method, target = line.split()
        body = jpeg if method in {"POST", "PUT", "PATCH"} else b""
        made.append(Request("other path or method", method, target, {}, body))
    for value in ("", "Bearer wrong", f"Basic {KEY}", f"bearer {KEY}", KEY):
        headers = {"Authorization": value}
        made.append(Request("authorization", "POST", CLASSIFY, headers, jpeg))
        made.append(Request("authorization", "GET", "/model", headers))
    return made


def random_request(files: Sequence[bytes], manifest: Manifest, rng: np.random.Generator) -> Request:
    """Return a valid `POST /classify` of random images, content type and query."""
    chosen = [files[i] for i in rng.integers(len(files), size=rng.integers(1, MOST_TOGETHER + 1))]
    query = random_query(manifest, rng)
    ways: list[Callable[[], Request]] = [
        lambda: classify("raw JPEG", chosen[0], query=query),
        lambda: _raw(chosen[0], "PNG", query),
        lambda: _raw(chosen[0], "WEBP", query),
        lambda: classify(f"form of {len(chosen)}", multipart(chosen), FORM, query),
        lambda: classify(f"JSON of {len(chosen)}", json_base64(chosen), JSON, query),
        lambda: classify(f"pixels of {len(chosen)}", raw_pixels(chosen, manifest), PIXELS, query),
    ]
    return ways[rng.integers(len(ways))]()


def _raw(file: bytes, form: str, query: str) -> Request:
    image = Image.open(io.BytesIO(file)).convert("RGB")
    return classify(f"raw {form}", encode(image, form), f"image/{form.lower()}", query)


def random_query(manifest: Manifest, rng: np.random.Generator) -> str:
    """Return a valid query: budget or least confidence, and at random the other parameters."""
    query = dict(random_budget(manifest, rng))
    if rng.random() < 0.25:
        query["deadline_ms"] = str(GENEROUS)
    if rng.random() < 0.3:
        query["top_k"] = str(rng.integers(1, 101))
    if rng.random() < 0.25:
        query["explain"] = str(rng.choice(["true", "false", "1", "no"]))
    return urlencode(query)


def random_budget(manifest: Manifest, rng: np.random.Generator) -> dict[str, str]:
    """Return what a request can cost: nothing stated, a name, flops, a share, or a confidence."""
    least, full = manifest.curve[0].mean_flops.value, manifest.full_flops
    flops = rng.uniform(1.05 * least, 1.1 * full)
    ways: list[dict[str, str]] = [
        {},
        {"budget": str(rng.choice(list(manifest.budgets)))},
        {"budget": f"{flops / 1e6:.2f}M"},
        {"budget": f"{flops / 1e3:.0f}k"},
        {"budget": f"{flops:.0f}"},
        {"budget": f"{100 * flops / full:.1f}%"},
        {"min_confidence": f"{rng.uniform(0, 1):.3f}"},
    ]
    return ways[rng.integers(len(ways))]
