from __future__ import annotations

from pathlib import Path

import pytest

from offramp.bundle.manifest import Manifest, read_manifest
from serving.runtime.base import Runtime
from serving.runtime.cpu import CpuRuntime


@pytest.fixture(scope="module")
def promising(promise_bundle: Path) -> Manifest:
    return read_manifest(promise_bundle)


@pytest.fixture(scope="module")
def runtime(promise_bundle: Path, promising: Manifest) -> Runtime:
    return CpuRuntime(promise_bundle, promising)
