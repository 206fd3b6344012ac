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

from training.fit.checkpoint import CHECKPOINT, load_progress
from training.options import read_run
from training.recipes import Recipe


@dataclass(frozen=True, slots=True)
class Row:
    """What is compared.

    Args:
        name: of the row and of the folder of its runs.
        options: that `python -m training` gets beside the recipe.
        seeds: how many runs, with seeds from 0.
        against: the row of the same network that differs from it in what is asked about alone;
            itself if there is none.
    """

    name: str
    options: str
    seeds: int = 1
    against: str = "joint"


ROWS = (
    Row("joint", "--variant joint", seeds=3),
    Row("dfs-released", "--variant released", seeds=3),
    Row("dfs-paper", "--variant paper"),
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
MUON = "--optimizer muon --muon-lr 0.09 --lr 0.05 --momentum 0.8"
VARIATIONS = (
    Row("joint-muon", f"--variant joint {MUON}"),
    Row("dfs-released-muon", f"--variant released {MUON}", against="joint-muon"),
    Row("joint-dropout", "--variant joint --shape.head_dropout 0.5"),
    Row(
        "dfs-released-dropout",
        "--variant released --shape.head_dropout 0.5",
        against="joint-dropout",
    ),
    # another network, so nothing is like it but for one thing
    Row("joint-wide", "--variant joint --shape.head_channels 128", against="joint-wide"),
    Row("dfs-released-wide", "--variant released --shape.head_channels 128", against="joint-wide"),
    Row("dfs-released-beta0.25", "--variant released --beta 0.25"),
    Row("dfs-released-beta0.75", "--variant released --beta 0.75"),
    # of the same mean; lists without blanks, at which options are parted
    Row(
        "dfs-released-beta-rising",
        "--variant released --beta [0.3,0.5,0.7]",
        against="dfs-released",
    ),
    Row(
        "dfs-released-beta-falling",
        "--variant released --beta [0.7,0.5,0.3]",
        against="dfs-released",
    ),
    Row("joint-weights-rising", "--variant joint --objective.weights [0.4,0.8,1.2,1.6]"),
    Row("joint-weights-falling", "--variant joint --objective.weights [1.6,1.2,0.8,0.4]"),
    Row(
        "dfs-released-weights-rising",
        "--variant released --objective.weights [0.4,0.8,1.2,1.6]",
        against="dfs-released",
    ),
    Row(
        "dfs-released-weights-falling",
        "--variant released --objective.weights [1.6,1.2,0.8,0.4]",
        against="dfs-released",
    ),
    Row("dfs-released-distillation", "--variant released --objective distillation"),
    Row("dfs-released-equilibrium", "--variant released --objective equilibrium"),
)


def row_named(name: str) -> Row:
    """The row of a name; one that is not listed here is compared with `joint`."""
    return next((row for row in (*ROWS, *VARIATIONS) if row.name == name), Row(name, ""))


@dataclass(frozen=True, slots=True)
class Run:
    """One row with one seed."""

    row: Row
    seed: int

    def folder(self, runs: Path) -> Path:
        """Where it is kept."""
        return runs / self.row.name / f"seed{self.seed}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What all runs have in common.

    Args:
        data: where the images are, as of `python -m training`.
        recipe: the recipe's name.
        options: that change it for all rows.
    """

    data: str = "cifar10"
    recipe: str = "cifar-comparison"
    options: str = ""

    def arguments(self, run: Run, folder: Path) -> list[str]:
        """Of `python -m training`."""
        fixed = [self.recipe, "--data", self.data, "--out", str(folder), "--seed", str(run.seed)]
        return [*fixed, *self.options.split(), *run.row.options.split()]

    def recipe_of(self, run: Run) -> Recipe:
        """All that decides what the run does."""
        return read_run(self.arguments(run, Path()))[1]


def finished(path: Path, recipe: Recipe | None = None) -> bool:
    """Whether a checkpoint is at its run's end; and of this recipe, wherever its images were."""
    if not path.exists():
        return False
    progress = load_progress(path)
    theirs = progress.recipe
    if recipe and theirs != recipe.model_copy(update={"data": theirs.data}):
        return False
    return len(progress.epochs) >= theirs.epochs


def runs_of(rows: Sequence[Row]) -> list[Run]:
    """Every run; first the first seed of every row, for a table of all rows comes soonest."""
    deepest = max(row.seeds for row in rows)
    return [Run(row, seed) for seed in range(deepest) for row in rows if seed < row.seeds]


def train_all(wanted: Sequence[Run], runs: Path, plan: Plan, jobs: int) -> None:
    """Train what is not yet trained, `jobs` runs at a time on one thread each.

    Interrupted, it goes on where it was.

    Raises:
        TrainingError: the plan is no recipe.
        subprocess.CalledProcessError: a run failed; its `output.txt` says why.
    """
    left = [
        run for run in wanted if not finished(run.folder(runs) / CHECKPOINT, plan.recipe_of(run))
    ]
    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(_train, run, run.folder(runs), plan) for run in left]
        try:
            for future in track(as_completed(futures), "runs", len(futures)):
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _train(run: Run, folder: Path, plan: Plan) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "output.txt").open("a", encoding="utf-8") as output:
        subprocess.run(
            [sys.executable, "-m", "training", *plan.arguments(run, folder), "--resume"],
            check=True,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
