"""The report of a run: one page, and its figures and tables as files in the same folder.

For a finished run: `python -m training.report --checkpoint FILE [--data SOURCE]`.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from io import StringIO
from pathlib import Path

import numpy as np
from torch import Tensor

from offramp.data.records import printable
from offramp.writing import write_text
from training.data.datasets import Dataset, load_test
from training.data.images import ImageFiles, Images
from training.errors import CheckpointError, DataError
from training.evaluation.assessment import MEDIUM, Assessment, assess, own_dataset
from training.evaluation.budgeted import LESS, SHARES
from training.evaluation.evaluate import Floats
from training.evaluation.labelled_logits import LabelledLogits, labelled_logits, score
from training.fit.checkpoint import Epoch, Progress, load_checkpoint
from training.networks.multi_exit import MultiExitNetwork
from training.report.classes import ClassResults, class_results
from training.report.examples import leaving_images, photo_groups, wrong_predictions
from training.report.figures import budgeted_figure, epochs_figure, reliability_figure, svg
from training.report.page import HeldOutDetails, costs, render, starts_of

PAGE = "report.html"


def write_report(folder: Path, progress: Progress) -> None:
    """Write `log.csv`, `accuracy.svg` and the page of the epochs so far."""
    exits = range(1, len(progress.epochs[0].accuracies) + 1)
    columns = ["epoch", "loss", *(f"accuracy_exit_{k}" for k in exits), "seconds"]
    rows = ([e.number, e.loss, *e.accuracies, round(e.seconds, 1)] for e in progress.epochs)
    _write_csv(folder / "log.csv", columns, rows)
    _write_page(folder, progress, {"accuracy": _accuracy(progress.epochs)}, None)


def write_assessment(
    folder: Path,
    progress: Progress,
    network: MultiExitNetwork,
    dataset: Dataset[Images] | Dataset[ImageFiles],
    test: Images | ImageFiles | None,
) -> None:
    """Evaluate a finished run on its held-out images and, if present, on its test split.

    Writes the whole page, `calibration.svg`, `budgeted.svg`, `anytime.csv` (each exit),
    `budgeted.csv` (the curves) and `summary.csv` (their table). If a test image cannot be read, all
    of these cover the held-out images alone, and a warning is written to standard error.

    Writes `classes.csv` and `confusion.csv` too, which cover the held-out images alone, as the
    photos of the page do.
    """
    flops = np.array(costs(progress)[0], dtype=np.float64)
    held_out = labelled_logits(network, dataset.held_out)
    starts = starts_of(progress)
    assessment = assess(held_out, _test_logits(network, test), flops, starts)
    others = {"train": dataset.train.targets} if dataset.labelled else {}
    others |= {"test": test.targets} if test else {}
    images = replace(dataset.held_out, targets=held_out.targets)
    details = _details(progress.labels, images, held_out, assessment, flops, others)
    figures = {
        "accuracy": _accuracy(progress.epochs),
        "calibration": svg(reliability_figure(assessment.sets[-1])),
        "budgeted": svg(budgeted_figure(assessment, flops)),
    }
    _write_tables(folder, assessment, flops)
    _write_class_tables(folder, details.classes)
    _write_page(folder, progress, figures, assessment, details)


@lru_cache(1)  # the figure after the last epoch is that of the finished run
def _accuracy(epochs: tuple[Epoch, ...]) -> str:
    return svg(epochs_figure(epochs))


def _details(
    labels: tuple[str, ...],
    images: Images | ImageFiles,
    held_out: LabelledLogits,
    assessment: Assessment,
    flops: Floats,
    others: Mapping[str, Tensor],
) -> HeldOutDetails:
    """Describe the classes and photos of the held-out images. `others`: classes of other images."""
    scored = score(held_out, assessment.temperatures, flops)
    predicted = held_out.logits.argmax(-1).numpy()
    thresholds = np.array(assessment.sets[0].budgets[MEDIUM].thresholds)
    counted = {name: targets.cpu().numpy() for name, targets in others.items()}
    wrong, leaving = (
        photo_groups(chosen, images, labels, predicted, scored)
        for chosen in (wrong_predictions(scored), leaving_images(scored, thresholds))
    )
    classes = class_results(labels, predicted, held_out.targets.numpy(), counted)
    return HeldOutDetails(classes, wrong, leaving)


def _test_logits(
    network: MultiExitNetwork, test: Images | ImageFiles | None
) -> LabelledLogits | None:
    try:
        return labelled_logits(network, test) if test else None
    except (DataError, OSError) as error:
        sys.stderr.write(f"warning: {error}; the report covers the held-out images alone\n")
        return None


def _write_page(
    folder: Path,
    progress: Progress,
    figures: dict[str, str],
    assessment: Assessment | None,
    details: HeldOutDetails | None = None,
) -> None:
    for name, drawn in figures.items():
        write_text(folder / f"{name}.svg", drawn)
    write_text(folder / PAGE, render(progress, figures, assessment, details))


def _write_tables(folder: Path, assessment: Assessment, flops: Floats) -> None:
    columns = ["set", "images", "exit", "flops", "accuracy", "low", "high"]
    columns += ["temperature", "ece_before", "ece_after", "auroc"]
    _write_csv(folder / "anytime.csv", columns, _anytime(assessment, flops))
    columns = ["set", "images", "procedure", "mean_flops", "accuracy", "agreement"]
    _write_csv(folder / "budgeted.csv", columns, _curves(assessment))
    columns = ["set", "images", "procedure", *(f"accuracy_at_{share}" for share in SHARES)]
    columns += [*(f"flops_to_full_less_{less}" for less in LESS), "area"]
    _write_csv(folder / "summary.csv", columns, _summaries(assessment))


def _write_class_tables(folder: Path, classes: ClassResults) -> None:
    exits = range(1, len(classes.right) + 1)
    columns = ["class", *classes.counts, *(f"accuracy_exit_{k}" for k in exits)]
    rows = ([printable(row.label), *row.images, *row.accuracies] for row in classes.rows())
    _write_csv(folder / "classes.csv", columns, rows)
    names = [printable(label) for label in classes.labels]
    pairs = ([names[true], names[other], count] for true, other, count in classes.pairs.tolist())
    _write_csv(folder / "confusion.csv", ["class", "predicted", "images"], pairs)


def _anytime(assessment: Assessment, flops: Floats) -> Iterator[list[object]]:
    for one in assessment.sets:
        for k, quality in enumerate(one.exits):
            yield [
                *(one.name, one.images, k + 1, int(flops[k]), quality.accuracy),
                *(*quality.interval, assessment.temperatures[k], quality.raw.error),
                *(quality.calibrated.error, quality.auroc),
            ]


def _curves(assessment: Assessment) -> Iterator[list[object]]:
    for one in assessment.sets:
        for procedure, curve in one.curves.items():
            agreement = one.agreement[procedure].accuracy
            for numbers in zip(curve.flops, curve.accuracy, agreement, strict=True):
                yield [one.name, one.images, procedure, *numbers]


def _summaries(assessment: Assessment) -> Iterator[list[object]]:
    for one in assessment.sets:
        for procedure, summary in one.summaries.items():
            numbers = [*summary.accuracies, *summary.flops, summary.area]
            yield [one.name, one.images, procedure, *numbers]


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    text = StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows(rows)
    write_text(path, text.getvalue())


def report_checkpoint(checkpoint: Path, data: str | None) -> Path:
    """Evaluate a checkpoint, write its report into the same folder, and return the page.

    Args:
        checkpoint: File that training wrote.
        data: Source of the images. `None`: the source that training used.

    Raises:
        TrainingError: The checkpoint or the images cannot be used.
        OSError: A file cannot be read or written.
    """
    loaded = load_checkpoint(checkpoint)
    if not loaded.progress.epochs:
        raise CheckpointError(f"{checkpoint}: no epoch is finished yet; continue with --resume")
    progress, folder = loaded.progress, checkpoint.parent
    source = data or progress.recipe.data
    dataset = own_dataset(progress, source)
    test = None
    if dataset.labelled:
        test = load_test(source, progress.recipe.size, progress.labels, progress.recipe.resizing)
    write_report(folder, progress)
    write_assessment(folder, progress, loaded.network(), dataset, test)
    return folder / PAGE
