"""Compare exits trained with labels and by distillation without labels, on one frozen network.

The network is that of a checkpoint with pretrained weights, such as a run of `photos` or
`photos-quick`: its trunk and its last exit stay as they are, and its other exits are trained anew
on cached features. All rows train on the same images. Accuracy is measured on `--test`.

    python -m benchmarks.training.photos.retrofit --checkpoint runs/mine/checkpoint.safetensors \
        --data my/images --test my/other-images --cache features
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor

from benchmarks.timing import positive_int
from training.data.images import ImageFiles
from training.data.reopen import open_for
from training.data.splits import load_split
from training.fit.checkpoint import Checkpoint, PartialEpoch, load_checkpoint
from training.fit.features.cache import Place, cached_features
from training.fit.features.pseudo_labels import with_pseudo_labels
from training.fit.features.reader import feature_reader
from training.fit.features.trunk import Trunk
from training.fit.trainer import Trainer
from training.networks.predict import predict
from training.networks.weights import Pretrained
from training.recipes import RECIPES, Recipe

CPU = torch.device("cpu")
QUICK = RECIPES["photos-quick"]
# Name of a row: share of the teacher in the losses of early exits, and whether labels are used.
ROWS = {"labels": (0.0, True), "labels and full depth": (0.5, True), "no labels": (1.0, False)}


@dataclass(frozen=True, slots=True)
class Row:
    """Accuracy and agreement with full depth at each exit on the test images, and CPU time."""

    name: str
    accuracies: list[float]
    agreements: list[float]
    seconds: float


def kept(checkpoint: Checkpoint) -> Pretrained:
    """Return the trunk and the last head of a checkpoint as weights to start from."""
    network, record = checkpoint.network(), checkpoint.progress.recipe.weights
    if record is None:
        raise SystemExit("--checkpoint: its run did not start from pretrained weights")
    own = network.state_dict()
    tensors = {there: own[name] for name, there in network.pretraining.names.items()}
    return Pretrained(tensors, record.model_copy(update={"keep_head": True}))


def recipe_of(
    checkpoint: Checkpoint, pretrained: Pretrained, data: str | None, epochs: int
) -> Recipe:
    """Return `photos-quick` for the network and the images of a checkpoint."""
    given = checkpoint.progress.recipe
    same = ("data", "size", "backbone", "shape", "filter", "margin", "held_out", "held_out_split")
    changes = {name: getattr(given, name) for name in same}
    changes |= {"weights": pretrained.record, "epochs": epochs, "seed": given.seed}
    changes |= {"data": data} if data else {}
    return QUICK.model_copy(update=changes)


def rows_of(trunk: Trunk, images: ImageFiles) -> Tensor:
    """Return the features of images, float16 [N, length]."""
    parts = [torch.from_numpy(trunk.rows(part.pixels, 1)) for part in images.parts()]
    return torch.cat(parts)


def compare(
    checkpoint: Checkpoint, test: ImageFiles, recipe: Recipe, pretrained: Pretrained, place: Place
) -> Iterator[Row]:
    """Train the exits of each row, and measure them on the test images."""
    original = checkpoint.network()
    dataset = open_for(recipe, recipe.data, checkpoint.progress.labels)
    sets = cached_features(recipe, original, dataset, place)
    measured = rows_of(Trunk(original, sets.layout, CPU), test)
    full_depth = predict(feature_reader(original, sets.layout), measured)[-1].argmax(-1)
    for name, (share, labelled) in ROWS.items():
        options = {**recipe.objective_options, "share": share}
        progress = checkpoint.progress.model_copy(
            update={
                "recipe": recipe.model_copy(update={"objective_options": options}),
                "epochs": (),
                "running": PartialEpoch(),
            }
        )
        features = sets if labelled else with_pseudo_labels(sets, original)
        start = time.process_time()
        trainer = Trainer(progress, dataset, CPU, pretrained=pretrained, features=features)
        while not trainer.done:
            trainer.run_epoch(lambda batches, _: batches)
        seconds = time.process_time() - start
        found = predict(feature_reader(trainer.network, sets.layout), measured).argmax(-1)
        yield Row(name, shares(found == test.targets), shares(found == full_depth), seconds)


def shares(right: Tensor) -> list[float]:
    """Return the share of images at each exit, from bool [exits, N]."""
    found: list[float] = right.double().mean(dim=1).tolist()
    return found


def build_parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--checkpoint", type=Path, required=True, help="run of the network")
    parser.add_argument("--data", help="images of that run (default: as in the run)")
    parser.add_argument("--test", required=True, help="other labelled images, to measure on")
    parser.add_argument("--cache", type=Path, default=Path("features"), help="folder of features")
    parser.add_argument("--epochs", type=positive_int, default=QUICK.epochs)
    return parser


def main() -> int:
    """Print the table."""
    given = build_parser().parse_args()
    checkpoint = load_checkpoint(given.checkpoint)
    pretrained = kept(checkpoint)
    recipe = recipe_of(checkpoint, pretrained, given.data, given.epochs)
    labels = checkpoint.progress.labels
    test = load_split(given.test, "train", recipe.size, labels, resizing=recipe.resizing)
    place = Place(given.cache, CPU, Console(soft_wrap=True))
    print(f"test images: {len(test):,}. Accuracy, and agreement with full depth, by exit, %:")
    for row in compare(checkpoint, test, recipe, pretrained, place):
        accuracies, agreements = (
            "  ".join(f"{100 * share:5.1f}" for share in each)
            for each in (row.accuracies, row.agreements)
        )
        print(f"{row.name:22} {accuracies}   {agreements}   {row.seconds:.0f} s of CPU time")
    return 0


if __name__ == "__main__":
    sys.exit(main())
