"""A run of training as the command runs it: load the images, train, write the report."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import torch
from rich.console import Console

from training.data.datasets import Dataset
from training.data.hub.names import hub_name
from training.data.images import ImageFiles, Images
from training.data.prepare import run_images, run_test_images
from training.data.reopen import open_for, without_damaged
from training.data.unlabelled import class_names
from training.distributed import cores, local_rank, process_group, processes, rank
from training.errors import RecipeError
from training.fit.checkpoint import Checkpoint, Epoch, Progress, load_checkpoint
from training.fit.checks import check_batches, check_recipe
from training.fit.early_stop import best_epoch
from training.fit.features.cache import Place, run_features
from training.fit.gradient import Losses
from training.fit.initial import with_weights
from training.fit.loop import fit
from training.fit.same_run import check_same_recipe, moved
from training.fit.trainer import Trainer
from training.networks.places import with_places
from training.networks.weights import Pretrained, classes_of
from training.options import RunOptions
from training.place import CHECKPOINT
from training.recipes import Recipe
from training.report.data_table import print_table, write_table
from training.report.page import costs
from training.report.remaining import seconds_left, text_of, track_epoch
from training.report.report import PAGE, write_assessment, write_report
from training.report.tensorboard import EventLog


def _git(*arguments: str) -> str:
    return subprocess.run(  # noqa: S603
        ["git", *arguments],  # noqa: S607
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def _commit() -> str:
    """Return the commit of the working tree, with `+` if files changed, or 'unknown'."""
    try:
        return _git("rev-parse", "HEAD") + ("+" if _git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _device(name: str) -> torch.device:
    """Return the device of that name. With several GPUs, it is the one of this process."""
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


def run(options: RunOptions, recipe: Recipe) -> None:
    """Load the images, train, and keep the report up to date.

    Raises:
        TrainingError: The images, the device or an option cannot be used.
        OSError: A file cannot be read or written.
    """
    device = _device(options.device)
    with process_group(device):
        _run(options, recipe, device)


def _run(options: RunOptions, recipe: Recipe, device: torch.device) -> None:
    console = Console(soft_wrap=True, quiet=rank() > 0)
    checkpoint = _saved(options, console)
    saved = checkpoint.progress if checkpoint else None
    recipe, pretrained = _with_weights(options, recipe, saved)
    recipe, measured = with_places(recipe, device)
    if measured:
        console.print(measured, highlight=False)
    losses = check_recipe(recipe, options.compile)
    if taken := hub_name(recipe.data):
        console.print(taken, highlight=False, markup=False)
    labels = _labels(options, losses, pretrained, saved) if recipe.pseudo_labels else ()
    opened = _opened(options, recipe, losses, labels, console)
    summary = opened.summary() if rank() == 0 else None
    print_table(opened, summary, console)
    test = run_test_images(opened, recipe, options.images) if rank() == 0 else None
    cache = options.cache or options.out
    dataset = run_images(opened, recipe, options.images, cache, console)
    progress = _started(options.recipe, recipe, dataset)
    if line := saved and moved(saved, progress):
        console.print(line, highlight=False, markup=False)
    features = run_features(progress, opened, checkpoint, pretrained, Place(cache, device, console))
    workers = cores() if options.workers is None else options.workers
    trainer = Trainer(
        progress,
        dataset,
        device,
        workers=workers,
        compiler=options.compile,
        pretrained=pretrained,
        features=features,
    )
    for line in introduction(trainer, dataset):
        console.print(line, highlight=False)
    write_table(options.out, summary)
    train(trainer, options, console)
    if rank() == 0:
        console.print("evaluating exits, calibration and budgets")
        network = trainer.exported_network()
        write_assessment(options.out, trainer.progress, network, dataset, test)
    console.print(f"report: {options.out / PAGE}")
    console.print(f"done: {options.out / CHECKPOINT}")


def _with_weights(
    options: RunOptions, recipe: Recipe, saved: Progress | None
) -> tuple[Recipe, Pretrained | None]:
    """Return the recipe with its record of weights, and the weights if the run starts."""
    if saved is None:
        return with_weights(recipe, options.weights, keep_head=options.keep_head)
    recipe = recipe.continuing(saved.recipe)
    check_same_recipe(saved, recipe)
    return recipe, None


def _labels(
    options: RunOptions, losses: Losses, pretrained: Pretrained | None, saved: Progress | None
) -> tuple[str, ...]:
    """Return the classes of the weights' classifier, for images without labels."""
    if pretrained is None:
        assert saved is not None
        return saved.labels
    return class_names(options.class_names, classes_of(losses.network, pretrained))


def _started(name: str, recipe: Recipe, dataset: Dataset[Images] | Dataset[ImageFiles]) -> Progress:
    return Progress(
        recipe_name=name,
        recipe=recipe,
        labels=dataset.labels,
        train_images=len(dataset.train),
        fingerprint=dataset.fingerprint(),
        commit=_commit(),
    )


def _opened(
    options: RunOptions,
    recipe: Recipe,
    losses: Losses,
    labels: tuple[str, ...],
    console: Console,
) -> Dataset[ImageFiles]:
    """Open the images, and check that batches of so many can be trained on."""
    dataset = open_for(recipe, recipe.data, labels, strict=options.strict)
    if options.skip_damaged:
        dataset, errors = without_damaged(dataset)
        for error in errors:
            console.print(f"skipped: {error}", highlight=False, markup=False)
    check_batches(losses, recipe, len(dataset.train))
    return dataset


def _saved(options: RunOptions, console: Console) -> Checkpoint | None:
    """Read and check the checkpoint to resume, if there is one."""
    path = options.out / CHECKPOINT
    if not options.resume:
        return None
    if not path.exists():
        console.print(f"{path}: no checkpoint yet, so the run starts at its beginning")
        return None
    return load_checkpoint(path)


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


def train(trainer: Trainer, options: RunOptions, console: Console) -> None:
    """Run the recipe to its end. The first process shows and logs the progress."""
    epochs, pseudo = trainer.progress.recipe.epochs, trainer.progress.recipe.pseudo_labels
    accuracy = "agreement with full depth" if pseudo else "accuracy"
    fitted = partial(
        fit,
        trainer,
        options.out / CHECKPOINT,
        resume=options.resume,
        save_every=options.save_every,
        keep_every=options.keep_every,
    )
    if rank() > 0:
        fitted(track=lambda batches, _steps: batches, report=lambda _epoch: None)
        return

    def track(batches: Iterable[Images], steps: int) -> Iterable[Images]:
        return track_epoch(batches, steps, trainer.progress, console)

    reported: list[Epoch] = []
    with EventLog(options.out) as log:

        def report(epoch: Epoch) -> None:
            left = "" if trainer.done else text_of(seconds_left(trainer.progress))
            exits = "  ".join(f"{100 * a:5.2f}" for a in epoch.accuracies)
            console.print(
                f"epoch {epoch.number:3}/{epochs}  loss {epoch.loss:7.4f}  "
                f"held-out {accuracy} by exit, %: {exits}  {epoch.seconds:.0f} s"
                f"{left and ', '}{left}"
            )
            log.epoch(epoch)
            write_report(options.out, trainer.progress)
            reported.append(epoch)

        fitted(track=track, report=report, on_step=log.step)
    best = best_epoch(found := trainer.progress.epochs)
    if trainer.progress.recipe.patience and best is not found[-1]:
        console.print(
            f"the weights of epoch {best.number} of {len(found)} are exported, with the best "
            "held-out accuracy in the mean over exits"
        )
    if not reported:  # the run was finished before
        write_report(options.out, trainer.progress)
