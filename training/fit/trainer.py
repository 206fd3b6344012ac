"""The training loop: an epoch, an evaluation, a checkpoint, until the recipe is done.

Every source of chance is seeded from the recipe's seed, the epoch and the step, so a run that
was interrupted goes on exactly as if it had not been. On several processes each step is that of
one process, but for batch norm's statistics (`training.distributed`), the masks of dropout, and
rounding.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from training.data.batches import new_feed
from training.data.datasets import Dataset
from training.data.images import ImageFiles, Images
from training.distributed import average, average_statistics, rank, same_everywhere, total
from training.errors import CheckpointError, DivergedError
from training.fit.checkpoint import (
    Checkpoint,
    Epoch,
    Progress,
    Running,
    load_checkpoint,
    save_checkpoint,
)
from training.fit.gradient import Gradient
from training.fit.initial import initial_network, initial_optimizers
from training.fit.optimizers import lr_factor
from training.networks.predict import predict
from training.objectives import build_objective

Track = Callable[[Iterable[Images], int], Iterable[Images]]
# Given the number of steps so far, a step's loss [] (this process's share) and learning rate.
OnStep = Callable[[int, Tensor, float], None]


def unwatched(_steps: int, _loss: Tensor, _lr: float) -> None:
    """An OnStep that does nothing."""


class Trainer:
    """Owner of a run's state: the network, its optimizers and the epochs done.

    Args:
        progress: where to start; its recipe decides everything.
        dataset: the images, in memory or on disk.
        device: where to compute.
        workers: processes that decode images on disk (0: none beside this).
        compiler: torch.compile's backend; None: not compiled.

    Raises:
        RecipeError: the network cannot read images of the recipe's size, or an option does not
            go with the others.
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
        self._feed = new_feed(recipe, dataset.train, dataset.held_out, device, workers)
        network = initial_network(recipe, len(dataset.labels), self._feed.sample())
        objective = build_objective(
            recipe.objective, recipe.objective_options, network, recipe.label_smoothing
        )
        self.network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.objective = objective.to(device)
        self.device = device
        self._gradient = Gradient(
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
        """Go on from a checkpoint of the same recipe and the same images.

        Raises:
            CheckpointError: it is of another recipe or of other images, or does not fit.
        """
        checkpoint.progress.check_same_run(self.progress)
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
    def steps_done(self) -> int:
        """Steps of all epochs so far."""
        return len(self.progress.epochs) * self._feed.steps + self.progress.running.steps

    @property
    def done(self) -> bool:
        """Whether every epoch of the recipe has been run."""
        return len(self.progress.epochs) >= self.progress.recipe.epochs

    def run_epoch(
        self,
        track: Track,
        on_step: OnStep = unwatched,
        save: Callable[[], None] | None = None,
        save_every: int | None = None,
    ) -> Epoch:
        """Train one epoch, or what is left of it, and evaluate every exit on the held-out images.

        Args:
            track: sees the batches go by.
            on_step: sees what comes of each.
            save: called after every `save_every` steps.
            save_every: None: never.

        Raises:
            DivergedError: the loss, or a gradient, is not finite.
        """
        before, steps = self.progress.running, self._feed.steps
        number, start = len(self.progress.epochs), time.perf_counter() - before.seconds
        self.network.train()
        loss = torch.tensor(before.loss, device=self.device)
        batches = self._feed.epoch(number, before.steps)
        for done, images in enumerate(track(batches, steps - before.steps), before.steps + 1):
            loss += self._step(images, number, done, on_step)
            if save and save_every and done % save_every == 0 and done < steps:
                self._pause(done, loss, time.perf_counter() - start)
                save()
        trained = time.perf_counter() - start
        average_statistics(self.network)
        epoch = Epoch(
            number=number + 1,
            loss=self._mean(loss) / steps,
            accuracies=self._evaluate(),
            seconds=time.perf_counter() - start,
            images_per_second=self._feed.images_in_epoch / trained,
        )
        self.progress = self.progress.model_copy(
            update={"epochs": (*self.progress.epochs, epoch), "running": Running()}
        )
        return epoch

    def _step(self, images: Images, epoch: int, done: int, on_step: OnStep) -> Tensor:
        recipe, steps = self.progress.recipe, self._feed.steps
        # dropout: another mask on each process
        chance = np.random.SeedSequence((recipe.seed, epoch, done, rank()))
        torch.manual_seed(int(chance.generate_state(1)[0]))
        small = recipe.small_size if epoch < recipe.small_epochs else None
        self._optimizers.zero_grad()
        loss = self._gradient.add(images, small or recipe.size)
        share_done = (epoch + (done - 1) / steps) / recipe.epochs
        factor = lr_factor(recipe.schedule, share_done, recipe.warmup, recipe.milestones)
        self._optimizers.step(factor)
        on_step(epoch * steps + done, loss, factor * recipe.lr)
        return loss

    def _pause(self, done: int, loss: Tensor, seconds: float) -> None:
        """Take down where the running epoch stands, for a checkpoint."""
        average_statistics(self.network)
        running = Running(steps=done, loss=self._mean(loss), seconds=seconds)
        self.progress = self.progress.model_copy(update={"running": running})

    def _mean(self, loss: Tensor) -> float:
        """A loss of the running epoch over all processes, if it is a number."""
        average(mean := loss.clone())
        if not torch.isfinite(mean):
            epoch = len(self.progress.epochs) + 1
            raise DivergedError(f"lr: the loss of epoch {epoch} is not finite; lower it")
        return float(mean)

    def _evaluate(self) -> tuple[float, ...]:
        """Accuracy of each exit; every process sees its share of the images."""
        right = torch.zeros(self.network.exits, dtype=torch.int64, device=self.device)
        for images in self._feed.held_out():
            logits = predict(self.network, images.pixels)
            right += (logits.argmax(-1) == images.targets).sum(-1)
        shares: list[float] = (total(right).double() / self._feed.held_out_images).tolist()
        return tuple(shares)


def fit(
    trainer: Trainer,
    path: Path,
    *,
    resume: bool,
    track: Track,
    report: Callable[[Epoch], None],
    on_step: OnStep = unwatched,
    save_every: int | None = None,
) -> None:
    """Run a recipe to its end, with a checkpoint at `path` after every epoch.

    Args:
        trainer: the run.
        path: of the checkpoint, the same file for all processes; the first of them writes it.
        resume: go on where the checkpoint stands, if there is one.
        track: sees the batches go by.
        report: sees what an epoch came to.
        on_step: sees what a step came to.
        save_every: steps after which there is a checkpoint within an epoch, too.

    Raises:
        CheckpointError: `resume` and the file is damaged, of another recipe, or not seen by all
            processes; or not `resume` and there is already a run, which would be overwritten.
    """
    if path.exists() and not resume:
        raise CheckpointError(
            f"{path}: there is a run already; add --resume or choose another --out"
        )
    if path.exists():
        trainer.restore(load_checkpoint(path))
    if not same_everywhere(trainer.steps_done, trainer.device):
        raise CheckpointError(f"{path}: not all processes see the same file; they must share it")

    def save() -> None:
        if rank() == 0:
            save_checkpoint(path, trainer.checkpoint())

    while not trainer.done:
        epoch = trainer.run_epoch(track, on_step, save, save_every)
        save()
        report(epoch)
