"""CPU time of an answer by its parts, and the limit: decoding and stages without a server."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TypeVar

import numpy as np
from PIL import Image

from benchmarks.serving.limit import Work, measure, staged
from benchmarks.serving.offline import MAX_PIXELS, pixels
from offramp.bundle.manifest import ImageInput, Manifest
from offramp.bundle.preprocess import fitted, side_wanted
from offramp.inputs.images import shrunk
from serving.engine.policy import resolve
from serving.images.decoder import decode
from serving.runtime.cpu import CpuRuntime

ROUNDS = 3  # of all photos, of which the least counts
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Parts:
    """CPU milliseconds of one thread for an answer, as mean over photos.

    Attributes:
        decode: Decoding, at 1/2, 1/4 or 1/8 of the size where that is enough.
        resize: Resizing to the input of the model.
        model: Stages in full batches, by budget.
        client: Shrinking by the client library. `None`: it would send the file.
    """

    decode: float
    resize: float
    model: Mapping[str, float]
    client: float | None


class Alone:
    """A bundle and photos, without a server.

    Args:
        folder: Folder of the bundle.
        manifest: Its manifest.
        budgets: Value of each budget, by name.
        files: Photos.
    """

    def __init__(
        self, folder: Path, manifest: Manifest, budgets: Mapping[str, str], files: Sequence[bytes]
    ) -> None:
        self._target, self._files = manifest.input, files
        runtime, images = CpuRuntime(folder, manifest), pixels(files, manifest)
        self._stages = {
            name: staged(runtime, resolve(manifest, budget).thresholds, images)
            for name, budget in budgets.items()
        }

    def parts(self, seconds: float) -> Parts:
        """Measure the parts of an answer on one thread, the model for so long for each budget."""
        whole = _least(partial(decode, target=self._target, max_pixels=MAX_PIXELS), self._files)
        images = [_decoded(file, self._target) for file in self._files]
        resize = _least(partial(fitted, target=self._target), images)
        model = {name: measure(work, 1, seconds).cpu for name, work in self._stages.items()}
        sent = [shrunk(file, self._target) for file in self._files]
        client = None
        if all(each is not None for each in sent):
            client = _least(partial(shrunk, target=self._target), self._files)
        return Parts(max(whole - resize, 0.0), resize, model, client)

    def with_decoding(self, budget: str) -> Work:
        """Return the decoding of all photos, and the batches of the stages."""
        stages = self._stages[budget]
        decoding = [partial(decode, file, self._target, MAX_PIXELS) for file in self._files]
        return Work([*decoding, *stages.batches], stages.answers)


def shrunk_bodies(files: Sequence[bytes], target: ImageInput) -> list[bytes] | None:
    """Return raw pixels as the client library sends them. `None`: it would send a file."""
    made = [shrunk(file, target) for file in files]
    return None if any(each is None for each in made) else [np.asarray(e).tobytes() for e in made]


def _decoded(file: bytes, target: ImageInput) -> Image.Image:
    """Return the pixels before resizing, as the server's decoder has them."""
    side = side_wanted(target)
    with Image.open(io.BytesIO(file)) as image:
        image.draft("RGB", (side, side))
        return image.convert("RGB")


def _least(run: Callable[[Item], object], items: Sequence[Item]) -> float:
    """Return the mean CPU milliseconds of an item, in the round with the least."""
    means = []
    for _ in range(ROUNDS):
        seconds = []
        for item in items:
            started = time.thread_time()
            run(item)
            seconds.append(time.thread_time() - started)
        means.append(1e3 * fmean(seconds))
    return min(means)
