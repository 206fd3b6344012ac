"""Build what `benchmarks.engine.gpu` measures: the subject, and ONNX Runtime and torch as peers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.serving.servers.graphs import full_depth
from offramp.bundle.manifest import Manifest
from serving.runtime.base import sizes_up_to
from serving.runtime.cuda.graph import with_slot_rows
from serving.runtime.cuda.slots import Device
from serving.runtime.session import open_session
from training.errors import TrainingError
from training.fit.checkpoint import new_network
from training.recipes import Recipe

Images = NDArray[np.uint8]
Call = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Subject:
    """A bundle on a device, and the amount of work in a measurement.

    Args:
        bundle: Folder of the bundle.
        manifest: Its manifest.
        device: Device to measure.
        max_batch: Largest batch.
        per_request: Images in a request to the engine.
        images: Minimum number of images in a measurement.
    """

    bundle: Path
    manifest: Manifest
    device: Device
    max_batch: int
    per_request: int
    images: int

    def random_images(self, count: int) -> Images:
        """Return random images uint8 [count, H, W, 3]."""
        size = self.manifest.input
        shape = (count, size.height, size.width, 3)
        return np.random.default_rng(0).integers(0, 256, shape, np.uint8)

    def rate(self, call: Call, batch: int) -> float:
        """Return the images per second of a function that processes one batch."""
        call()
        calls = -(-self.images // batch)
        started = perf_counter()
        for _ in range(calls):
            call()
        return calls * batch / (perf_counter() - started)


def raw_call(subject: Subject, batch: int) -> Call:
    """Return a function that runs one batch to the last exit, in one graph of this batch size."""
    device, images = subject.device, subject.random_images(batch)
    model = with_slot_rows(full_depth(subject.bundle, subject.manifest), [], [], 1, batch)
    del model.graph.input[0]  # the slots: this graph does not read them
    session = open_session(subject.bundle, model, device.providers)
    image_tensor = device.tensor(images.shape, "uint8")
    probabilities = device.tensor((batch, len(subject.manifest.labels)), "float32")
    binding = session.io_binding()
    binding.bind_ortvalue_input(session.get_inputs()[0].name, image_tensor)
    binding.bind_ortvalue_output(session.get_outputs()[0].name, probabilities)

    def call() -> None:
        image_tensor.update_inplace(images)
        session.run_with_iobinding(binding)
        probabilities.numpy()

    return call


def torch_call(subject: Subject, batch: int) -> Call | None:
    """Return the same in torch, in eager mode, or `None` if the bundle has no known recipe."""
    manifest = subject.manifest
    try:
        recipe = Recipe.parse(
            Recipe.recorded(manifest.provenance.config), option="provenance.config", name="a recipe"
        )
        network = new_network(recipe, len(manifest.labels)).eval()
    except TrainingError:
        return None
    device = torch.device(subject.device.name, subject.device.number)
    network = network.to(device)
    images = torch.from_numpy(subject.random_images(batch))

    @torch.inference_mode()
    def call() -> None:
        features = [network.normalize(images.to(device))]
        for stage in network.stages:
            features = stage(features)
        torch.softmax(network.heads[-1](features[-1]), dim=1).cpu()

    return call


def best_batch(subject: Subject, make: Callable[[int], Call | None]) -> tuple[int, Call] | None:
    """Return the batch size with the most images per second, and its function."""
    calls = {size: make(size) for size in sizes_up_to(subject.max_batch)}
    rates = {size: subject.rate(call, size) for size, call in calls.items() if call is not None}
    if not rates:
        return None
    best = max(rates, key=lambda size: rates[size])
    call = calls[best]
    assert call is not None
    return best, call
