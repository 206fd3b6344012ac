"""`python -m exporter --checkpoint FILE --out FOLDER`: a checkpoint into a bundle."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from exporter.bundle import Naming, export_network, make_manifest, write_bundle
from exporter.report import write_plot
from serving.manifest import Manifest
from training.checkpoint import load_checkpoint
from training.confidence import CONFIDENCES
from training.data import load_dataset
from training.errors import TrainingError


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
    checkpoint = load_checkpoint(arguments.checkpoint)
    recipe = checkpoint.progress.recipe
    source = arguments.data or recipe.data
    held_out = load_dataset(source, recipe.size, recipe.held_out, recipe.seed).held_out
    naming = Naming(
        arguments.name or checkpoint.progress.recipe_name,
        arguments.version,
        arguments.dataset or Path(source).name,
    )
    export = export_network(checkpoint, held_out, arguments.confidence, console.print)
    manifest = make_manifest(checkpoint, export, naming, arguments.confidence)
    write_bundle(arguments.out, manifest, export.graphs)
    write_plot(arguments.out / "budgets.svg", manifest, export.scored)
    for line in summary(manifest):
        console.print(line, highlight=False)


def summary(manifest: Manifest) -> list[str]:
    """Every exit and every named budget in a line."""
    lines = [f"{manifest.name} {manifest.version}, on {manifest.held_out.images:,} images"]
    for k, stage in enumerate(manifest.stages, 1):
        lines.append(
            f"  exit {k}   {stage.flops_to_exit / 1e6:7.1f} M flops   "
            f"accuracy {100 * stage.accuracy.value:5.2f} %   temperature {stage.temperature:.3f}"
        )
    for name, point in manifest.budgets.items():
        shares = " ".join(f"{100 * share.value:4.1f}" for share in point.exit_shares)
        lines.append(
            f"  {name:7} {point.mean_flops.value / 1e6:6.1f} M flops   "
            f"accuracy {100 * point.accuracy.value:5.2f} %   exits taken, %: {shares}"
        )
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; the exit status is 0, or 1 for a user's error."""
    # the exporter warns of each torchvision operator that it does not find, and we use none
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        run(parser().parse_args(argv), Console(soft_wrap=True))
    except TrainingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
