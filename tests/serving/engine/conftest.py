from pathlib import Path

import pytest

from offramp.bundle.manifest import Manifest
from serving.runtime.cpu import CpuRuntime


@pytest.fixture(scope="module")
def runtime(bundle: Path, manifest: Manifest) -> CpuRuntime:
    return CpuRuntime(bundle, manifest)
