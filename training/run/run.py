"""A run: load the images, train, write the report."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from rich.console import Console

from offramp.command_line.console import plain_console
from training.data.datasets import Dataset
from training.data.images import ImageFiles, Images
from training.data.prepare import run_images, run_test_images
from training.distributed import cores_per_process, process_group, processes, rank
from training.fit.checkpoint import Progress
from training.fit.features.cache import Place, run_features
from training.fit.same_run import check_same_run, moved
from training.fit.trainer import Trainer
from training.options import RunOptions
from training.output_folder import CHECKPOINT
from training.recipes import Recipe
from training.report.data_table import print_table, write_table
from training.report.page import costs
from training.report.report import PAGE, write_assessment
from training.run.epochs import train
from training.run.host import commit, device_of
from training.run.start import Start, open_images, read_start


def run(options: RunOptions, recipe: Recipe) -> None:
    """Load the images, train, and keep the report up to date.

    Raises:
        TrainingError: The images, the device or an option cannot be used.
        OSError: A file cannot be read or written.
    """
    device = device_of(options.device)
    with process_group(device):
        _run(options, recipe, device)


def _run(options: RunOptions, recipe: Recipe, device: torch.device) -> None:
    console = plain_console(quiet=rank() > 0)
    start = read_start(options, recipe, device, console)
    opened = open_images(options, start, console)
    summary = opened.summary() if rank() == 0 else None
    print_table(opened, summary, console)
    test = run_test_images(opened, start.recipe, options.images)
    place = Place(options.cache or options.out, device, console)
    dataset = run_images(opened, start.recipe, options.images, place.folder, console)
    trainer = _trainer(options, start, opened, dataset, place)
    for line in introduction(trainer, dataset):
        console.print(line, highlight=False)
    if start.saved:  # before the table of other images is written
        check_same_run(start.saved, trainer.progress)
    write_table(options.out, summary)
    train(trainer, options, console)
    if rank() == 0:
        _assess(trainer, dataset, test, options.out, console)
    console.print(f"report: {options.out / PAGE}")
    console.print(f"done: {options.out / CHECKPOINT}")


def _trainer(
    options: RunOptions,
    start: Start,
    opened: Dataset[ImageFiles],
    dataset: Dataset[Images] | Dataset[ImageFiles],
    place: Place,
) -> Trainer:
    """Build the trainer of a run from its images, as opened and as prepared."""
    progress = _progress(options.recipe, start, dataset)
    if line := start.saved and moved(start.saved, progress):
        place.console.print(line, highlight=False, markup=False)
    features = run_features(progress, opened, start.checkpoint, start.pretrained, place)
    return Trainer(
        progress,
        dataset,
        place.device,
        workers=cores_per_process() if options.workers is None else options.workers,
        compiler=options.compile,
        pretrained=start.pretrained,
        features=features,
    )


def _assess(
    trainer: Trainer,
    dataset: Dataset[Images] | Dataset[ImageFiles],
    test: Images | ImageFiles | None,
    out: Path,
    console: Console,
) -> None:
    console.print("evaluating exits, calibration and budgets")
    write_assessment(out, trainer.progress, trainer.exported_network(), dataset, test)


def _progress(name: str, start: Start, dataset: Dataset[Images] | Dataset[ImageFiles]) -> Progress:
    """Return the start of a run. Its fingerprint has the form of the run that it continues."""
    saved = start.saved
    return Progress(
        recipe_name=name,
        recipe=start.recipe,
        labels=dataset.labels,
        train_images=len(dataset.train),
        fingerprint=dataset.fingerprint(saved.fingerprint) if saved else dataset.fingerprint(),
        commit=commit(),
    )


def introduction(trainer: Trainer, dataset: Dataset[Images] | Dataset[ImageFiles]) -> Iterator[str]:
    """Yield lines that describe the run before it starts."""
    progress, network = trainer.progress, trainer.network
    parameters = sum(p.numel() for p in network.parameters())
    held = "in memory" if isinstance(dataset.train, Images) else "on disk"
    device = f"{trainer.device}" if processes() == 1 else f"{processes()} x {trainer.device.type}"
    yield (
        f"{progress.recipe_name}: {network.exits} exits, {parameters:,} parameters, "
        f"{len(dataset.train):,} training and {len(dataset.held_out):,} held-out images {held}, "
        f"{device}"
    )
    flops = "  ".join(f"{f / 1e6:.1f}" for f in costs(progress)[0])
    yield f"flops by exit, millions of multiply-adds: {flops}"
