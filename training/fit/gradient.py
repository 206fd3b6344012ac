"""How a batch becomes gradients: precision, micro-batches, several processes, compilation."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from inspect import signature
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

# Not to overwrite buffers by the first process's in every step; torch 2.13 renamed it.
_named = signature(DistributedDataParallel).parameters
OWN_BUFFERS: dict[str, Any] = {
    ("forward_sync_buffers" if "forward_sync_buffers" in _named else "broadcast_buffers"): False
}


class Losses(nn.Module):
    """Network and objective as one, so that what is done to one is done to both."""

    def __init__(self, network: MultiExitNetwork, objective: Objective) -> None:
        super().__init__()
        self.network = network
        self.objective = objective

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        """Normalised images [N, 3, H, W] and int64 [N] to the loss of each exit, [exits]."""
        losses: Tensor = self.objective(self.network(images), targets)
        return losses


class Gradient:
    """Gives every parameter the gradient of a batch, averaged over all processes.

    Args:
        network: what is trained.
        objective: what is minimised.
        size: height and width of the images, in pixels.
        bf16: whether the forward pass is in bfloat16 where that is safe.
        micro_batch: most images in one forward pass; None: no bound.
        compiler: torch.compile's backend; None: not compiled.

    Raises:
        RecipeError: `compiler` is unknown, or the objective takes a gradient for each exit.
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
        if compiler and not objective.one_backward:
            raise RecipeError(
                "--compile: a compiled backward pass cannot stop at each exit's own stages, as "
                "this objective needs; leave it out"
            )
        if compiler and compiler not in (known := torch.compiler.list_backends(exclude_tags=())):
            raise RecipeError(f"--compile: {compiler!r} is not one of {', '.join(known)}")
        self._network, self._objective = network, objective
        self._bf16, self._micro_batch = bf16, micro_batch
        self._device = next(network.parameters()).device
        losses = Losses(network, objective)
        unused = processes() > 1 and _unused(losses, size, self._device)
        if compiler:
            losses.compile(backend=compiler)
        self._losses: nn.Module = losses
        if processes() > 1 and objective.one_backward:
            # compiled inside, not outside, so that the graph is whole
            self._losses = DistributedDataParallel(
                self._losses, find_unused_parameters=unused, **OWN_BUFFERS
            )

    def add(self, images: Images, size: int) -> Tensor:
        """Add the gradient of this process's share of a batch to that of every parameter.

        Micro-batches count by their images, so the gradient is the whole batch's, but for what
        batch norm or an objective make of the batch as such (distillation's hint).

        Args:
            images: the share.
            size: to which images are shrunk, in pixels.

        Returns:
            The share's loss, summed over exits, [].
        """
        count = len(images)
        pieces = torch.arange(count).split(self._micro_batch or count)
        loss = torch.zeros((), device=self._device)
        for i, piece in enumerate(pieces, 1):
            start, end = int(piece[0]), int(piece[-1]) + 1
            part = Images(images.pixels[start:end], images.targets[start:end])
            loss += self._add(part, size, (end - start) / count, last=i == len(pieces))
        return loss

    def _add(self, images: Images, size: int, weight: float, *, last: bool) -> Tensor:
        pixels = shrink(self._network.normalize(images.pixels), size)
        with self._averaged(last):
            with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
                losses: Tensor = self._losses(pixels, images.targets)
            losses = losses * weight
            self._objective.backward(losses, self._network, last=last)
        return losses.detach().sum()

    def _averaged(self, last: bool) -> AbstractContextManager[None]:  # noqa: FBT001
        """Where gradients are averaged: in the last backward pass of a step, which has them all."""
        if last or not isinstance(self._losses, DistributedDataParallel):
            return nullcontext()
        waiting: AbstractContextManager[None] = self._losses.no_sync()
        return waiting


def _unused(losses: Losses, size: int, device: torch.device) -> bool:
    """Whether some parameter has no influence on any loss."""
    images = torch.zeros(2, 3, size, size, device=device)
    targets = torch.zeros(2, dtype=torch.int64, device=device)
    parameters = [p for p in losses.parameters() if p.requires_grad]
    found = torch.autograd.grad(losses.eval()(images, targets).sum(), parameters, allow_unused=True)
    return any(gradient is None for gradient in found)
