"""Compare a smaller image first, with own and with shared weights, with one size alone.

Rows, all of the recipe `photos`: `full` and `small` are the network with its last exit only, at
each size. `depth` has early exits at full size. `own` and `shared` have exits on the smaller image
first. Every row is exported, as `offramp export` does it.

    python -m benchmarks.training.photos.first_size --data my/photos --runs runs/first-size \
        --out results/first-size --options "--held-out 500"

Thresholds are solved on held-out images and measured on the test split. Memory is what a process
gets with the sessions of the bundle. Finished runs are not trained again, and interrupted runs
are resumed.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.serving.servers.processes import usage
from benchmarks.timing import positive_int
from benchmarks.training.comparison import Plan, Row
from benchmarks.training.objectives import trained_runs
from benchmarks.training.photos.command import runs_parser
from benchmarks.training.predictions import Trained
from offramp.bundle.manifest import read_manifest
from serving.runtime.cpu import CpuRuntime
from training.evaluation.budgeted import direct_optimum, flops_to_reach, measure
from training.fit.checkpoint import load_checkpoint
from training.output_folder import CHECKPOINT

LESS = (0.005, 0.01)  # of the accuracy at full depth
ALONE = "--variant joint --objective joint --shape.exits []"


def rows_of(size: int, last: int, seeds: int) -> list[Row]:
    """Return the rows: a smaller image of that size first, up to its exit `last`."""
    first = f"--first-size {size} --first-exit {last}"
    return [
        Row("full", ALONE, seeds),
        Row("small", f"{ALONE} --size {size}", seeds),
        Row("depth", "", seeds),
        Row("own", first, seeds),
        Row("shared", f"{first} --first-weights shared", seeds),
    ]


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of a run.

    Attributes:
        row: Name of its row.
        seed: Folder of its seed.
        accuracy: Accuracy at full depth on the test split.
        exits: Accuracy of each exit, for the table.
        full_flops: Multiply-adds of full depth alone.
        flops: Least mean multiply-adds for the accuracy at full depth minus LESS, with all heads of
            a part that runs. `None`: never.
        parameters: Numbers that are trained.
        checkpoint_mb: Size of the checkpoint, with the state of the optimizer.
        bundle_mb: Size of the bundle's graphs.
        memory_mb: Memory of its sessions.
        minutes: Time of the training.
    """

    row: str
    seed: str
    accuracy: float
    exits: str
    full_flops: int
    flops: tuple[float | None, ...]
    parameters: int
    checkpoint_mb: float
    bundle_mb: float
    memory_mb: float
    minutes: float


def exported(checkpoint: Path) -> Path:
    """Export a checkpoint beside it, if that is not done yet, and return the bundle.

    Raises:
        subprocess.CalledProcessError: The export failed.
    """
    bundle = checkpoint.with_name("bundle")
    if not bundle.exists():
        options = ["--checkpoint", str(checkpoint), "--out", str(bundle)]
        command = [sys.executable, "-m", "exporter", *options]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return bundle


def session_memory(bundle: Path) -> int:
    """Return the bytes that this process gets when it opens a bundle and runs an image."""
    manifest, before = read_manifest(bundle), usage(os.getpid()).memory
    runtime = CpuRuntime(bundle, manifest)
    size = manifest.input.height
    known: dict[str, NDArray[Any]] = {"image": np.zeros((1, size, size, 3), np.uint8)}
    for k in range(manifest.exits):
        known |= runtime.run(k, known).features
    return usage(os.getpid()).memory - before


def figures_of(run: Trained, runs: Path) -> Figures:
    """Return the figures of a run. It is exported if that is not done yet."""
    checkpoint = runs / run.row / run.seed / CHECKPOINT
    bundle = exported(checkpoint)
    loaded = load_checkpoint(checkpoint)
    curve = measure(direct_optimum(run.held_out), run.test)
    accuracies = run.test.right.mean(axis=1)
    with ProcessPoolExecutor(1, get_context("spawn")) as fresh:
        memory = fresh.submit(session_memory, bundle).result()
    return Figures(
        row=run.row,
        seed=run.seed,
        accuracy=float(accuracies[-1]),
        exits=" ".join(f"{100 * each:.1f}" for each in accuracies),
        full_flops=read_manifest(bundle).full_flops,
        flops=tuple(flops_to_reach(curve, float(accuracies[-1]) - less) for less in LESS),
        parameters=sum(p.numel() for p in loaded.network().parameters()),
        checkpoint_mb=checkpoint.stat().st_size / 1e6,
        bundle_mb=sum(path.stat().st_size for path in bundle.glob("*.onnx")) / 1e6,
        memory_mb=memory / 1e6,
        minutes=sum(epoch.seconds for epoch in loaded.progress.epochs) / 60,
    )


def print_table(figures: Sequence[Figures], images: int) -> None:
    """Print a line for each run."""
    less = "  ".join(f"M for -{100 * each:g}" for each in LESS)
    print(f"\n{images} test images; flops in millions; a line for each seed")
    print(f"{'row':8} {'seed':6} full, %  full M  {less}  parameters, M  checkpoint, bundle,")
    print(f"{'':58} sessions, MB    minutes  exits, %")
    for one in figures:
        flops = "  ".join("    never" if f is None else f"{f / 1e6:9.1f}" for f in one.flops)
        print(
            f"{one.row:8} {one.seed:6} {100 * one.accuracy:7.1f} {one.full_flops / 1e6:7.1f}  "
            f"{flops}  {one.parameters / 1e6:13.2f}  {one.checkpoint_mb:6.1f} "
            f"{one.bundle_mb:6.1f} {one.memory_mb:6.1f}  {one.minutes:7.1f}  {one.exits}"
        )


def write(folder: Path, figures: Sequence[Figures]) -> None:
    """Write the figures as `first_size.csv`."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [asdict(one) for one in figures]
    for line in lines:
        found = line.pop("flops")
        line |= {f"flops_less_{less}": f for less, f in zip(LESS, found, strict=True)}
    with (folder / "first_size.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)


def build_parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    parser = runs_parser(__doc__.partition("\n")[0], "runs/first-size")
    option = parser.add_argument
    option("--first-size", type=positive_int, default=128, help="size of the smaller image")
    option("--first-exit", type=positive_int, default=3, help="last exit on the smaller image")
    option("--seeds", type=positive_int, default=3, help="runs of each row")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit status, 1 for a user's error."""
    arguments = build_parser().parse_args(argv)
    rows = rows_of(arguments.first_size, arguments.first_exit, arguments.seeds)
    trained = trained_runs(rows, Plan(arguments.data, "photos", arguments.options), arguments)
    if trained is None:
        return 1
    order = [row.name for row in rows]
    runs = sorted((run for run in trained if run.row in order), key=lambda r: order.index(r.row))
    figures = [figures_of(run, arguments.runs) for run in runs]
    write(arguments.out, figures)
    print_table(figures, runs[0].test.images)
    return 0


if __name__ == "__main__":
    sys.exit(main())
