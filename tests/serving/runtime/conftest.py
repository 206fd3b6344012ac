from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from offramp.bundle.manifest import Manifest
from serving.runtime.cpu import CpuRuntime
from tests.serving.runtime.devices import IMAGES, Expected, exit_of


@pytest.fixture(scope="module")
def expected(bundle: Path, manifest: Manifest) -> Expected:
    """Return the probabilities of every exit for every image, [exits, images, classes]."""
    runtime, found = CpuRuntime(bundle, manifest, layout="portable"), []
    known: dict[str, NDArray[np.generic]] = {"image": IMAGES}
    for stage in range(4):
        output = runtime.run(stage, known)
        known |= output.features
        found.append(exit_of(output)[0])
    return np.stack(found)
