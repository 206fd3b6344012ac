"""Define and train the runs that compare objectives: recipe, options of each row, seeds."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from rich.progress import track

from training.fit.checkpoint import load_progress
from training.options import read_run
from training.output_folder import CHECKPOINT
from training.recipes import Recipe

SEED = "{seed}"  # in a location of images


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the comparison.

    Args:
        name: Name of the row and of the folder of its runs.
        options: Options of `python -m training` beside the recipe.
        seeds: Number of runs, with seeds from 0.
        against: Name of the baseline: the row with the same network that differs only in the
            compared option. A row without a baseline names itself.
    """

    name: str
    options: str
    seeds: int = 1
    against: str = "joint"


# The objective is stated, because a recipe can have another one.
JOINT = "--variant joint --objective joint"
RELEASED = "--variant released --objective joint"
BYOT = (  # with the authors' constants
    "--objective distillation --objective.share 0.3 --objective.scaled false --objective.ramp 0 "
    "--objective.hint 0.03"
)
# with the temperature squared, a ramp, and no distance between features
SCALED = (
    "--objective distillation --objective.share 0.5 --objective.scaled true --objective.ramp 0.2 "
    "--objective.hint 0"
)
ROWS = (
    Row("joint", JOINT, seeds=3),
    Row("dfs-released", RELEASED, seeds=3),
    Row("dfs-paper", "--variant paper --objective joint"),
    Row("dfs-unreferenced", "--variant unreferenced --objective joint"),
    Row("dfs-conflict", f"{RELEASED} --surgery-rule conflict"),
    Row("equilibrium", "--variant joint --objective equilibrium"),
    Row("distillation", f"--variant joint {BYOT}"),
    Row("distillation-scaled", f"--variant joint {SCALED}"),
    Row("distillation-ensemble", f"--variant joint {SCALED} --objective.teacher ensemble"),
    Row("mixed", f"{JOINT} --objective.backbone_first 0.5"),
    Row("additive", f"{JOINT} --additive-heads 0.5"),
    Row("block-dependent", "--variant joint --objective block-dependent"),
    Row("pcgrad", "--variant joint --objective pcgrad"),
    Row("cagrad", "--variant joint --objective cagrad"),
    Row("nash-mtl", "--variant joint --objective nash-mtl"),
    Row("meta-gf", "--variant joint --objective meta-gf"),
)

# Explain the results of DFS, and try improvements.
MUON = "--optimizer muon --muon-lr 0.09 --lr 0.05 --momentum 0.8"
VARIATIONS = (
    Row("joint-muon", f"{JOINT} {MUON}"),
    Row("dfs-released-muon", f"{RELEASED} {MUON}", against="joint-muon"),
    Row("joint-dropout", f"{JOINT} --shape.head_dropout 0.5"),
    Row(
        "dfs-released-dropout",
        f"{RELEASED} --shape.head_dropout 0.5",
        against="joint-dropout",
    ),
    # another network, which has no baseline
    Row("joint-wide", f"{JOINT} --shape.head_channels 128", against="joint-wide"),
    Row("dfs-released-wide", f"{RELEASED} --shape.head_channels 128", against="joint-wide"),
    Row("dfs-released-beta0.25", f"{RELEASED} --beta 0.25"),
    Row("dfs-released-beta0.75", f"{RELEASED} --beta 0.75"),
    # the same mean as 0.5. Lists have no blanks, because options are split at blanks
    Row(
        "dfs-released-beta-rising",
        f"{RELEASED} --beta [0.3,0.5,0.7]",
        against="dfs-released",
    ),
    Row(
        "dfs-released-beta-falling",
        f"{RELEASED} --beta [0.7,0.5,0.3]",
        against="dfs-released",
    ),
    Row("joint-ema", f"{JOINT} --ema 0.995"),
    Row("additive-equilibrium", "--variant joint --additive-heads 0.5 --objective equilibrium"),
    Row("dfs-released-first-boundary", f"{RELEASED} --surgery-boundaries 1"),
    Row("dfs-conflict-paper", "--variant paper --objective joint --surgery-rule conflict"),
    Row("dfs-conflict-direction", f"{RELEASED} --surgery-rule conflict --conflict-scale null"),
    Row(
        "dfs-conflict-distillation",
        f"--variant released --surgery-rule conflict {SCALED}",
        against="distillation-scaled",
    ),
    Row(
        "distillation-hint-per-image",
        f"--variant joint {BYOT} --objective.hint_per_image true",
        against="distillation",
    ),
    Row("joint-weights-rising", f"{JOINT} --objective.weights [0.4,0.8,1.2,1.6]"),
    Row("joint-weights-falling", f"{JOINT} --objective.weights [1.6,1.2,0.8,0.4]"),
    Row(
        "dfs-released-weights-rising",
        f"{RELEASED} --objective.weights [0.4,0.8,1.2,1.6]",
        against="dfs-released",
    ),
    Row(
        "dfs-released-weights-falling",
        f"{RELEASED} --objective.weights [1.6,1.2,0.8,0.4]",
        against="dfs-released",
    ),
    Row("dfs-released-distillation", f"--variant released {BYOT}"),
    Row("dfs-released-equilibrium", "--variant released --objective equilibrium"),
)


def row_named(name: str) -> Row:
    """Return the row with this name. The baseline of an unlisted row is `joint`."""
    return next((row for row in (*ROWS, *VARIATIONS) if row.name == name), Row(name, ""))


@dataclass(frozen=True, slots=True)
class Run:
    """A row with one seed."""

    row: Row
    seed: int

    def folder(self, runs: Path) -> Path:
        """Return the folder of the run."""
        return runs / self.row.name / f"seed{self.seed}"


@dataclass(frozen=True, slots=True)
class Plan:
    """Settings of all runs.

    Args:
        data: Location of the images, as for `python -m training`. `{seed}` in it is replaced by
            the seed of a run, so that each seed has its own fold of a cross-validation.
        recipe: Name of the recipe.
        options: Options that change the recipe for all rows.
    """

    data: str = "cifar10"
    recipe: str = "cifar-comparison"
    options: str = ""

    @property
    def one_source(self) -> str | None:
        """Location of the images of all runs. `None`: each seed has its own."""
        return None if SEED in self.data else self.data

    def arguments(self, run: Run, folder: Path) -> list[str]:
        """Return the arguments of `python -m training`."""
        data = self.data.replace(SEED, str(run.seed))
        fixed = [self.recipe, "--data", data, "--out", str(folder), "--seed", str(run.seed)]
        return [*fixed, *self.options.split(), *run.row.options.split()]

    def recipe_of(self, run: Run) -> Recipe:
        """Return the recipe of a run, with all options applied."""
        return read_run(self.arguments(run, Path()))[1]


def finished(path: Path, recipe: Recipe | None = None) -> bool:
    """Return True for the checkpoint of a finished run, of this recipe if one is given.

    The location of the images is not compared.
    """
    if not path.exists():
        return False
    progress = load_progress(path)
    actual = progress.recipe
    if recipe and actual != recipe.model_copy(update={"data": actual.data}):
        return False
    return len(progress.epochs) >= actual.epochs


def runs_of(rows: Sequence[Row]) -> list[Run]:
    """Return all runs, ordered by seed, so that the first table of all rows is complete early."""
    seeds = max(row.seeds for row in rows)
    return [Run(row, seed) for seed in range(seeds) for row in rows if seed < row.seeds]


def train_all(wanted: Sequence[Run], runs: Path, plan: Plan, jobs: int) -> None:
    """Train the runs that are not finished, `jobs` at a time with one thread each.

    An interrupted run is resumed.

    Raises:
        TrainingError: The plan gives no valid recipe.
        subprocess.CalledProcessError: A run failed. Its `output.txt` has the reason.
    """
    remaining = [
        run for run in wanted if not finished(run.folder(runs) / CHECKPOINT, plan.recipe_of(run))
    ]
    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(train, run, runs, plan) for run in remaining]
        try:
            for future in track(as_completed(futures), "runs", len(futures)):
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def train(run: Run, runs: Path, plan: Plan, seconds: float | None = None) -> None:
    """Train a run with one thread, or resume it.

    Raises:
        subprocess.CalledProcessError: It failed. `output.txt` in its folder has the reason.
        subprocess.TimeoutExpired: It did not end in so many seconds. It can be resumed.
    """
    folder = run.folder(runs)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "output.txt").open("a", encoding="utf-8") as output:
        subprocess.run(
            [sys.executable, "-m", "training", *plan.arguments(run, folder), "--resume"],
            check=True,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            timeout=seconds,
        )
