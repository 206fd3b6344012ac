"""Checkpoints: one safetensors file with the weights, the optimizers' state and the recipe.

Reading a checkpoint executes no code from it. The recipe, the labels and the finished epochs are
JSON in the file's header, so a run can be rebuilt from the file alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    field_validator,
)
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from offramp.writing import replaced
from training.errors import CheckpointError, RecipeError
from training.networks.first_size import recipe_network
from training.networks.multi_exit import MultiExitNetwork
from training.recipes import Recipe
from training.record import FrozenModel
from training.surgery.boundary import Boundary, Surgery
from training.surgery.conflict import ConflictSurgery

FORMAT = "offramp checkpoint 1"


class Epoch(FrozenModel):
    """Results of one epoch. `accuracies` are those of each exit on the held-out images."""

    number: PositiveInt
    loss: float
    accuracies: tuple[float, ...]
    seconds: NonNegativeFloat
    images_per_second: NonNegativeFloat = Field(0.0, description="in training; 0: not measured")


class PartialEpoch(FrozenModel):
    """State of an epoch that is not finished."""

    steps: NonNegativeInt = 0
    loss: float = Field(0.0, description="summed over the steps")
    seconds: NonNegativeFloat = 0.0


class Progress(FrozenModel):
    """State of a run: its recipe and data, and the epochs so far."""

    recipe_name: str
    recipe: Recipe
    labels: tuple[str, ...]
    train_images: PositiveInt
    fingerprint: str = Field(description="hash of the images, see `Dataset.fingerprint`")
    commit: str = "unknown"
    epochs: tuple[Epoch, ...] = Field((), description="finished epochs")
    running: PartialEpoch = Field(PartialEpoch(), description="epoch that is not finished")

    @field_validator("recipe", mode="before")
    @classmethod
    def _as_recorded(cls, recipe: object) -> object:
        return Recipe.recorded(recipe) if isinstance(recipe, dict) else recipe


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A run after a step: its progress, and the state of network, objective and optimizers.

    Attributes:
        progress: Recipe, data and epochs.
        weights: Weights to export.
        objective: State of the objective.
        optimizers: State of the optimizers.
        training_state: Weights that training needs, where they are not those to export.
    """

    progress: Progress
    weights: dict[str, Tensor]
    objective: dict[str, Tensor]
    optimizers: dict[str, Tensor]
    training_state: dict[str, Tensor] = field(default_factory=dict)

    def network(self) -> MultiExitNetwork:
        """Build the network with these weights, in eval mode.

        Raises:
            CheckpointError: The weights do not fit the network that the recipe describes.
        """
        network = new_network(self.progress.recipe, len(self.progress.labels))
        try:
            network.load_state_dict(self.weights)
        except RuntimeError as error:
            raise CheckpointError(f"weights do not fit the recipe's network: {error}") from error
        return network.eval()


def new_network(recipe: Recipe, classes: int) -> MultiExitNetwork:
    """Build the network of a recipe, with fresh weights and its surgery.

    Raises:
        RecipeError: The recipe describes no valid network, or the number of betas is not the
            number of boundaries.
    """
    network = recipe_network(recipe, classes)
    network.additive = recipe.additive_heads
    boundaries = [k for k in range(1, network.exits) if network.deeper_exits(k)]
    betas = _betas(recipe, len(boundaries))
    surgeries = {
        k: _surgery(recipe, beta, network.deeper_exits(k))
        for k, beta in zip(boundaries[: _operated(recipe, len(boundaries))], betas, strict=False)
    }
    network.surgery = tuple(surgeries.get(k, Surgery("joint")) for k in range(1, network.exits))
    return network


def _betas(recipe: Recipe, boundaries: int) -> tuple[float, ...]:
    """Return the beta of each boundary."""
    betas = recipe.beta if isinstance(recipe.beta, tuple) else (recipe.beta,) * boundaries
    if len(betas) != boundaries:
        raise RecipeError(
            f"beta: {len(betas)} values for {boundaries} boundaries; give one for each, or one "
            "for all"
        )
    return betas


def _operated(recipe: Recipe, boundaries: int) -> int:
    """Return the number of boundaries, from the first, with surgery."""
    operated = boundaries if recipe.surgery_boundaries is None else recipe.surgery_boundaries
    if operated > boundaries:
        raise RecipeError(
            f"surgery_boundaries: {operated} of {boundaries}; give at most {boundaries}, or null"
        )
    return operated


def _surgery(recipe: Recipe, beta: float, deeper: int) -> Boundary:
    """Build the surgery of a boundary with so many deeper exits."""
    fixed = Surgery(recipe.variant, beta)
    if recipe.surgery_rule == "fixed":
        return fixed
    return ConflictSurgery(fixed, deeper, recipe.conflict_scale, recipe.conflict_decay)


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint. At any time the file at `path` is complete, either the old or the new.

    Raises:
        UnwritableFileError: The file cannot be written. The one before it stays.
    """
    tensors = {f"weights/{name}": t for name, t in checkpoint.weights.items()}
    tensors |= {f"objective/{name}": t for name, t in checkpoint.objective.items()}
    tensors |= {f"optimizers/{name}": t for name, t in checkpoint.optimizers.items()}
    tensors |= {f"training/{name}": t for name, t in checkpoint.training_state.items()}
    tensors = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    progress = checkpoint.progress.model_dump_json()
    metadata = {"format": FORMAT, "progress": progress, "sha256": content_digest(progress, tensors)}
    with replaced(path, SafetensorError, durable=True) as partial:
        save_file(tensors, partial, metadata)


def load_progress(path: Path) -> Progress:
    """Read the state of a run from a checkpoint's header, without tensors and checksum.

    Raises:
        CheckpointError: The file is missing, truncated, or not a checkpoint.
    """
    with _opened(path) as (_, metadata):
        return Progress.model_validate_json(metadata["progress"])


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint onto the CPU.

    Raises:
        CheckpointError: The file is missing, damaged, or not a checkpoint.
    """
    with _opened(path) as (file, metadata):
        progress = Progress.model_validate_json(metadata["progress"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    # checkpoints of earlier versions have no digest
    if metadata.get("sha256", digest := content_digest(metadata["progress"], tensors)) != digest:
        raise CheckpointError(f"{path}: damaged: the content does not match the checksum")
    return Checkpoint(
        progress,
        under("weights/", tensors),
        under("objective/", tensors),
        under("optimizers/", tensors),
        under("training/", tensors),
    )


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, dict[str, str]]]:
    """Open a checkpoint and yield file and metadata, or raise CheckpointError."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise CheckpointError(f"{path}: not a checkpoint that `offramp train` wrote")
            yield file, metadata
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read as a checkpoint: {error}") from error
    except (KeyError, ValidationError) as error:
        raise CheckpointError(
            f"{path}: the header is damaged, or of a newer version: {error}"
        ) from error


def content_digest(text: str, tensors: Mapping[str, Tensor]) -> str:
    """Hash a text and contiguous tensors on the CPU, such as the whole content of a checkpoint."""
    digest = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)  # numpy has no bfloat16
    return digest.hexdigest()


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names start with a prefix, without it."""
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
