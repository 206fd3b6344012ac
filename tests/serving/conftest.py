from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from offramp.bundle.manifest import Manifest, read_manifest
from tests.serving.promise_bundle import write_promise_bundle
from tests.serving.reject_bundle import write_reject_bundle
from tests.serving.servers import (
    Encode,
    GatedRuntime,
    Running,
    Serve,
    Start,
    WaitUntil,
    serving,
    started,
    until,
)
from tests.serving.small_bundle import png, random_images, write_bundle


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundles") / "testnet")


@pytest.fixture(scope="session")
def reject_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reject_bundle(tmp_path_factory.mktemp("bundles") / "testnet")


@pytest.fixture(scope="session")
def promise_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_promise_bundle(tmp_path_factory.mktemp("bundles") / "testnet")


@pytest.fixture(scope="session")
def manifest(bundle: Path) -> Manifest:
    return read_manifest(bundle)


@pytest.fixture
def damaged(bundle: Path, tmp_path: Path) -> Path:
    """Copy the bundle, for a test to damage."""
    return shutil.copytree(bundle, tmp_path / "damaged")


@pytest.fixture(scope="session")
def images() -> Callable[[int, int], NDArray[np.uint8]]:
    return random_images


@pytest.fixture(scope="session")
def encode() -> Encode:
    return png


@pytest.fixture
def gated(bundle: Path, manifest: Manifest) -> Iterator[GatedRuntime]:
    runtime = GatedRuntime(bundle, manifest)
    yield runtime
    runtime.open()


@pytest.fixture
def serve() -> Serve:
    return serving


@pytest.fixture(scope="module")
def server(bundle: Path) -> Iterator[Running]:
    with serving(bundle) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[httpx.Client]:
    with server.client as client:
        yield client


@pytest.fixture(scope="session")
def wait_until() -> WaitUntil:
    return until


@pytest.fixture(scope="session")
def start() -> Start:
    return started
