"""Several models in two real workers: changed by calls and by SIGHUP, with a worker killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.serving.answers import counters, total
from tests.serving.models.folders import add_version, change_weights, damage
from tests.serving.servers import Process, started, until
from tests.serving.small_bundle import png, random_images

ADMIN = "the admin's"
JPEG = png(random_images(1, 0)[0], "JPEG")
GRAPHS = "memfd:offramp-graphs"  # which both workers share
CONNECTIONS = 8  # of which the kernel gives some to each worker


@pytest.fixture(scope="module")
def folder(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    add_version(folder, bundle, "cats", "1")
    (folder / "key").write_text(ADMIN)
    return folder


@pytest.fixture(scope="module")
def pair(folder: Path) -> Iterator[Process]:
    flags = ("--workers", "2", "--threads", "1", "--admin-key-file", str(folder / "key"))
    with started(folder, *flags, option="--models") as process:
        yield process


def versions(pair: Process) -> set[str]:
    """Return the versions that new connections get an answer from."""
    found = set()
    for _ in range(CONNECTIONS):
        response = httpx.post(f"{pair.url}/classify", content=JPEG, timeout=30)
        assert response.status_code == 200, response.text
        found.add(response.json()["model"]["version"])
    return found


def load(pair: Process, version: str | None = None, **parameters: float) -> httpx.Response:
    given = parameters | ({"version": version} if version else {})
    body = {"parameters": given} if given else {}
    return httpx.post(
        f"{pair.url}/v2/repository/models/cats/load",
        json=body,
        headers={"Authorization": f"Bearer {ADMIN}"},
        timeout=60,
    )


def test_both_workers_change_or_none_does(pair: Process, folder: Path, bundle: Path) -> None:
    change_weights(add_version(folder, bundle, "cats", "2"))
    loaded = load(pair)
    assert loaded.status_code == 200, loaded.text
    assert versions(pair) == {"2"}
    assert all(GRAPHS in Path(f"/proc/{worker}/maps").read_text() for worker in pair.workers)
    damage(add_version(folder, bundle, "cats", "3"))
    refused = load(pair)
    assert refused.status_code == 422
    assert "stage4.onnx" in refused.json()["error"]
    assert versions(pair) == {"2"}
    for _ in range(CONNECTIONS):
        rows = httpx.post(f"{pair.url}/v2/repository/index", timeout=30).json()
        assert [row["state"] for row in rows] == ["UNAVAILABLE", "READY", "UNAVAILABLE"]
        assert "stage4.onnx" in rows[2]["reason"]
    metrics = httpx.get(f"{pair.url}/metrics", timeout=30).text
    assert 'offramp_slots{model="cats",version="2"} 512.0' in metrics
    assert "offramp_workers 2.0" in metrics
    assert "offramp_workers_expected 2.0" in metrics
    assert 'version="1"' not in metrics
    assert 'offramp_model_ready{model="cats",version="2"} 2.0' in metrics
    assert 'offramp_model_share{model="cats",version="2"} 1.0' in metrics
    assert 'offramp_model_last_load_failed{model="cats"} 1.0' in metrics
    assert 'offramp_model_loads_total{model="cats",result="failed"} 1.0' in metrics


def test_the_successor_of_a_killed_worker_serves_what_the_others_do(pair: Process) -> None:
    assert load(pair, "1").status_code == 200
    killed = pair.workers[0]
    os.kill(killed, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{killed}").exists())  # until then connections to it are reset
    assert load(pair, "2").status_code == 200  # in the middle of a start
    until(lambda: len(pair.workers) == 2)
    until(lambda: "offramp_workers 2.0" in httpx.get(f"{pair.url}/metrics", timeout=30).text)
    until(lambda: versions(pair) == {"2"})


def test_sighup_loads_what_changed(pair: Process, folder: Path, bundle: Path) -> None:
    add_version(folder, bundle, "cats", "4")
    os.kill(pair.popen.pid, signal.SIGHUP)
    until(lambda: versions(pair) == {"4"})
    assert len(pair.workers) == 2


def test_the_counts_of_a_shadow_add_up(pair: Process, folder: Path, bundle: Path) -> None:
    add_version(folder, bundle, "cats", "5")
    assert load(pair, "5", shadow=1).status_code == 200
    answering = versions(pair)
    assert len(answering) == 1
    assert "5" not in answering

    def compared() -> set[float]:
        """Return what new connections, to either worker, read."""
        found = set()
        for _ in range(CONNECTIONS):
            with httpx.Client(base_url=pair.url, timeout=30) as client:
                found.add(total(counters(client), "offramp_shadow_total", version="5"))
        return found

    until(lambda: compared() == {CONNECTIONS})
