"""The trainer: the steps of an epoch, its evaluation, and the state of a run.

All randomness is seeded from the recipe's seed, the epoch and the step, so a resumed run ends
exactly like an uninterrupted one. Several processes compute the same steps as one, except for batch
norm's statistics (`training.distributed`), the masks of dropout, and rounding.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from training.data.augment import Mixup, new_mixup
from training.data.datasets import Dataset
from training.data.images import ImageFiles, Images
from training.distributed import average_over_processes, average_statistics, sum_over_processes
from training.errors import CheckpointError, DivergedError
from training.fit.checkpoint import Checkpoint, Epoch, PartialEpoch, Progress
from training.fit.early_stop import is_exhausted
from training.fit.exported import exported_weights, on_device
from training.fit.features.batches import FeatureSets, run_batches
from training.fit.features.reader import feature_reader
from training.fit.frozen import start_training
from training.fit.initial import initial_network, initial_objective, initial_optimizers
from training.fit.same_run import check_same_run
from training.fit.step.gradient import GradientAccumulator
from training.fit.step.step import Step, factor_at
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
        progress: Start of the run. Its recipe decides everything.
        dataset: Images, in memory or on disk.
        device: Device to compute on.
        workers: Processes that decode images on disk (0: this process decodes them).
        compiler: Backend of torch.compile. `None`: not compiled.
        pretrained: Weights to start from. `None`: fresh ones.
        features: Features of the frozen trunk for all images, which are read instead of the images.

    Raises:
        RecipeError: The network cannot read images of that size, or options exclude each other.
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
        recipe, classes = progress.recipe, len(dataset.labels)
        self.progress, self.device = progress, device
        self._layout = features.layout if features else None
        self._batches = run_batches(recipe, dataset, features, device, workers)
        sample = None if recipe.weights else self._batches.sample()
        network = initial_network(recipe, classes, sample, pretrained)
        targets = features.train.targets if features else dataset.train.targets
        of_classes = class_weights(recipe.class_weights, targets, classes)
        objective = initial_objective(recipe, network, of_classes)
        mixup = new_mixup(recipe, classes, len(dataset.train))
        self.network = on_device(network, device)
        self.objective = objective.to(device)
        self._exported = exported_weights(recipe, self.network, classes)
        self._trained = self._reading(self.network)
        self._step = self._new_step(mixup, compiler)

    def _new_step(self, mixup: Mixup | None, compiler: str | None) -> Step:
        recipe = self.progress.recipe
        gradient = GradientAccumulator(
            self._trained,
            self.objective,
            size=recipe.size,
            bf16=recipe.precision == "bf16",
            micro_batch=recipe.micro_batch,
            compiler=compiler,
        )
        optimizers = initial_optimizers(recipe, self.network, self.objective)
        return Step(self.objective, gradient, optimizers, mixup, self._layout is not None)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Restore a checkpoint of the same recipe and the same images.

        Raises:
            CheckpointError: The recipe or the images differ, or the weights do not fit.
        """
        check_same_run(checkpoint.progress, self.progress)
        try:
            self._exported.load(checkpoint)
            self.objective.load_state_dict(checkpoint.objective)
            self._step.optimizers.load(checkpoint.optimizers)
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
            self._step.optimizers.state(),
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
        return self._epochs_done * self._batches.steps + self.progress.running.steps

    @property
    def _epochs_done(self) -> int:
        return len(self.progress.epochs)

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
            track: Wrapper of the batches, for a progress bar.
            on_step: Callback after each step.
            save: Callback after every `save_every` steps.
            save_every: Number of steps. `None`: no callback.

        Raises:
            DivergedError: The loss, or a gradient, is not finite.
        """
        start = time.perf_counter() - self.progress.running.seconds

        def between_steps(done: int, loss: Tensor) -> None:
            if save and save_every and done % save_every == 0:
                self._record_partial_epoch(done, loss, time.perf_counter() - start)
                save()

        return self._finish_epoch(self._train_rest(track, on_step, between_steps), start)

    def _train_rest(
        self, track: Track, on_step: OnStep, between_steps: Callable[[int, Tensor], None]
    ) -> Tensor:
        """Train the rest of an epoch, and return the sum of the losses [] of all its steps."""
        before, steps = self.progress.running, self._batches.steps
        start_training(self._trained, self.progress.recipe)
        loss = torch.tensor(before.loss, device=self.device)
        batches = self._batches.epoch(self._epochs_done, before.steps)
        for done, images in enumerate(track(batches, steps - before.steps), before.steps + 1):
            loss += self._train_on(images, done, on_step)
            if done < steps:
                between_steps(done, loss)
        return loss

    def _finish_epoch(self, loss: Tensor, start: float) -> Epoch:
        """Evaluate every exit, and record an epoch that started at `start` with that sum []."""
        trained = time.perf_counter() - start
        average_statistics(*self._exported.networks)
        epoch = Epoch(
            number=self._epochs_done + 1,
            loss=self._mean(loss) / self._batches.steps,
            accuracies=self._evaluate(),
            seconds=time.perf_counter() - start,
            images_per_second=self._batches.images_in_epoch / trained,
        )
        self.progress = self.progress.model_copy(
            update={"epochs": (*self.progress.epochs, epoch), "running": PartialEpoch()}
        )
        self._exported.after_epoch(self.progress.epochs)
        return epoch

    def _train_on(self, images: Images, done: int, on_step: OnStep) -> Tensor:
        """Train on the batch of a step of the current epoch (from 1), and return its loss []."""
        recipe, epoch, steps = self.progress.recipe, self._epochs_done, self._batches.steps
        share_done = (epoch + (done - 1) / steps) / recipe.epochs
        loss = self._step.run(recipe, images, epoch, done, share_done)
        self._exported.after_step(epoch * steps + done)
        on_step(epoch * steps + done, loss, factor_at(recipe, share_done) * recipe.lr)
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
            epoch = self._epochs_done + 1
            raise DivergedError(f"lr: the loss of epoch {epoch} is not finite; lower it")
        return float(mean)

    def _evaluate(self) -> tuple[float, ...]:
        """Compute the accuracy of each exit. Every process evaluates its shard of the images."""
        right = torch.zeros(self.network.exits, dtype=torch.int64, device=self.device)
        network = self._reading(self._exported.evaluated)
        for images in self._batches.held_out():
            logits = predict(network, images.pixels)
            finite = logits.isfinite().all(-1)  # of NaN, argmax is the first class
            right += (finite & (logits.argmax(-1) == images.targets)).sum(-1)
        right = sum_over_processes(right)
        accuracies: list[float] = (right.double() / self._batches.held_out_images).tolist()
        return tuple(accuracies)
