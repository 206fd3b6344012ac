"""Read the parts of a response that tests compare."""

from __future__ import annotations

import httpx
from prometheus_client.parser import text_string_to_metric_families

Samples = dict[str, list[tuple[dict[str, str], float]]]  # labels and values by name


def labels(response: httpx.Response) -> list[tuple[str, int]]:
    """Return label and exit of each answer."""
    assert response.status_code == 200, response.text
    return [(answer["label"], answer["exit"]) for answer in response.json()["answers"]]


def problem(response: httpx.Response, status: int, kind: str) -> str:
    """Return the detail of a problem after a check of its status and type."""
    body = response.json()
    assert (response.status_code, body["type"]) == (status, f"/problems/{kind}"), body
    assert response.headers["content-type"] == "application/problem+json"
    assert body["status"] == status
    assert body["title"]
    detail = body["detail"]
    assert isinstance(detail, str)
    return detail


def counters(client: httpx.Client) -> Samples:
    """Read all samples from `/metrics`."""
    samples: Samples = {}
    for family in text_string_to_metric_families(client.get("/metrics").text):
        for sample in family.samples:
            samples.setdefault(sample.name, []).append((sample.labels, sample.value))
    return samples


def total(samples: Samples, name: str, **labels: str) -> float:
    """Return the sum of the samples with these labels."""
    return sum(v for seen, v in samples[name] if labels.items() <= seen.items())
