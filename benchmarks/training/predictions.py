"""Read the predictions of trained networks for their held-out images and the test split.

Runs are RUNS/<row>/seed<k>/checkpoint.safetensors. The predictions of a network are cached beside
its checkpoint (`answers.npz`), with the hash of the checkpoint as key.
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
from training.data.images import Images
from training.data.splits import load_test
from training.errors import DataError
from training.evaluation.assessment import own_dataset
from training.evaluation.evaluate import Scored
from training.evaluation.labelled_logits import (
    LabelledLogits,
    labelled_logits,
    score,
    temperatures_of,
)
from training.fit.checkpoint import Progress, load_checkpoint
from training.networks.flops import flops_to_exits
from training.output_folder import CHECKPOINT

CACHE = "answers.npz"
SETS = ("held_out", "test")
CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Trained:
    """Predictions of a trained network for its held-out images and the test split."""

    row: str
    seed: str
    held_out: Scored
    test: Scored


class Reader:
    """Reader of runs. Loads held-out images again only if they differ from the previous run's.

    Args:
        data: Location of the images. `None` is the location used in training.
        device: Device of the networks.
    """

    def __init__(self, data: str | None, device: torch.device = CPU) -> None:
        self._data, self._device = data, device
        self._held_out: tuple[str, Images] | None = None

    def read(self, path: Path) -> Trained:
        """Return the predictions of a checkpoint's network.

        Raises:
            TrainingError: The file is no checkpoint, or its images or a test split are missing.
        """
        key = hashlib.sha256(path.read_bytes() + str(self._data).encode()).hexdigest()
        cache = path.with_name(CACHE)
        if not cache.exists() or _key(cache) != key:
            self._predict(path, cache, key)
        with np.load(cache) as arrays:
            flops = arrays["flops"]
            starts = arrays["starts"].tolist() if "starts" in arrays else [0]
            predicted = [
                LabelledLogits(
                    torch.from_numpy(arrays[name]), torch.from_numpy(arrays[f"{name}_targets"])
                )
                for name in SETS
            ]
        temperatures = temperatures_of(predicted[0])
        held_out, test = (score(each, temperatures, flops, starts) for each in predicted)
        return Trained(path.parent.parent.name, path.parent.name, held_out, test)

    def _predict(self, path: Path, cache: Path, key: str) -> None:
        checkpoint = load_checkpoint(path)
        progress, network = checkpoint.progress, checkpoint.network().to(self._device)
        source = self._data or progress.recipe.data
        images = load_test(source, progress.recipe.size, progress.labels, progress.recipe.resizing)
        if not images:
            raise DataError(f"--data: {source} has no test split with labels")
        held_out = labelled_logits(network, self._held_out_of(progress, source))
        test = labelled_logits(network, images)
        arrays = {
            "held_out": held_out.logits.numpy(),
            "test": test.logits.numpy(),
            "held_out_targets": held_out.targets.numpy(),
            "test_targets": test.targets.numpy(),
            "starts": np.array(network.starts),
            "flops": np.array(flops_to_exits(network, progress.recipe.size), dtype=np.float64),
        }
        partial = cache.with_suffix(".partial.npz")
        np.savez(partial, allow_pickle=False, key=np.array(key), **arrays)
        partial.replace(cache)

    def _held_out_of(self, progress: Progress, source: str) -> Images:
        if self._held_out is None or self._held_out[0] != progress.fingerprint:
            self._held_out = progress.fingerprint, own_dataset(progress, source).held_out.decoded()
        return self._held_out[1]


def _key(cache: Path) -> str:
    with np.load(cache) as arrays:
        return str(arrays["key"])


def read_all(
    runs: Path, data: str | None, rows: Collection[str] | None = None, device: torch.device = CPU
) -> list[Trained]:
    """Read all finished runs in a folder.

    Args:
        runs: Folder of the runs.
        data: Location of the images. `None` is the location used in training.
        rows: Names of the rows to read. `None` reads all.
        device: Device of the networks.

    Raises:
        TrainingError: The folder has no finished run, or a run cannot be read.
    """
    paths = [
        path
        for path in sorted(runs.glob(f"*/seed*/{CHECKPOINT}"))
        if (rows is None or path.parent.parent.name in rows) and finished(path)
    ]
    if not paths:
        raise DataError(f"--runs: no finished */seed*/{CHECKPOINT} in {runs}")
    reader = Reader(data, device)
    return [reader.read(path) for path in track(paths, "predicting", transient=True)]
