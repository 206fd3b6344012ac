"""The trainer: the steps of an epoch, its evaluation, and the state of a run.

All randomness is seeded from the recipe's seed, the epoch and the step, so a resumed run ends
exactly like an uninterrupted one. Several processes compute the same steps as one, except for batch
norm's statistics (`training.distributed`), the masks of dropout, and rounding.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor

from training.data.augment import new_mixup
from training.data.batches import Batches, new_batches
from training.data.datasets import Dataset
from training.data.images import ImageFiles, Images
from training.distributed import (
    average_over_processes,
    average_statistics,
    rank,
    sum_over_processes,
)
from training.errors import CheckpointError, DivergedError
from training.fit.checkpoint import (
    Checkpoint,
    Epoch,
    PartialEpoch,
    Progress,
)
from training.fit.early_stop import is_exhausted
from training.fit.exported import exported_weights, on_device
from training.fit.features.batches import FeatureBatches, FeatureSets
from training.fit.features.reader import feature_reader
from training.fit.frozen import start_training
from training.fit.gradient import GradientAccumulator
from training.fit.initial import initial_network, initial_objective, initial_optimizers
from training.fit.optimizers import lr_factor
from training.fit.same_run import check_same_run
from training.networks.multi_exit import MultiExitNetwork
from training.networks.predict import predict
from training.networks.weights import Pretrained
from training.objectives.class_weights import class_weights

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
        pretrained: weights to start from. `None`: fresh ones.
        features: features of the frozen trunk for all images, which are read instead of the images.

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
        pretrained: Pretrained | None = None,
        features: FeatureSets | None = None,
    ) -> None:
        recipe = progress.recipe
        self.progress = progress
        self._layout = features.layout if features else None
        self._batches: Batches
        if features:
            self._batches = FeatureBatches(recipe, features, device)
        else:
            self._batches = new_batches(recipe, dataset.train, dataset.held_out, device, workers)
        sample = None if recipe.weights else self._batches.sample()
        network = initial_network(recipe, len(dataset.labels), sample, pretrained)
        targets = features.train.targets if features else dataset.train.targets
        of_classes = class_weights(recipe.class_weights, targets, len(dataset.labels))
        objective = initial_objective(recipe, network, of_classes)
        self._mixup = new_mixup(recipe, len(dataset.labels), len(dataset.train))
        self.network = on_device(network, device)
        self.objective = objective.to(device)
        self.device = device
        self._exported = exported_weights(recipe, self.network, len(dataset.labels))
        self._trained = self._reading(self.network)
        self._gradient = GradientAccumulator(
            self._trained,
            self.objective,
            size=recipe.size,
            bf16=recipe.precision == "bf16",
            micro_batch=recipe.micro_batch,
            compiler=compiler,
        )
        self._optimizers = initial_optimizers(recipe, self.network, self.objective)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Restore a checkpoint of the same recipe and the same images.

        Raises:
            CheckpointError: the recipe or the images differ, or the weights do not fit.
        """
        check_same_run(checkpoint.progress, self.progress)
        try:
            self._exported.load(checkpoint)
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
            self._exported.weights(),
            self.objective.state_dict(),
            self._optimizers.state(),
            self._exported.training_state(),
        )

    def exported_network(self) -> MultiExitNetwork:
        """Return a network with the weights to export, on the device of the run."""
        if not self._exported.training_state():
            return self.network
        return on_device(self.checkpoint().network(), self.device)

    @property
    def steps_done(self) -> int:
        """Number of steps so far, in all epochs."""
        return len(self.progress.epochs) * self._batches.steps + self.progress.running.steps

    @property
    def done(self) -> bool:
        """True if every epoch of the recipe is finished, or the run stops early."""
        epochs, recipe = self.progress.epochs, self.progress.recipe
        return len(epochs) >= recipe.epochs or is_exhausted(epochs, recipe.patience)

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
        start_training(self._trained, self.progress.recipe)
        loss = torch.tensor(before.loss, device=self.device)
        batches = self._batches.epoch(number, before.steps)
        for done, images in enumerate(track(batches, steps - before.steps), before.steps + 1):
            loss += self._step(images, number, done, on_step)
            if save and save_every and done % save_every == 0 and done < steps:
                self._record_partial_epoch(done, loss, time.perf_counter() - start)
                save()
        trained = time.perf_counter() - start
        average_statistics(*self._exported.networks)
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
        self._exported.after_epoch(self.progress.epochs)
        return epoch

    def _step(self, images: Images, epoch: int, done: int, on_step: OnStep) -> Tensor:
        recipe, steps = self.progress.recipe, self._batches.steps
        # each process has its own masks of dropout
        seeds = np.random.SeedSequence((recipe.seed, epoch, done, rank()))
        torch.manual_seed(int(seeds.generate_state(1)[0]))
        small = recipe.small_size if epoch < recipe.small_epochs else None
        share_done = (epoch + (done - 1) / steps) / recipe.epochs
        self.objective.start_step(share_done)
        self._optimizers.zero_grad()
        if self._mixup:
            images = self._mixup(images, epoch, done)
        loss = self._gradient.add(images, None if self._layout else small or recipe.size)
        factor = lr_factor(recipe.schedule, share_done, recipe.warmup, recipe.milestones)
        self._optimizers.step(factor)
        self._exported.after_step(epoch * steps + done)
        on_step(epoch * steps + done, loss, factor * recipe.lr)
        return loss

    def _reading(self, network: MultiExitNetwork) -> MultiExitNetwork:
        """Return a network with the same heads that reads what a batch has: pixels or features."""
        return feature_reader(network, self._layout) if self._layout else network

    def _record_partial_epoch(self, done: int, loss: Tensor, seconds: float) -> None:
        """Record the state of the current epoch, for a checkpoint."""
        average_statistics(*self._exported.networks)
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
        network = self._reading(self._exported.evaluated)
        for images in self._batches.held_out():
            logits = predict(network, images.pixels)
            right += (logits.argmax(-1) == images.targets).sum(-1)
        right = sum_over_processes(right)
        accuracies: list[float] = (right.double() / self._batches.held_out_images).tolist()
        return tuple(accuracies)
