"""The table of a run's data set, printed and written to the folder of the run."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from offramp.data.records import printable
from offramp.data.summary import Summary, left_out_lines
from offramp.writing import write_text, writing
from training.data.datasets import Dataset
from training.data.images import ImageFiles

TABLE = "data.txt"  # name of the file with the whole table


def print_table(dataset: Dataset[ImageFiles], summary: Summary | None, console: Console) -> None:
    """Print the table, with few classes of many, and the warnings of a data set."""
    if dataset.found and not dataset.labelled:
        console.print(
            f"data: {printable(dataset.found.source)}: {len(dataset.train):,} training and "
            f"{len(dataset.held_out):,} held-out images without labels",
            highlight=False,
            markup=False,
        )
        for line in left_out_lines(dataset.found.left_out, dataset.found.hidden):
            console.print(line, highlight=False, markup=False)
    for line in [*(summary.lines() if summary else ()), *dataset.warnings()]:
        console.print(line, highlight=False, markup=False)


def write_table(folder: Path, summary: Summary | None) -> None:
    """Make the folder of the run, and write the whole table into it.

    Raises:
        UnwritableFileError: It cannot be written.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if summary:
        lines = summary.lines(classes=None, names=None)
        write_text(folder / TABLE, "".join(f"{line}\n" for line in lines))
