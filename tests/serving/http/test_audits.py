"""Audits of a server over HTTP: the metrics of a scrape, answers of broken promises, restarts."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.serving.answers import Samples, counters, total
from tests.serving.http.oip.calls import LENGTH
from tests.serving.servers import Start, WaitUntil, serving, until
from tests.serving.small_bundle import png, random_images

PIXELS = {"content-type": "application/vnd.offramp.uint8"}
STATES = ("unproven", "held", "broken", "safer", "full")


def classify(
    client: httpx.Client, seed: int, images: int = 16, **query: str
) -> list[dict[str, Any]]:
    content = random_images(images, seed).tobytes()
    response = client.post("/classify", params=query, content=content, headers=PIXELS)
    answers: list[dict[str, Any]] = response.raise_for_status().json()["answers"]
    return answers


def gauge(samples: Samples, name: str, budget: str = "promise-95", **labels: str) -> float:
    return total(samples, f"offramp_promise_{name}", budget=budget, **labels)


def state(samples: Samples, budget: str = "promise-95") -> str:
    (found,) = [each for each in STATES if gauge(samples, "state", budget, state=each)]
    return found


@pytest.mark.parametrize("on_device", [False, True])
def test_metrics_have_the_counts_and_bounds_of_each_promise(
    promise_bundle: Path, on_device: bool
) -> None:
    running = serving(promise_bundle, on_device=on_device, audit=1.0)
    with running as server, server.client as client:
        answers = classify(client, 3, promise="99%") + classify(client, 4, budget="low")
        until(lambda: server.free_slots() == 256)
        samples = counters(client)
    audits = [total(samples, "offramp_audit_total", budget=b) for b in ("promise-99", "low")]
    assert audits == [16, 16]
    late = [answer for answer in answers if answer["exit"] == 4]
    assert total(samples, "offramp_audit_total", exit="4", agrees="true") == len(late)
    assert total(samples, "offramp_audit_total", exit="4", agrees="false") == 0
    differ = total(samples, "offramp_audit_total", budget="promise-99", agrees="false")
    seen = {name: gauge(samples, name, "promise-99") for name in ("audits", "disagreement")}
    assert seen == {"audits": 16, "disagreement": differ / 16}
    low, high = (gauge(samples, f"disagreement_{end}", "promise-99") for end in ("low", "high"))
    assert 0 <= low <= differ / 16 <= high < 1
    assert gauge(samples, "epsilon", "promise-99") == 0.01
    assert 500 < gauge(samples, "audits_needed", "promise-99") < 1000
    assert math.isnan(gauge(samples, "disagreement"))
    assert state(samples) == "unproven"


@pytest.mark.parametrize("on_broken", ["keep", "full"])
def test_answers_say_that_their_promise_is_broken(promise_bundle: Path, on_broken: str) -> None:
    running = serving(promise_bundle, audit=1.0, on_broken=on_broken)
    with running as server, server.client as client:
        expected = {"kind": "agreement", "epsilon": 0.05, "delta": 0.05, "kept": True}
        (first,) = classify(client, 0, images=1, promise="95%")
        assert first["promise"] == expected
        for seed in range(100):
            answers = classify(client, seed, promise="95%")
            until(lambda: server.free_slots() == 256)
            if "broken" in answers[0]["promise"]:
                break
        samples = counters(client)
        others = classify(client, 0, promise="99%") + classify(client, 0, budget="low")
        infer = "/v2/models/testnet/infer?promise=95%"
        image = png(random_images(1, 0)[0])
        response = client.post(infer, content=image, headers={LENGTH: "0"}).json()
        stream = {"accept": "text/event-stream"}
        url = "/classify?promise=95%&explain=true"
        lines = client.post(url, content=image, headers=stream).text.splitlines()
        *exits, last = [json.loads(each[6:]) for each in lines if each.startswith("data: ")]
    answered_by = None if on_broken == "keep" else "full"
    marked = expected | {"broken": True, "answered_by": answered_by}
    assert [answer["promise"] for answer in answers] == [marked] * 16
    named = {"promise_answered_by": answered_by} if answered_by else {}
    assert response["parameters"] == {
        "budget": "promise=95%",
        "promise": "95%",
        "promise_delta": "0.05",
        "promise_kept": True,
        "promise_broken": True,
        **named,
    }
    assert state(samples) == ("broken" if on_broken == "keep" else "full")
    assert not any("broken" in answer.get("promise", {}) for answer in others)
    explained = [each["threshold"] for each in last["answers"][0]["explain"]]
    assert [event["threshold"] for event in exits] == explained
    if answered_by:
        assert {answer["exit"] for answer in answers} == {4}
    else:
        assert gauge(samples, "disagreement_low") > 0.05


def test_workers_share_one_sequence_which_survives_a_restart(
    promise_bundle: Path, start: Start, wait_until: WaitUntil, tmp_path: Path
) -> None:
    file = tmp_path / "audits.json"
    options = ("--audit", "100%", "--on-broken", "safer", "--audit-state", str(file))
    with start(promise_bundle, "--workers", "2", *options) as process:
        for seed in range(12):  # each call on a connection of its own, of either worker
            with httpx.Client(base_url=process.url, timeout=30) as client:
                classify(client, seed, promise="harm:2%")

        def samples() -> Samples:
            with httpx.Client(base_url=process.url, timeout=30) as client:
                return counters(client)

        wait_until(lambda: gauge(samples(), "audits", "promise-harm-2") == 192)
        assert {total(samples(), "offramp_audit_total") for _ in range(6)} == {192}
        known = gauge(samples(), "disagreement", "promise-harm-2")
    kept = json.loads(file.read_text())["promises"]["promise-harm-2"]
    assert (kept["trials"], kept["losses"]) == (192, round(known * 192))
    with serving(promise_bundle, audit=1.0, audit_state=file) as server, server.client as client:
        assert gauge(counters(client), "audits", "promise-harm-2") == 192
