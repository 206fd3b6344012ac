"""The training loop: an epoch, an evaluation, a checkpoint, until the recipe is done.

Every source of chance in an epoch is seeded from the recipe's seed and the epoch's number, so
a run that was interrupted goes on exactly as if it had not been.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor

from training.augment import Augment, shrink
from training.checkpoint import (
    Checkpoint,
    Epoch,
    Progress,
    load_checkpoint,
    new_network,
    save_checkpoint,
)
from training.data import Dataset
from training.errors import CheckpointError, DivergedError, RecipeError
from training.evaluate import exit_accuracies, predict
from training.network import MultiExitNetwork, Normalize
from training.objectives import build_objective
from training.optimizers import Optimizers, lr_factor

Track = Callable[[Iterable[Tensor], int], Iterable[Tensor]]


class Trainer:
    """Owner of a run's state: the network, its optimizers and the epochs done.

    Args:
        progress: where to start; its recipe decides everything.
        dataset: the images.
        device: where to compute.

    Raises:
        RecipeError: the network cannot read images of the recipe's size.
    """

    def __init__(self, progress: Progress, dataset: Dataset, device: torch.device) -> None:
        recipe = progress.recipe
        torch.manual_seed(recipe.seed)
        network = new_network(recipe, len(dataset.labels))
        for size in {recipe.size, recipe.small_size or recipe.size}:
            _check_size(network, size)
        _set_statistics(network.normalize, dataset.train.pixels)
        self.progress = progress
        objective = build_objective(
            recipe.objective, recipe.objective_options, network, recipe.label_smoothing
        )
        self.network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.objective = objective.to(device)
        self._train = dataset.train.to(device)
        self._held_out = dataset.held_out.to(device)
        self._device = device
        self._augment = Augment(recipe.shift, recipe.flip, recipe.cutout)
        self._optimizers = Optimizers(
            [*self.network.parameters(), *self.objective.parameters()],
            recipe.optimizer,
            lr=recipe.lr,
            muon_lr=recipe.muon_lr,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint of the same recipe and the same images.

        Raises:
            CheckpointError: it is of another recipe or of other images, or does not fit.
        """
        if checkpoint.progress.fingerprint != self.progress.fingerprint:
            raise CheckpointError("data: the run to resume was of other images, labels or split")
        theirs, ours = checkpoint.progress.recipe, self.progress.recipe
        for field in type(ours).model_fields:
            if getattr(theirs, field) != getattr(ours, field):
                raise CheckpointError(
                    f"{field}: the run to resume has {getattr(theirs, field)}, this one "
                    f"{getattr(ours, field)}; resume with the same options or start elsewhere"
                )
        try:
            self.network.load_state_dict(checkpoint.weights)
            self.objective.load_state_dict(checkpoint.objective)
            self._optimizers.load(checkpoint.optimizers)
        except (RuntimeError, KeyError) as error:
            raise CheckpointError(f"the checkpoint does not fit its recipe: {error}") from error
        self.progress = checkpoint.progress

    def checkpoint(self) -> Checkpoint:
        """The run as it stands."""
        return Checkpoint(
            self.progress,
            self.network.state_dict(),
            self.objective.state_dict(),
            self._optimizers.state(),
        )

    @property
    def done(self) -> bool:
        """Whether every epoch of the recipe has been run."""
        return len(self.progress.epochs) >= self.progress.recipe.epochs

    def run_epoch(self, track: Track) -> Epoch:
        """Train one epoch and evaluate every exit on the held-out images.

        Raises:
            DivergedError: the loss is not finite.
        """
        start, recipe, epoch = time.perf_counter(), self.progress.recipe, len(self.progress.epochs)
        rng = torch.Generator(self._device).manual_seed(recipe.seed * 1_000_003 + epoch)
        torch.manual_seed(recipe.seed * 1_000_003 + epoch)  # dropout
        order = torch.randperm(len(self._train), generator=rng, device=self._device)
        steps = max(1, len(order) // recipe.batch_size)
        batches = torch.split(order, recipe.batch_size)[:steps]
        self.network.train()
        total = torch.zeros((), device=self._device)
        for step, indices in enumerate(track(batches, steps)):
            progress = (epoch + step / steps) / recipe.epochs
            total += self._step(indices, epoch, rng, progress)
        if not torch.isfinite(total):
            raise DivergedError(f"lr: the loss of epoch {epoch + 1} is not finite; lower it")
        accuracies = exit_accuracies(
            predict(self.network, self._held_out.pixels), self._held_out.targets
        )
        done = Epoch(
            number=epoch + 1,
            loss=float(total) / steps,
            accuracies=accuracies,
            seconds=time.perf_counter() - start,
        )
        self.progress = self.progress.model_copy(update={"epochs": (*self.progress.epochs, done)})
        return done

    def _step(self, indices: Tensor, epoch: int, rng: torch.Generator, progress: float) -> Tensor:
        recipe = self.progress.recipe
        batch = self._train.select(indices)
        images = self.network.normalize(self._augment(batch.pixels, indices, epoch, rng))
        if recipe.small_size and epoch < recipe.small_epochs:
            images = shrink(images, recipe.small_size)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
            losses: Tensor = self.objective(self.network(images), batch.targets)
        self._optimizers.zero_grad()
        self.objective.backward(losses, self.network)
        self._optimizers.step(lr_factor(recipe.schedule, progress, recipe.warmup))
        return losses.detach().sum()


def fit(
    trainer: Trainer, path: Path, *, resume: bool, track: Track, report: Callable[[Epoch], None]
) -> None:
    """Run a recipe to its end, with a checkpoint at `path` after every epoch.

    Raises:
        CheckpointError: `resume` and the file is damaged or of another recipe; or not `resume`
            and there is already a run, which would be overwritten.
    """
    if path.exists() and not resume:
        raise CheckpointError(
            f"{path}: there is a run already; add --resume or choose another --out"
        )
    if path.exists():
        trainer.restore(load_checkpoint(path))
    while not trainer.done:
        epoch = trainer.run_epoch(track)
        save_checkpoint(path, trainer.checkpoint())
        report(epoch)


@torch.no_grad()
def _check_size(network: MultiExitNetwork, size: int) -> None:
    try:
        network.eval()(torch.zeros(1, 3, size, size))
    except RuntimeError as error:
        raise RecipeError(f"size: this network cannot read {size} x {size} pixels") from error


def _set_statistics(normalize: Normalize, pixels: Tensor) -> None:
    """Mean and deviation of each channel over (at most 10,000 of) the training images."""
    total, squares = torch.zeros(2, 3, dtype=torch.float64)
    count = 0
    for chunk in torch.split(pixels[:10_000], 500):
        values = chunk.to(torch.float64).div(255).flatten(0, 2)
        total += values.sum(0)
        squares += values.square().sum(0)
        count += len(values)
    mean = total / count
    # a channel that never changes must not be divided by 0
    std = (squares / count - mean.square()).clamp(min=255**-2).sqrt()
    normalize.mean.copy_(mean)
    normalize.std.copy_(std)
