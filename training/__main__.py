"""`python -m training RECIPE --data SOURCE --out FOLDER [--resume] [--option value]`."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track as rich_track

from training.data.datasets import Dataset, load_test, open_dataset
from training.data.images import ImageFiles, Images
from training.distributed import cores, local_rank, process_group, processes, rank
from training.errors import RecipeError, TrainingError
from training.fit.checkpoint import CHECKPOINT, Epoch, Progress
from training.fit.trainer import Trainer, fit
from training.networks.flops import flops_to_exits
from training.options import chosen_recipe, parser
from training.recipes import Recipe
from training.report.report import PAGE, write_assessment, write_report
from training.report.tensorboard import EventLog

INTERRUPTED = 130
IN_MEMORY = 4 * 2**30  # bytes of pixels, at most


def _git(*arguments: str) -> str:
    return subprocess.run(  # noqa: S603
        ["git", *arguments],  # noqa: S607
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def _commit() -> str:
    """The commit of the working tree, `+` where it was changed; 'unknown' outside a checkout."""
    try:
        return _git("rev-parse", "HEAD") + ("+" if _git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _device(name: str) -> torch.device:
    """The device of that name; of several GPUs, this process's."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        name = f"cuda:{local_rank()}"
    try:
        device = torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise RecipeError(f"--device: {name} cannot be used here: {error}") from error
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device


def _images(recipe: Recipe, where: str) -> Dataset[Images] | Dataset[ImageFiles]:
    """The recipe's images, in memory if that is asked for, or else if they fit."""
    if where == "memory" and recipe.crop == "resized":
        raise RecipeError("--images: parts of any size (--crop resized) are cut from files on disk")
    dataset = open_dataset(recipe.data, recipe.size, recipe.held_out, recipe.seed)
    count = len(dataset.train) + len(dataset.held_out)
    return dataset.decoded() if _in_memory(recipe, where, count) else dataset


def _test_images(recipe: Recipe, where: str, labels: tuple[str, ...]) -> Images | ImageFiles | None:
    """Those of the test split, if any, so that what is wrong with them is said before training.

    They are all decoded where they fit in memory, else one is.
    """
    test = load_test(recipe.data, recipe.size, labels)
    if not test:
        return None
    if _in_memory(recipe, where, len(test)):
        return test.decoded()
    test.select(torch.arange(1)).decoded()
    return test


def _in_memory(recipe: Recipe, where: str, images: int) -> bool:
    fits = recipe.crop == "shifted" and 3 * images * recipe.size**2 <= IN_MEMORY
    return where == "memory" or (where == "auto" and fits)


def run(arguments: argparse.Namespace, rest: Sequence[str], device: torch.device) -> None:
    """Load the images, train, and keep the report up to date."""
    console = Console(soft_wrap=True, quiet=rank() > 0)
    recipe = chosen_recipe(arguments, rest)
    dataset = _images(recipe, arguments.images)
    test = _test_images(recipe, arguments.images, dataset.labels) if rank() == 0 else None
    progress = Progress(
        recipe_name=arguments.recipe,
        recipe=recipe,
        labels=dataset.labels,
        train_images=len(dataset.train),
        fingerprint=dataset.fingerprint(),
        commit=_commit(),
    )
    workers = cores() if arguments.workers is None else arguments.workers
    trainer = Trainer(progress, dataset, device, workers=workers, compiler=arguments.compile)
    for line in introduction(trainer, dataset):
        console.print(line, highlight=False)
    arguments.out.mkdir(parents=True, exist_ok=True)
    train(trainer, arguments, console)
    if rank() == 0:
        console.print("evaluating exits, calibration and budgets")
        write_assessment(arguments.out, trainer.progress, trainer.network, dataset.held_out, test)
    console.print(f"report: {arguments.out / PAGE}")
    console.print(f"done: {arguments.out / CHECKPOINT}")


def introduction(trainer: Trainer, dataset: Dataset[Images] | Dataset[ImageFiles]) -> Iterator[str]:
    """What is about to be trained."""
    progress, network = trainer.progress, trainer.network
    parameters = sum(p.numel() for p in network.parameters())
    held = "in memory" if isinstance(dataset.train, Images) else "on disk"
    device = f"{trainer.device}" if processes() == 1 else f"{processes()} x {trainer.device.type}"
    yield (
        f"{progress.recipe_name}: {network.exits} exits, {parameters:,} parameters, "
        f"{len(dataset.train):,} training and {len(dataset.held_out):,} held-out images {held}, "
        f"{device}"
    )
    flops = "  ".join(f"{f / 1e6:.1f}" for f in flops_to_exits(network, progress.recipe.size))
    yield f"flops by exit, millions of multiply-adds: {flops}"


def train(trainer: Trainer, arguments: argparse.Namespace, console: Console) -> None:
    """Run the recipe to its end; the first process shows and logs how it goes."""
    epochs = trainer.progress.recipe.epochs
    fitted = partial(
        fit,
        trainer,
        arguments.out / CHECKPOINT,
        resume=arguments.resume,
        save_every=arguments.save_every,
    )
    if rank() > 0:
        fitted(track=lambda batches, _steps: batches, report=lambda _epoch: None)
        return

    def track(batches: Iterable[Images], steps: int) -> Iterable[Images]:
        description = f"epoch {len(trainer.progress.epochs) + 1}/{epochs}"
        return rich_track(batches, description, steps, console=console, transient=True)

    with EventLog(arguments.out) as log:

        def report(epoch: Epoch) -> None:
            exits = "  ".join(f"{100 * a:5.2f}" for a in epoch.accuracies)
            console.print(
                f"epoch {epoch.number:3}/{epochs}  loss {epoch.loss:7.4f}  "
                f"held-out accuracy by exit, %: {exits}  {epoch.seconds:.0f} s"
            )
            log.epoch(epoch)
            write_report(arguments.out, trainer.progress)

        fitted(track=track, report=report, on_step=log.step)
    write_report(arguments.out, trainer.progress)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; the exit status is 0, 1 for a user's error, 130 after Ctrl-C."""
    try:
        arguments, rest = parser().parse_known_args(argv)
        device = _device(arguments.device)
        with process_group(device):
            run(arguments, rest, device)
    except (TrainingError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        if rank() == 0:
            print(
                "stopped; the same command with --resume goes on after the last checkpoint",
                file=sys.stderr,
            )
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
