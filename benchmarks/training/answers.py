"""What trained networks say of their held-out images and of the test split.

Runs are RUNS/<row>/seed<k>/checkpoint.safetensors. What a network said is kept beside its
checkpoint (`answers.npz`) under the checkpoint's hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.progress import track

from benchmarks.training.comparison import finished
from training.data.datasets import load_test
from training.data.images import Images
from training.errors import DataError
from training.evaluation.assessment import (
    LabelledLogits,
    labelled_logits,
    own_dataset,
    score,
    temperatures_of,
)
from training.evaluation.evaluate import Scored
from training.fit.checkpoint import CHECKPOINT, Progress, load_checkpoint
from training.networks.flops import flops_to_exits

CACHE = "answers.npz"
SETS = ("held_out", "test")


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained network on its held-out images and on the test split."""

    row: str
    seed: str
    held_out: Scored
    test: Scored


class Reader:
    """Reads runs, and images no oftener than the runs differ in them.

    Args:
        data: where the images are now; None: where training found them.
    """

    def __init__(self, data: str | None) -> None:
        self._data = data
        self._held_out: tuple[str, Images] | None = None

    def read(self, path: Path) -> Trained:
        """The run of a checkpoint.

        Raises:
            TrainingError: the checkpoint is none, or its images or a test split are not there.
        """
        key = hashlib.sha256(path.read_bytes() + str(self._data).encode()).hexdigest()
        kept = path.with_name(CACHE)
        if not kept.exists() or _key(kept) != key:
            self._predict(path, kept, key)
        with np.load(kept) as found:
            flops = found["flops"]
            said = [
                LabelledLogits(
                    torch.from_numpy(found[name]), torch.from_numpy(found[f"{name}_targets"])
                )
                for name in SETS
            ]
        temperatures = temperatures_of(said[0])
        held_out, test = (score(some, temperatures, flops) for some in said)
        return Trained(path.parent.parent.name, path.parent.name, held_out, test)

    def _predict(self, path: Path, kept: Path, key: str) -> None:
        checkpoint = load_checkpoint(path)
        progress, network = checkpoint.progress, checkpoint.network()
        source = self._data or progress.recipe.data
        images = load_test(source, progress.recipe.size, progress.labels)
        if not images:
            raise DataError(f"--data: {source} has no test split with labels")
        held_out = labelled_logits(network, self._held_out_of(progress, source))
        test = labelled_logits(network, images)
        arrays = {
            **{
                name: some.logits.numpy() for name, some in zip(SETS, (held_out, test), strict=True)
            },
            "held_out_targets": held_out.targets.numpy(),
            "test_targets": test.targets.numpy(),
            "flops": np.array(flops_to_exits(network, progress.recipe.size), dtype=np.float64),
        }
        partial = kept.with_suffix(".partial.npz")
        np.savez(partial, allow_pickle=False, key=np.array(key), **arrays)
        partial.replace(kept)

    def _held_out_of(self, progress: Progress, source: str) -> Images:
        if self._held_out is None or self._held_out[0] != progress.fingerprint:
            self._held_out = progress.fingerprint, own_dataset(progress, source).held_out.decoded()
        return self._held_out[1]


def _key(kept: Path) -> str:
    with np.load(kept) as found:
        return str(found["key"])


def read_all(runs: Path, data: str | None, rows: Collection[str] | None = None) -> list[Trained]:
    """Every run in a folder that has been trained to its end.

    Args:
        runs: the folder.
        data: where the images are now; None: where training found them.
        rows: which; None: all.

    Raises:
        TrainingError: there is none, or one cannot be read.
    """
    paths = [
        path
        for path in sorted(runs.glob(f"*/seed*/{CHECKPOINT}"))
        if (rows is None or path.parent.parent.name in rows) and finished(path)
    ]
    if not paths:
        raise DataError(f"--runs: no finished */seed*/{CHECKPOINT} in {runs}")
    reader = Reader(data)
    return [reader.read(path) for path in track(paths, "predicting", transient=True)]
