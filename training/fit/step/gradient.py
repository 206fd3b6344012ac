"""The gradient of a batch: precision, micro-batches, several processes, compilation."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from inspect import signature
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from training.data.augment import shrink
from training.data.images import Images
from training.distributed import processes
from training.errors import RecipeError
from training.networks.multi_exit import MultiExitNetwork
from training.objectives import Objective

# Keeps each process's own buffers, which a step would overwrite. torch 2.13 renamed the argument.
_named = signature(DistributedDataParallel).parameters
OWN_BUFFERS: dict[str, Any] = {
    ("forward_sync_buffers" if "forward_sync_buffers" in _named else "broadcast_buffers"): False
}


class Losses(nn.Module):
    """Network and objective as one module, to compile or distribute both together."""

    def __init__(self, network: MultiExitNetwork, objective: Objective) -> None:
        super().__init__()
        self.network = network
        self.objective = objective

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        """Map normalised images [N, 3, H, W] and int64 [N] to the loss of each exit, [exits]."""
        logits = self.network(images, self.objective.boundary)
        losses: Tensor = self.objective(logits, targets)
        return losses


class GradientAccumulator:
    """Adds the gradient of a batch, averaged over all processes, to every parameter.

    Args:
        network: Network to train.
        objective: Objective to minimise.
        size: Height and width of the images, in pixels.
        bf16: True to run the forward pass in bfloat16 where autocast does.
        micro_batch: Largest number of images in one forward pass. `None`: no limit.
        compiler: Backend of torch.compile. `None`: not compiled.

    Raises:
        RecipeError: `compiler` is unknown, or the objective needs more than one backward pass.
    """

    def __init__(
        self,
        network: MultiExitNetwork,
        objective: Objective,
        *,
        size: int,
        bf16: bool,
        micro_batch: int | None,
        compiler: str | None,
    ) -> None:
        check_compiler(compiler, objective)
        self._network, self._objective = network, objective
        self._bf16, self._micro_batch = bf16, micro_batch
        self._device = next(network.parameters()).device
        self._losses = _prepared(Losses(network, objective), size, compiler)

    def add(self, images: Images, size: int | None) -> Tensor:
        """Add the gradient of this process's shard of a batch to every parameter.

        Micro-batches are weighted by their number of images. The sum is the gradient of the whole
        batch, except where batch norm or the objective depends on the batch itself (the hint of
        distillation).

        Args:
            images: Shard of the batch.
            size: Height and width to which images are shrunk, in pixels. `None`: no change.

        Returns:
            The loss of the shard, summed over exits, [].
        """
        count = len(images)
        loss = torch.zeros((), device=self._device)
        for start, end in micro_batches(count, self._micro_batch):
            part = Images(images.pixels[start:end], images.targets[start:end])
            loss += self._add(part, size, (end - start) / count, last=end == count)
        return loss

    def _add(self, images: Images, size: int | None, weight: float, *, last: bool) -> Tensor:
        pixels = self._network.normalize(images.pixels)
        if size is not None:
            pixels = shrink(pixels, size)
        with self._averaged(last):
            with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
                losses: Tensor = self._losses(pixels, images.targets)
            losses = losses * weight
            self._objective.backward(losses, self._network, last=last)
        return losses.detach().sum()

    def _averaged(self, last: bool) -> AbstractContextManager[None]:  # noqa: FBT001
        """Return a context that averages gradients in the last backward pass of a step alone."""
        if last or not isinstance(self._losses, DistributedDataParallel):
            return nullcontext()
        local: AbstractContextManager[None] = self._losses.no_sync()
        return local


def micro_batches(count: int, largest: int | None) -> list[tuple[int, int]]:
    """Return start and end of each micro-batch of a batch of `count` images.

    The last one has two images instead of one if `largest` is at least three, because batch norm
    cannot train on one value per channel.
    """
    step = largest or count
    starts = list(range(0, count, step))
    if len(starts) > 1 and count - starts[-1] == 1 and step > 2:
        starts[-1] -= 1
    return list(pairwise([*starts, count]))


def check_compiler(compiler: str | None, objective: Objective) -> None:
    """Check that this backend of torch.compile exists and can compile the objective.

    Raises:
        RecipeError: It does not or cannot.
    """
    if compiler and not objective.one_backward:
        raise RecipeError(
            "--compile: this objective runs a backward pass for each exit, which cannot be "
            "compiled; leave the option out"
        )
    if compiler and compiler not in (known := torch.compiler.list_backends(exclude_tags=())):
        raise RecipeError(f"--compile: {compiler!r} is not one of {', '.join(known)}")


def _prepared(losses: Losses, size: int, compiler: str | None) -> nn.Module:
    """Return the module compiled, and distributed over all processes."""
    unused = processes() > 1 and _unused(losses, size)
    if compiler:
        losses.compile(backend=compiler)
    if processes() == 1 or not losses.objective.one_backward:
        return losses
    # DDP around the compiled module, so that the graph is whole
    return DistributedDataParallel(losses, find_unused_parameters=unused, **OWN_BUFFERS)


def _unused(losses: Losses, size: int) -> bool:
    """Return True if a parameter has no influence on any loss."""
    device = next(losses.network.parameters()).device
    images = torch.zeros(2, 3, size, size, device=device)
    targets = torch.zeros(2, dtype=torch.int64, device=device)
    parameters = [p for p in losses.parameters() if p.requires_grad]
    found = torch.autograd.grad(losses.eval()(images, targets).sum(), parameters, allow_unused=True)
    return any(gradient is None for gradient in found)
