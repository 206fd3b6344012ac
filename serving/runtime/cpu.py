"""The stages of a bundle on the CPU."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from offramp.bundle.manifest import Manifest
from offramp.bundle.stage_files import read_graph
from serving.runtime.base import Runtime, Tensors
from serving.runtime.native_layout import optimize_stages, portable_stages
from serving.runtime.ready_graphs import ReadyGraphs
from serving.runtime.saturation import has_wide_weights, saturates
from serving.runtime.stage import Loaded, Stages, load_stage
from serving.runtime.stage_cache import StageCache, key_of, structure_of
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
        cache: Stages of other runtimes, which are used if the graphs are the same. The files are
            read and their hashes are checked nevertheless. `None`: there are no others.
        ready: Graphs that another process of this server has made of the files, which it checked.
            They are used if they are those of the manifest.

    Raises:
        BundleError: A graph is damaged, or differs from its description in the manifest.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        layout: Layout = "native",
        cache: StageCache | None = None,
        ready: ReadyGraphs | None = None,
    ) -> None:
        cache, key = cache or StageCache(), key_of(manifest, layout)
        if (stages := cache.find(key)) is not None:
            self.warm = True
            for stage in manifest.stages:
                read_graph(folder, stage)
        else:
            if ready is not None and ready.key == key:
                stages = ready.open()
            else:
                stages, _ = _load(folder, manifest, layout, cache)
            cache.keep(key, stages)
        files = [folder / stage.file for stage in manifest.stages]
        super().__init__(stages.each, files, stages.whole_network)
        self.structure = stages.structure
        self._all = stages  # which the cache holds weakly

    def _black(self, batch: int) -> Tensors:
        (image,) = self.inputs[0]
        return {image.name: np.zeros((batch, *image.shape), image.dtype)}


def make_ready(folder: Path, manifest: Manifest, layout: Layout) -> ReadyGraphs | None:
    """Read the graphs of a bundle, check them, and make them ready to run.

    Returns:
        The graphs. `None`: the layout is portable, so that there is nothing to make.

    Raises:
        BundleError: A graph is damaged, or differs from its description in the manifest.
    """
    if layout == "portable":
        return None
    _, graphs = _load(folder, manifest, layout, StageCache())
    return graphs and replace(graphs, key=key_of(manifest, layout))


def _load(
    folder: Path, manifest: Manifest, layout: Layout, cache: StageCache
) -> tuple[Stages, ReadyGraphs | None]:
    """Return the stages of a bundle, and the graphs that they run if they are in native layout."""
    loaded = [load_stage(folder, manifest, k) for k in range(manifest.exits)]
    if manifest.precision == "int8":
        _warn_of_saturation(folder, loaded)
    structure = structure_of(each.model for each in loaded)
    native = _native(loaded, cache.find(structure)) if layout == "native" else None
    stages, graphs = native or (portable_stages(loaded), None)
    kind = f"{structure} native={native is not None} whole={stages.whole_network is not None}"
    stages = replace(stages, structure=kind)
    if native is not None:
        cache.keep(structure, stages)
    return stages, graphs and replace(graphs, structure=kind)


def _warn_of_saturation(folder: Path, loaded: Sequence[Loaded]) -> None:
    if has_wide_weights(each.model for each in loaded) and saturates():
        log.warning(_SATURATES, folder)


def _native(loaded: Sequence[Loaded], like: Stages | None) -> tuple[Stages, ReadyGraphs] | None:
    try:
        return optimize_stages(loaded, like)
    except Exception as error:  # noqa: BLE001 (after any error the portable stages still work)
        log.warning("layout native is not available, portable is used instead: %s", error)
        return None
