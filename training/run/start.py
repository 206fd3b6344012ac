"""The start of a run: its recipe, its checkpoint or weights, and its images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

from training.data.datasets import Dataset
from training.data.hub.names import hub_name
from training.data.images import ImageFiles
from training.data.reopen import open_for, without_damaged
from training.data.unlabelled import class_names
from training.errors import CheckpointError
from training.fit.checkpoint import Checkpoint, Progress, load_checkpoint
from training.fit.checks import check_batches, check_recipe
from training.fit.initial import with_weights
from training.fit.same_run import check_same_recipe, check_same_weights
from training.fit.step.gradient import Losses
from training.networks.places import with_places
from training.networks.pretrained import classes_of
from training.networks.weights import Pretrained
from training.options import RunOptions
from training.output_folder import CHECKPOINT
from training.recipes import Recipe


@dataclass(frozen=True, slots=True)
class Start:
    """Recipe and weights of a run.

    Attributes:
        recipe: Recipe, with the blocks of its exits and the record of its weights.
        checkpoint: Checkpoint that the run continues, if any.
        pretrained: Weights that the run starts from, if it starts.
    """

    recipe: Recipe
    checkpoint: Checkpoint | None
    pretrained: Pretrained | None

    @property
    def saved(self) -> Progress | None:
        """Progress in the checkpoint, if any."""
        return self.checkpoint.progress if self.checkpoint else None


def read_start(
    options: RunOptions, recipe: Recipe, device: torch.device, console: Console
) -> Start:
    """Read the checkpoint or the weights of a run, and choose exits by time.

    Raises:
        TrainingError: An option cannot be used.
    """
    checkpoint = _checkpoint(options, console)
    recipe, pretrained = _with_weights(options, recipe, checkpoint)
    recipe, measured = with_places(recipe, device)
    if measured:
        console.print(measured, highlight=False)
    return Start(recipe, checkpoint, pretrained)


def _with_weights(
    options: RunOptions, recipe: Recipe, checkpoint: Checkpoint | None
) -> tuple[Recipe, Pretrained | None]:
    """Return the recipe with its record of weights, and the weights if the run starts."""
    if checkpoint is None:
        return with_weights(recipe, options.weights, keep_head=options.keep_head)
    saved = checkpoint.progress.recipe
    check_same_weights(saved.weights, options.weights, keep_head=options.keep_head)
    recipe = recipe.continuing(saved)
    check_same_recipe(checkpoint.progress, recipe)
    return recipe, None


def _checkpoint(options: RunOptions, console: Console) -> Checkpoint | None:
    """Read and check the checkpoint to resume, if there is one."""
    path = options.out / CHECKPOINT
    if not options.resume:
        return None
    if not path.exists():
        console.print(f"{path}: no checkpoint yet, so the run starts at its beginning")
        return None
    return load_checkpoint(path)


def open_images(options: RunOptions, start: Start, console: Console) -> Dataset[ImageFiles]:
    """Open the images of a run, and check that its recipe and its batches can be trained.

    Raises:
        TrainingError: The images or an option cannot be used.
    """
    recipe = start.recipe
    losses = check_recipe(recipe, options.compile)
    if taken := hub_name(recipe.data):
        console.print(taken, highlight=False, markup=False)
    labels = _labels(options, losses, start) if recipe.pseudo_labels else ()
    dataset = open_for(recipe, recipe.data, labels, strict=options.strict)
    if options.skip_damaged:
        dataset = _without_damaged(dataset, console)
    check_batches(losses, recipe, len(dataset.train))
    return dataset


def _without_damaged(dataset: Dataset[ImageFiles], console: Console) -> Dataset[ImageFiles]:
    whole, errors = without_damaged(dataset)
    for error in errors:
        console.print(f"skipped: {error}", highlight=False, markup=False)
    return whole


def _same_names(path: Path | None, saved: tuple[str, ...]) -> tuple[str, ...]:
    """Return the classes of the run to resume. A file of names that is there must have them."""
    if path and path.is_file() and class_names(path, len(saved)) != saved:
        raise CheckpointError(
            f"class_names: the run to resume has other names than {path}; resume with the same or "
            "choose another --out"
        )
    return saved


def _labels(options: RunOptions, losses: Losses, start: Start) -> tuple[str, ...]:
    """Return the classes of the weights' classifier, for images without labels."""
    if start.pretrained is None:
        assert start.saved is not None
        return _same_names(options.class_names, start.saved.labels)
    return class_names(options.class_names, classes_of(losses.network, start.pretrained))
