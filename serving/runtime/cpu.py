"""The stages of a bundle on the CPU."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from offramp.bundle.manifest import Manifest
from serving.runtime.base import Runtime, Tensors
from serving.runtime.native_layout import optimize_stages, portable_stages
from serving.runtime.stage import Loaded, Stages, load_stage
from serving.settings import Layout

log = logging.getLogger(__name__)


class CpuRuntime(Runtime):
    """The stages of one bundle on the CPU.

    Args:
        folder: Folder of the bundle.
        manifest: Manifest of the bundle.
        layout: Layout of the features between stages: `native` as this CPU computes, `portable`
            as the manifest says.

    Raises:
        BundleError: A graph is damaged, or differs from its description in the manifest.
    """

    def __init__(self, folder: Path, manifest: Manifest, layout: Layout = "native") -> None:
        loaded = [load_stage(folder, manifest, k) for k in range(manifest.exits)]
        stages = (_native_or_portable if layout == "native" else portable_stages)(loaded)
        files = [folder / stage.file for stage in manifest.stages]
        super().__init__(stages.each, files, stages.whole_network)

    def _black(self, batch: int) -> Tensors:
        (image,) = self.inputs[0]
        return {image.name: np.zeros((batch, *image.shape), image.dtype)}


def _native_or_portable(loaded: Sequence[Loaded]) -> Stages:
    try:
        return optimize_stages(loaded)
    except Exception as error:  # noqa: BLE001 (after any error the portable stages still work)
        log.warning("layout native is not available, portable is used instead: %s", error)
        return portable_stages(loaded)
