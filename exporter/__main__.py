"""A checkpoint into a bundle; or a bundle into one with budgets of other images.

python -m exporter --checkpoint FILE --out FOLDER
python -m exporter --bundle FOLDER --data IMAGES --out FOLDER
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console

from exporter.bundle import (
    Export,
    Naming,
    check_place,
    export_network,
    make_manifest,
    read_bundle,
    write_bundle,
)
from exporter.errors import ExportError
from exporter.recalibrate import images_for, recalibrate
from exporter.report import summary
from offramp.bundle.manifest import Manifest
from training.errors import TrainingError
from training.evaluation.assessment import own_dataset
from training.fit.checkpoint import load_checkpoint
from training.networks.confidence import CONFIDENCES

FEW = 500  # held-out images; with fewer, thresholds are mostly chance
INTERRUPTED = 130


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m exporter",
        description="Export a checkpoint as a bundle: one ONNX graph for each stage, verified "
        "and calibrated on the images that were held out. Or calibrate a bundle anew, on images "
        "like those that it is to answer.",
    )
    given = made.add_mutually_exclusive_group(required=True)
    given.add_argument("--checkpoint", type=Path, help="what training wrote")
    given.add_argument("--bundle", type=Path, help="a bundle to calibrate on other images")
    made.add_argument("--out", type=Path, required=True, help="folder of the bundle; must be new")
    made.add_argument(
        "--data",
        help="checkpoint: where the images are now, if not where training found them; "
        "bundle: labelled images that the network was not trained on",
    )
    made.add_argument(
        "--split", default="train", help="bundle: which images of --data (default: train)"
    )
    made.add_argument("--name", help="the model's name (default: the recipe's, or the bundle's)")
    made.add_argument("--version", help="the model's version (default: 1, or the bundle's)")
    made.add_argument("--dataset", help="what the images are called (default: last part of --data)")
    made.add_argument(
        "--confidence",
        default="max_softmax",
        choices=CONFIDENCES,
        help="checkpoint: what the thresholds are compared with (default: max_softmax)",
    )
    return made


def run(arguments: argparse.Namespace, console: Console) -> None:
    """Export or calibrate anew, then say what came of it."""
    check_place(arguments.out)
    made = _calibrated_anew if arguments.bundle else _exported
    manifest, export = made(arguments, console)
    write_bundle(arguments.out, manifest, export)
    for line in summary(manifest):
        console.print(line, highlight=False)


def _exported(arguments: argparse.Namespace, console: Console) -> tuple[Manifest, Export]:
    checkpoint = load_checkpoint(arguments.checkpoint)
    progress = checkpoint.progress
    source = arguments.data or progress.recipe.data
    naming = _naming(
        arguments.name or progress.recipe_name,
        arguments.version or "1",
        arguments.dataset or Path(source).name,
    )
    dataset = own_dataset(progress, source)
    _warn_of_few(len(dataset.held_out), console)
    export = export_network(
        checkpoint, dataset.held_out.decoded(), arguments.confidence, console.print
    )
    return make_manifest(checkpoint, export, naming, arguments.confidence), export


def _calibrated_anew(arguments: argparse.Namespace, console: Console) -> tuple[Manifest, Export]:
    if arguments.data is None:
        raise ExportError("--data: a bundle is calibrated on images; say where they are")
    manifest, graphs = read_bundle(arguments.bundle)
    naming = _naming(
        arguments.name or manifest.name,
        arguments.version or manifest.version,
        arguments.dataset or Path(arguments.data).name,
    )
    images = images_for(manifest, arguments.data, arguments.split)
    _warn_of_few(len(images), console)
    named = manifest.model_copy(update={"name": naming.name, "version": naming.version})
    source = f"{naming.dataset}, {arguments.split}"
    return recalibrate(named, graphs, images, source, console.print)


def _warn_of_few(images: int, console: Console) -> None:
    if images < FEW:
        console.print(f"warning: only {images} held-out images; intervals are wide")


def _naming(name: str, version: str, dataset: str) -> Naming:
    try:
        return Naming(name=name, version=version, dataset=dataset)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ExportError(f"--{first['loc'][0]}: {first['msg']}") from error


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; the exit status is 0, or 1 for a user's error."""
    # the exporter warns of each torchvision operator that it does not find, and we use none
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        run(parser().parse_args(argv), Console(soft_wrap=True))
    except (TrainingError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; nothing was written", file=sys.stderr)
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
