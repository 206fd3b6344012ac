"""500 images of the CIFAR-10 test set, and runs that are small enough for a test."""

import shutil
from functools import cache
from pathlib import Path

import pyarrow as pa
import torch
from pyarrow import parquet

from training.data.datasets import Dataset, load_dataset
from training.data.images import Images
from training.fit.checkpoint import Checkpoint, Epoch, Progress
from training.fit.trainer import Trainer
from training.recipes import Recipe

PARQUET = Path(__file__).parents[1] / "data" / "cifar10-500.parquet"
LABELS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

TINY = Recipe(
    data=str(PARQUET),
    held_out=100,
    shape={"exits": 2, "base": 1, "step": 1, "channels": 4, "growth": 4, "head_channels": 16},
    epochs=2,
    batch_size=100,
    cutout=4,
)


@cache
def tiny_dataset() -> Dataset[Images]:
    """Load 400 training images and 100 held-out images."""
    return load_dataset(TINY.data, TINY.size, TINY.held_out, TINY.seed)


def tiny_progress(**changes: object) -> Progress:
    """Return the start of a run of the tiny recipe."""
    return Progress(
        recipe_name="tiny",
        recipe=Recipe.model_validate(TINY.model_dump() | changes),
        labels=LABELS,
        train_images=400,
        fingerprint=tiny_dataset().fingerprint(),
    )


def source_with_test(
    folder: Path, images: int = 60, label: int | None = None, damaged: int | None = None
) -> str:
    """Write the sample as a training split, and its first images again as a test split.

    `label`, if given, replaces every label of the test split. `damaged` is the number of a test
    image that is replaced by other bytes.
    """
    shutil.copy(PARQUET, folder / "train-0.parquet")
    test = parquet.read_table(PARQUET).slice(0, images)
    if label is not None:
        at = test.schema.get_field_index("label")
        given = pa.array([label] * images, test.schema.field(at).type)
        test = test.set_column(at, test.schema.field(at), given)
    if damaged is not None:
        stored = test["img"].to_pylist()
        stored[damaged]["bytes"] = b"no image"
        at = test.schema.get_field_index("img")
        given = pa.array(stored, test.schema.field(at).type)
        test = test.set_column(at, test.schema.field(at), given)
    parquet.write_table(test, folder / "test-0.parquet")
    return str(folder)


def untrained_checkpoint(progress: Progress) -> Checkpoint:
    """Return a checkpoint of `progress` with fresh weights."""
    return Trainer(progress, tiny_dataset(), torch.device("cpu")).checkpoint()


def finished_progress(**changes: object) -> Progress:
    """Return the end of a run of the tiny recipe."""
    epochs = tuple(
        Epoch(number=n, loss=3 - n, accuracies=(0.1 * n, 0.2 * n), seconds=1) for n in (1, 2)
    )
    return tiny_progress(**changes).model_copy(update={"epochs": epochs})
