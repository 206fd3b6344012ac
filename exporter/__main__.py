"""`python -m exporter --checkpoint FILE --out FOLDER`: a checkpoint into a bundle."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console

from exporter.bundle import Naming, check_place, export_network, make_manifest, write_bundle
from exporter.errors import ExportError
from exporter.report import summary
from training.assessment import own_dataset
from training.checkpoint import load_checkpoint
from training.confidence import CONFIDENCES
from training.errors import TrainingError

FEW = 500  # held-out images; with fewer, thresholds are mostly chance
INTERRUPTED = 130


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m exporter",
        description="Export a checkpoint as a bundle: one ONNX graph for each stage, verified "
        "and calibrated on the images that were held out.",
    )
    made.add_argument("--checkpoint", type=Path, required=True, help="what training wrote")
    made.add_argument("--out", type=Path, required=True, help="folder of the bundle; must be new")
    made.add_argument("--data", help="where the images are now, if not where training found them")
    made.add_argument("--name", help="the model's name (default: the recipe's)")
    made.add_argument("--version", default="1", help="the model's version (default: 1)")
    made.add_argument("--dataset", help="what the images are called (default: last part of --data)")
    made.add_argument(
        "--confidence",
        default="max_softmax",
        choices=CONFIDENCES,
        help="what the thresholds are compared with (default: max_softmax)",
    )
    return made


def run(arguments: argparse.Namespace, console: Console) -> None:
    """Export, then say what came of it."""
    check_place(arguments.out)
    checkpoint = load_checkpoint(arguments.checkpoint)
    progress = checkpoint.progress
    source = arguments.data or progress.recipe.data
    naming = _naming(
        arguments.name or progress.recipe_name,
        arguments.version,
        arguments.dataset or Path(source).name,
    )
    dataset = own_dataset(progress, source)
    if len(dataset.held_out) < FEW:
        console.print(f"warning: only {len(dataset.held_out)} held-out images; intervals are wide")
    export = export_network(
        checkpoint, dataset.held_out.decoded(), arguments.confidence, console.print
    )
    manifest = make_manifest(checkpoint, export, naming, arguments.confidence)
    write_bundle(arguments.out, manifest, export)
    for line in summary(manifest):
        console.print(line, highlight=False)


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
