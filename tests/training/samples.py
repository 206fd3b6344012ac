"""500 real images of the CIFAR-10 test set, and runs small enough for a test."""

from functools import cache
from pathlib import Path

from training.checkpoint import Progress
from training.data import Dataset, load_dataset
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
def tiny_dataset() -> Dataset:
    """400 images to train on, 100 held out."""
    return load_dataset(TINY.data, TINY.size, TINY.held_out, TINY.seed)


def tiny_progress(**changes: object) -> Progress:
    """The start of a run of the tiny recipe."""
    return Progress(
        recipe_name="tiny",
        recipe=Recipe.model_validate(TINY.model_dump() | changes),
        labels=LABELS,
        train_images=400,
        fingerprint=tiny_dataset().fingerprint(),
    )
