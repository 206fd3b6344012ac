"""The training loop: an epoch, an evaluation, a checkpoint, until the recipe is finished.

All randomness is seeded from the recipe's seed, the epoch and the step, so a resumed run ends
exactly like an uninterrupted one. Several processes compute the same steps as one, except for batch
norm's statistics (`training.distributed`), the masks of dropout, and rounding.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from training.data.batches import new_batches
from training.data.datasets import Dataset
from training.data.images import ImageFiles, Images
from training.distributed import (
    average_over_processes,
    average_statistics,
    equal_on_all_processes,
    rank,
    sum_over_processes,
)
from training.errors import CheckpointError, DivergedError
from training.fit.checkpoint import (
    Checkpoint,
    Epoch,
    PartialEpoch,
    Progress,
    load_checkpoint,
    save_checkpoint,
)
from training.fit.gradient import GradientAccumulator
from training.fit.initial import initial_network, initial_optimizers
from training.fit.optimizers import lr_factor
from training.fit.same_run import check_same_run
from training.networks.predict import predict
from training.objectives import build_objective

Track = Callable[[Iterable[Images], int], Iterable[Images]]
# Arguments: the number of steps so far, the step's loss [] on this process, its learning rate.
OnStep = Callable[[int, Tensor, float], None]


def ignore_step(_steps: int, _loss: Tensor, _lr: float) -> None:
    """Do nothing after a step."""


class Trainer:
    """Owner of a run's state: the network, the optimizers and the finished epochs.

    Args:
        progress: start of the run. Its recipe decides everything.
        dataset: images, in memory or on disk.
        device: device to compute on.
        workers: processes that decode images on disk (0: this process decodes them).
        compiler: backend of torch.compile. `None`: not compiled.

    Raises:
        RecipeError: the network cannot read images of that size, or options exclude each other.
    """

    def __init__(
        self,
        progress: Progress,
        dataset: Dataset[Images] | Dataset[ImageFiles],
        device: torch.device,
        *,
        workers: int = 0,
        compiler: str | None = None,
    ) -> None:
        recipe = progress.recipe
        self.progress = progress
        self._batches = new_batches(recipe, dataset.train, dataset.held_out, device, workers)
        network = initial_network(recipe, len(dataset.labels), self._batches.sample())
        objective = build_objective(
            recipe.objective, recipe.objective_options, network, recipe.label_smoothing
        )
        self.network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.objective = objective.to(device)
        self.device = device
        self._gradient = GradientAccumulator(
            self.network,
            self.objective,
            size=recipe.size,
            bf16=recipe.precision == "bf16",
            micro_batch=recipe.micro_batch,
            compiler=compiler,
        )
        parameters = [*self.network.parameters(), *self.objective.parameters()]
        self._optimizers = initial_optimizers(recipe, parameters)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Restore a checkpoint of the same recipe and the same images.

        Raises:
            CheckpointError: the recipe or the images differ, or the weights do not fit.
        """
        check_same_run(checkpoint.progress, self.progress)
        try:
            self.network.load_state_dict(checkpoint.weights)
            self.objective.load_state_dict(checkpoint.objective)
            self._optimizers.load(checkpoint.optimizers)
        except (RuntimeError, KeyError) as error:
            raise CheckpointError(f"the checkpoint does not fit its recipe: {error}") from error
        # the images can have moved
        recipe = checkpoint.progress.recipe.model_copy(update={"data": self.progress.recipe.data})
        self.progress = checkpoint.progress.model_copy(update={"recipe": recipe})

    def checkpoint(self) -> Checkpoint:
        """Return the current state of the run."""
        return Checkpoint(
            self.progress,
            self.network.state_dict(),
            self.objective.state_dict(),
            self._optimizers.state(),
        )

    @property
    def steps_done(self) -> int:
        """Number of steps so far, in all epochs."""
        return len(self.progress.epochs) * self._batches.steps + self.progress.running.steps

    @property
    def done(self) -> bool:
        """True if every epoch of the recipe is finished."""
        return len(self.progress.epochs) >= self.progress.recipe.epochs

    def run_epoch(
        self,
        track: Track,
        on_step: OnStep = ignore_step,
        save: Callable[[], None] | None = None,
        save_every: int | None = None,
    ) -> Epoch:
        """Train the rest of an epoch, then evaluate every exit on the held-out images.

        Args:
            track: wrapper of the batches, for a progress bar.
            on_step: callback after each step.
            save: callback after every `save_every` steps.
            save_every: number of steps. `None`: no callback.

        Raises:
            DivergedError: the loss, or a gradient, is not finite.
        """
        before, steps = self.progress.running, self._batches.steps
        number, start = len(self.progress.epochs), time.perf_counter() - before.seconds
        self.network.train()
        loss = torch.tensor(before.loss, device=self.device)
        batches = self._batches.epoch(number, before.steps)
        for done, images in enumerate(track(batches, steps - before.steps), before.steps + 1):
            loss += self._step(images, number, done, on_step)
            if save and save_every and done % save_every == 0 and done < steps:
                self._record_partial_epoch(done, loss, time.perf_counter() - start)
                save()
        trained = time.perf_counter() - start
        average_statistics(self.network)
        epoch = Epoch(
            number=number + 1,
            loss=self._mean(loss) / steps,
            accuracies=self._evaluate(),
            seconds=time.perf_counter() - start,
            images_per_second=self._batches.images_in_epoch / trained,
        )
        self.progress = self.progress.model_copy(
            update={"epochs": (*self.progress.epochs, epoch), "running": PartialEpoch()}
        )
        return epoch

    def _step(self, images: Images, epoch: int, done: int, on_step: OnStep) -> Tensor:
        recipe, steps = self.progress.recipe, self._batches.steps
        # each process has its own masks of dropout
        seeds = np.random.SeedSequence((recipe.seed, epoch, done, rank()))
        torch.manual_seed(int(seeds.generate_state(1)[0]))
        small = recipe.small_size if epoch < recipe.small_epochs else None
        self._optimizers.zero_grad()
        loss = self._gradient.add(images, small or recipe.size)
        share_done = (epoch + (done - 1) / steps) / recipe.epochs
        factor = lr_factor(recipe.schedule, share_done, recipe.warmup, recipe.milestones)
        self._optimizers.step(factor)
        on_step(epoch * steps + done, loss, factor * recipe.lr)
        return loss

    def _record_partial_epoch(self, done: int, loss: Tensor, seconds: float) -> None:
        """Record the state of the current epoch, for a checkpoint."""
        average_statistics(self.network)
        running = PartialEpoch(steps=done, loss=self._mean(loss), seconds=seconds)
        self.progress = self.progress.model_copy(update={"running": running})

    def _mean(self, loss: Tensor) -> float:
        """Average a loss over all processes, or raise DivergedError if it is not finite."""
        average_over_processes(mean := loss.clone())
        if not torch.isfinite(mean):
            epoch = len(self.progress.epochs) + 1
            raise DivergedError(f"lr: the loss of epoch {epoch} is not finite; lower it")
        return float(mean)

    def _evaluate(self) -> tuple[float, ...]:
        """Compute the accuracy of each exit. Every process evaluates its shard of the images."""
        right = torch.zeros(self.network.exits, dtype=torch.int64, device=self.device)
        for images in self._batches.held_out():
            logits = predict(self.network, images.pixels)
            right += (logits.argmax(-1) == images.targets).sum(-1)
        right = sum_over_processes(right)
        accuracies: list[float] = (right.double() / self._batches.held_out_images).tolist()
        return tuple(accuracies)


def fit(
    trainer: Trainer,
    path: Path,
    *,
    resume: bool,
    track: Track,
    report: Callable[[Epoch], None],
    on_step: OnStep = ignore_step,
    save_every: int | None = None,
) -> None:
    """Run a recipe to its end, with a checkpoint at `path` after every epoch.

    Args:
        trainer: trainer of the run.
        path: file of the checkpoint, the same for all processes. Rank 0 writes it.
        resume: True to continue from the checkpoint if the file exists.
        track: wrapper of the batches, for a progress bar.
        report: callback after each epoch.
        on_step: callback after each step.
        save_every: number of steps between checkpoints within an epoch. `None`: only after epochs.

    Raises:
        CheckpointError: with `resume`, the file is damaged, of another recipe, or different among
            processes. Without, the file exists.
        UnwritableFileError: the checkpoint cannot be written. The one before it stays.
    """
    if path.exists() and not resume:
        raise CheckpointError(f"{path}: the run exists; add --resume or choose another --out")
    if path.exists():
        trainer.restore(load_checkpoint(path))
    if not equal_on_all_processes(trainer.steps_done, trainer.device):
        raise CheckpointError(f"{path}: processes see different files; they must share a folder")

    def save() -> None:
        if rank() == 0:
            save_checkpoint(path, trainer.checkpoint())

    while not trainer.done:
        epoch = trainer.run_epoch(track, on_step, save, save_every)
        save()
        report(epoch)
