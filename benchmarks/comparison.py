"""The runs that the objectives are compared by: one recipe, what each row changes, the seeds."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from rich.progress import track

from training.options import chosen_recipe, parser
from training.checkpoint import load_checkpoint
from training.recipes import Recipe

RECIPE = "cifar-comparison"
CHECKPOINT = "checkpoint.safetensors"


@dataclass(frozen=True, slots=True)
class Row:
    """What is compared.

    Args:
        name: of the row and of the folder of its runs.
        options: that `python -m training` gets beside the recipe.
        seeds: how many runs, with seeds from 0.
        against: the row that differs from it in what is asked about alone.
    """

    name: str
    options: str
    seeds: int = 1
    against: str = "joint"


ROWS = (
    Row("joint", "--variant joint", seeds=3),
    Row("dfs-paper", "--variant paper", seeds=3),
    Row("dfs-released", "--variant released", seeds=3),
    Row("dfs-unreferenced", "--variant unreferenced"),
    Row("equilibrium", "--variant joint --objective equilibrium"),
    Row("distillation", "--variant joint --objective distillation"),
    Row("block-dependent", "--variant joint --objective block-dependent"),
    Row("pcgrad", "--variant joint --objective pcgrad"),
    Row("cagrad", "--variant joint --objective cagrad"),
    Row("nash-mtl", "--variant joint --objective nash-mtl"),
    Row("meta-gf", "--variant joint --objective meta-gf"),
)

# Why DFS does as it does, and what might do better.
VARIATIONS = (
    Row("dfs-paper-beta0.25", "--variant paper --beta 0.25"),
    Row("dfs-paper-beta0.75", "--variant paper --beta 0.75"),
    Row("joint-dropout", "--variant joint --shape.head_dropout 0.5"),
    Row("dfs-paper-dropout", "--variant paper --shape.head_dropout 0.5", against="joint-dropout"),
    Row("joint-wide", "--variant joint --shape.head_channels 128"),
    Row("dfs-paper-wide", "--variant paper --shape.head_channels 128", against="joint-wide"),
    Row("dfs-released-distillation", "--variant released --objective distillation"),
    Row("dfs-released-equilibrium", "--variant released --objective equilibrium"),
)


@dataclass(frozen=True, slots=True)
class Run:
    """One row with one seed."""

    row: Row
    seed: int

    def folder(self, runs: Path) -> Path:
        """Where it is kept."""
        return runs / self.row.name / f"seed{self.seed}"


def recipe_of(run: Run, data: str = "cifar10") -> Recipe:
    """All that decides what the run does."""
    arguments = [RECIPE, "--data", data, "--out", ".", "--seed", str(run.seed)]
    return chosen_recipe(*parser().parse_known_args([*arguments, *run.row.options.split()]))


def finished(run: Run, runs: Path) -> bool:
    """Whether it has been trained to its end, by the recipe of today."""
    path = run.folder(runs) / CHECKPOINT
    if not path.exists():
        return False
    progress = load_checkpoint(path).progress
    recipe = recipe_of(run, progress.recipe.data)
    return progress.recipe == recipe and len(progress.epochs) == recipe.epochs


def runs_of(rows: Sequence[Row]) -> list[Run]:
    """Every run; first the first seed of every row, for a table of all rows comes soonest."""
    deepest = max(row.seeds for row in rows)
    return [Run(row, seed) for seed in range(deepest) for row in rows if seed < row.seeds]


def train_all(wanted: Sequence[Run], runs: Path, data: str, jobs: int) -> None:
    """Train what is not yet trained, `jobs` runs at a time on one thread each.

    Interrupted, it goes on where it was.

    Raises:
        subprocess.CalledProcessError: a run failed; its log says why.
    """
    left = [run for run in wanted if not finished(run, runs)]
    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(_train, run, run.folder(runs), data) for run in left]
        try:
            for future in track(as_completed(futures), "runs", len(futures)):
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _train(run: Run, folder: Path, data: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "training", RECIPE, "--data", data, "--out", str(folder)]
    command += ["--resume", "--seed", str(run.seed), *run.row.options.split()]
    with (folder / "output.txt").open("a") as output:
        subprocess.run(
            command,
            check=True,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
