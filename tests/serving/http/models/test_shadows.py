"""A shadow and audits in a server of several versions, over HTTP."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.serving.answers import Samples, counters, total
from tests.serving.http.models.changing import ADMIN, Changing
from tests.serving.servers import serving, until
from tests.serving.small_bundle import random_images

PIXELS = {"content-type": "application/vnd.offramp.uint8"}
TRIED = "offramp_shadow_total"


@pytest.fixture(scope="module")
def shadowing(promise_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Changing]:
    """A server of `cats`: version 1 answers, 2 is the same as a shadow, 3 has another input."""
    folder = tmp_path_factory.mktemp("models")
    for version in ("1", "2"):
        shutil.copytree(promise_bundle, folder / "cats" / version)
    (folder / "key").write_text(ADMIN)
    options: dict[str, Any] = {"models": folder, "admin_key_file": folder / "key", "audit": 1.0}
    with serving(None, shadow="cats@2=100%", **options) as running, running.client as client:
        yield Changing(running, client, folder, promise_bundle)


@pytest.fixture(autouse=True)
def _version_2_is_a_shadow(shadowing: Changing) -> None:
    if shadowing.index()["2"][1] != "a shadow of 1 of the requests":
        shadowing.load("1")
        shadowing.load("2", shadow=1)


def ask(client: httpx.Client, seed: int, budget: str = "low", images: int = 16) -> set[str]:
    """Classify images in one call. Return the version that answered."""
    content = random_images(images, seed).tobytes()
    response = client.post(f"/classify?budget={budget}", content=content, headers=PIXELS)
    return {response.raise_for_status().json()["model"]["version"]}


def settled(changing: Changing) -> Samples:
    """Wait until all copies have ended. Return the metrics."""
    engines = [each.context.engine for each in changing.running.app.served.models.every()]
    until(lambda: not any(len(engine.copies) for engine in engines))
    return counters(changing.client)


def of_shadow(samples: Samples, name: str = TRIED, **labels: str) -> float:
    return total(samples, name, model="cats", version="2", **labels) if name in samples else 0


def listed(client: httpx.Client) -> dict[str, object]:
    (row,) = client.get("/models").json()["models"]
    assert isinstance(row, dict)
    return row


def test_copies_are_compared_and_never_answer(shadowing: Changing) -> None:
    client = shadowing.client
    assert ask(client, 3) | ask(client, 4, "safe") == {"1"}
    samples = settled(shadowing)
    assert of_shadow(samples, agrees="false") == 0
    assert of_shadow(samples, budget="low", agrees="true") >= 16
    assert of_shadow(samples, budget="promise-99", agrees="true") >= 16
    for name in ("exits_total", "flops_total", "seconds_count"):
        served, shadow = (
            of_shadow(samples, f"offramp_shadow_{name}", side=side) for side in ("served", "shadow")
        )
        assert served == shadow >= 32
    assert total(samples, "offramp_requests_total", version="2") == 0
    assert shadowing.index()["2"] == ("READY", "a shadow of 1 of the requests")
    assert listed(client) == {
        "name": "cats",
        "version": "1",
        "versions": ["1", "2"],
        "shadow": {"version": "2", "share": 1.0},
    }


def test_each_version_audits_its_own_answers(shadowing: Changing) -> None:
    def audits(samples: Samples, version: str) -> float:
        labels = {"model": "cats", "version": version, "budget": "promise-99"}
        return total(samples, "offramp_audit_total", **labels)

    before = settled(shadowing)
    ask(shadowing.client, 5, "safe", images=8)
    after = settled(shadowing)
    assert audits(after, "1") == audits(before, "1") + 8
    assert audits(after, "2") == 0  # copies of a shadow are no answers
    state = {"model": "cats", "version": "1", "budget": "promise-99"}
    assert total(after, "offramp_promise_state", **state) == 1


def test_a_rollback_ends_a_shadow_and_the_next_one_counts_anew(shadowing: Changing) -> None:
    client = shadowing.client
    ask(client, 6, images=2)
    assert of_shadow(settled(shadowing)) >= 2
    shadowing.load("1")
    assert "shadow" not in listed(client)
    assert ask(client, 7) == {"1"}
    assert TRIED not in counters(client)
    shadowing.load("2", shadow="0.5")
    assert of_shadow(counters(client)) == 0
    shadowing.load("2", shadow=1)
    ask(client, 8, images=3)
    assert of_shadow(settled(shadowing)) == 3
    shadowing.load("2")
    assert ask(client, 9) == {"2"}
    assert "shadow" not in listed(client)


def test_a_version_with_another_input_cannot_be_a_shadow(shadowing: Changing) -> None:
    folder = shutil.copytree(shadowing.bundle, shadowing.folder / "cats" / "3")
    document = json.loads((folder / "manifest.json").read_text())
    document["input"]["margin"] = 0.5
    (folder / "manifest.json").write_text(json.dumps(document))
    refused = shadowing.change("load", "3", shadow=0.5)
    assert refused.status_code == 422
    assert "another input than version 1" in refused.json()["error"]
    assert "another input" in shadowing.index()["3"][1]
    assert shadowing.index()["2"][1].startswith("a shadow")  # it goes on
    alone = shadowing.change("load", "1", shadow=0.5)
    assert "no other version of cats answers" in alone.json()["error"]


def test_a_shadow_whose_counters_have_no_room_is_refused(
    shadowing: Changing, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object) -> None:
        raise OSError("no room")

    shadowing.load("1")
    with monkeypatch.context() as patch:
        patch.setattr("serving.http.models.shadows.ShadowCounters", no_room)
        refused = shadowing.change("load", "2", shadow=0.5)
    assert (refused.status_code, "no room" in refused.json()["error"]) == (422, True)
    assert shadowing.index()["2"][0] == "UNAVAILABLE"
    shadowing.load("2", shadow=1)
    ask(shadowing.client, 11, images=2)
    assert of_shadow(settled(shadowing)) == 2


def test_an_unloaded_model_takes_its_shadow_with_it(shadowing: Changing) -> None:
    assert shadowing.change("unload").status_code == 200
    assert TRIED not in counters(shadowing.client)
    shadowing.load("1")
    assert ask(shadowing.client, 10) == {"1"}
