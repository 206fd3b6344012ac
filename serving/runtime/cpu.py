"""The stages of a bundle on the CPU."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from offramp.bundle.manifest import Manifest
from serving.runtime.base import Runtime, Tensors
from serving.runtime.native_layout import optimize_stages, portable_stages
from serving.runtime.saturation import has_wide_weights, saturates
from serving.runtime.stage import Loaded, Stages, load_stage
from serving.settings import Layout

log = logging.getLogger(__name__)
_SATURATES = (
    "%s has 8-bit weights, and ONNX Runtime adds their products in 16 bits on this processor, "
    "which has no VNNI: answers are much less accurate than its manifest states. Quantize it again "
    "with `offramp quantize`, which writes 7-bit weights now, or serve the bundle in fp32"
)


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
        if manifest.precision == "int8":
            _warn_of_saturation(folder, loaded)
        stages = (_native_or_portable if layout == "native" else portable_stages)(loaded)
        files = [folder / stage.file for stage in manifest.stages]
        super().__init__(stages.each, files, stages.whole_network)

    def _black(self, batch: int) -> Tensors:
        (image,) = self.inputs[0]
        return {image.name: np.zeros((batch, *image.shape), image.dtype)}


def _warn_of_saturation(folder: Path, loaded: Sequence[Loaded]) -> None:
    if has_wide_weights(each.model for each in loaded) and saturates():
        log.warning(_SATURATES, folder)


def _native_or_portable(loaded: Sequence[Loaded]) -> Stages:
    try:
        return optimize_stages(loaded)
    except Exception as error:  # noqa: BLE001 (after any error the portable stages still work)
        log.warning("layout native is not available, portable is used instead: %s", error)
        return portable_stages(loaded)
