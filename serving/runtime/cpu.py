"""The stages of a bundle on the CPU."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from offramp.bundle.errors import BundleError
from offramp.bundle.manifest import Manifest, TensorSpec
from serving.runtime.native_layout import optimize_stages, portable_stages
from serving.runtime.stage import Loaded, Stage, StageOutput, Stages, Tensors, load_stage
from serving.settings import Layout

log = logging.getLogger(__name__)


class Runnable(Protocol):
    """A stage that can be run."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]: ...  # noqa: D102 (as of `Stage`)

    @property
    def features(self) -> tuple[TensorSpec, ...]: ...  # noqa: D102

    def run(self, inputs: Tensors, *, head: bool) -> StageOutput: ...  # noqa: D102


class Runtime:
    """The stages of one bundle, ready to run.

    Args:
        folder: of the bundle.
        manifest: of the bundle.
        layout: of the features between stages: `native` is as this CPU computes, `portable` as
            the manifest says.

    Attributes:
        inputs: of each stage, the tensors that it takes: in the layout `native` not the manifest's.
        features: of each stage, the tensors that it hands on.
        on_device: batches have one device for all threads, and are filled up to certain sizes.

    Raises:
        BundleError: a graph is damaged, or is not as the manifest describes it.
    """

    on_device = False

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        layout: Layout = "native",
    ) -> None:
        loaded = [load_stage(folder, manifest, k) for k in range(manifest.exits)]
        stages = (_native_or_portable if layout == "native" else portable_stages)(loaded)
        self._keep(
            stages.each, [folder / stage.file for stage in manifest.stages], stages.whole_network
        )

    def _keep(
        self, stages: Sequence[Runnable], files: Sequence[Path], whole_network: Stage | None = None
    ) -> None:
        self._stages, self._files, self._whole_network = stages, files, whole_network
        self.inputs: tuple[tuple[TensorSpec, ...], ...] = tuple(s.inputs for s in stages)
        self.features: tuple[tuple[TensorSpec, ...], ...] = tuple(s.features for s in stages)

    def run(self, stage: int, inputs: Tensors, *, head: bool = True) -> StageOutput:
        """Run a stage (from 0) on its inputs, each [N, ...]. May be called from any thread.

        Args:
            stage: which.
            inputs: by name; others are ignored.
            head: whether the exit is asked; the last stage's always is.
        """
        return self._stages[stage].run(inputs, head=head or stage == len(self._stages) - 1)

    @property
    def whole_network(self) -> bool:
        """Whether `run_whole` may be called."""
        return self._whole_network is not None

    def run_whole(self, inputs: Tensors) -> StageOutput:
        """Run all stages at once: from the first's inputs, each [N, ...], to the last exit.

        No exit on the way is computed, and nothing is handed on. May be called from any thread.
        """
        assert self._whole_network is not None
        return self._whole_network.run(inputs, head=True)

    def warm_up(self, batch: int) -> None:
        """Run every stage with `batch` black images, so that the first request need not.

        Raises:
            BundleError: a stage fails, or gives other shapes than the manifest says.
        """
        known = self._black(batch)
        for k, file in enumerate(self._files):
            try:
                self.run(k, known, head=False)
                known = {**known, **self.run(k, known).features}
            except Exception as error:
                raise BundleError(file, f"fails to run: {error}") from error
        try:
            if self.whole_network:
                self.run_whole(known)
        except Exception as error:
            raise BundleError(file.parent, f"fails to run as one graph: {error}") from error

    def _black(self, batch: int) -> Tensors:
        (image,) = self.inputs[0]
        return {image.name: np.zeros((batch, *image.shape), image.dtype)}


def _native_or_portable(loaded: Sequence[Loaded]) -> Stages:
    try:
        return optimize_stages(loaded)
    except Exception as error:  # noqa: BLE001 (whatever it is, the portable stages are good)
        log.warning("layout native cannot be had, portable is taken instead: %s", error)
        return portable_stages(loaded)
