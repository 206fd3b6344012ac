"""`python -m training RECIPE --data SOURCE --out FOLDER [--resume] [--option value]`."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from pydantic import ValidationError
from rich.console import Console
from rich.progress import track as rich_track
from torch import Tensor

from training.checkpoint import Epoch, Progress
from training.data import load_dataset
from training.errors import RecipeError, TrainingError
from training.flops import flops_to_exits
from training.recipes import RECIPES, Recipe
from training.report import PAGE, write_assessment, write_report
from training.trainer import Trainer, fit

CHECKPOINT = "checkpoint.safetensors"
INTERRUPTED = 130
# Prefixes of options that are fields of a record within the recipe.
NESTED = {"shape": "shape", "objective": "objective_options"}


def parser() -> argparse.ArgumentParser:
    """The command line: a recipe's name, where to write, and every field of the recipe."""
    made = argparse.ArgumentParser(
        prog="python -m training",
        description="Train a multi-exit network with Deep Feature Surgery.",
        epilog="Fields of the backbone are given as --shape.FIELD, those of the objective as "
        "--objective.FIELD: --shape.exits 5 --objective distillation --objective.share 0.5.",
    )
    made.add_argument("recipe", choices=RECIPES, help="a named recipe; options change its fields")
    made.add_argument("--out", type=Path, required=True, help="folder for checkpoint and report")
    made.add_argument("--resume", action="store_true", help="go on with the run in --out")
    made.add_argument("--device", default="auto", help="cpu, cuda, cuda:1 ...; auto: CUDA if any")
    fields = made.add_argument_group("recipe fields")
    for name, field in Recipe.model_fields.items():
        if name not in NESTED.values():
            fields.add_argument(f"--{name.replace('_', '-')}", dest=name, help=field.description)
    return made


def chosen_recipe(arguments: argparse.Namespace, rest: Sequence[str]) -> Recipe:
    """The named recipe with the options given.

    Raises:
        RecipeError: an option is unknown or its value is out of range.
    """
    named = RECIPES[arguments.recipe]
    changes: dict[str, object] = {
        name: _parsed(text) if text.startswith("[") else text
        for name in Recipe.model_fields
        if (text := getattr(arguments, name, None)) is not None
    }
    nested = _nested_options(rest)
    if changes.get("objective", named.objective) == named.objective:
        nested["objective_options"] = named.objective_options | nested["objective_options"]
    nested["shape"] = named.shape | nested["shape"]
    try:
        return Recipe.model_validate(named.model_dump() | changes | nested)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise RecipeError(f"--{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def _nested_options(rest: Sequence[str]) -> dict[str, dict[str, object]]:
    """The options `--PREFIX.FIELD VALUE` by the recipe's field."""
    words = [word for flag in rest for word in flag.split("=", 1)]
    options: dict[str, dict[str, object]] = {field: {} for field in NESTED.values()}
    for flag, value in zip(words[::2], [*words[1::2], None], strict=False):
        prefix, dot, name = flag.removeprefix("--").partition(".")
        if not flag.startswith("--") or prefix not in NESTED or not dot or value is None:
            raise RecipeError(f"{flag}: no such option, or it lacks a value; see --help")
        options[NESTED[prefix]][name] = _parsed(value)
    return options


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


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
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise RecipeError(f"--device: {name} cannot be used here: {error}") from error


def run(arguments: argparse.Namespace, rest: Sequence[str], console: Console) -> None:
    """Load the images, train, and keep the report up to date."""
    recipe, device = chosen_recipe(arguments, rest), _device(arguments.device)
    dataset = load_dataset(recipe.data, recipe.size, recipe.held_out, recipe.seed)
    progress = Progress(
        recipe_name=arguments.recipe,
        recipe=recipe,
        labels=dataset.labels,
        train_images=len(dataset.train),
        fingerprint=dataset.fingerprint(),
        commit=_commit(),
    )
    trainer = Trainer(progress, dataset, device)
    parameters = sum(p.numel() for p in trainer.network.parameters())
    console.print(
        f"{arguments.recipe}: {trainer.network.exits} exits, {parameters:,} parameters, "
        f"{len(dataset.train):,} training and {len(dataset.held_out):,} held-out images, {device}"
    )
    flops = "  ".join(f"{f / 1e6:.1f}" for f in flops_to_exits(trainer.network, recipe.size))
    console.print(f"flops by exit, millions of multiply-adds: {flops}", highlight=False)

    def track(batches: Iterable[Tensor], steps: int) -> Iterable[Tensor]:
        description = f"epoch {len(trainer.progress.epochs) + 1}/{recipe.epochs}"
        return rich_track(batches, description, steps, console=console, transient=True)

    def report(epoch: Epoch) -> None:
        exits = "  ".join(f"{100 * a:5.2f}" for a in epoch.accuracies)
        console.print(
            f"epoch {epoch.number:3}/{recipe.epochs}  loss {epoch.loss:7.4f}  "
            f"held-out accuracy by exit, %: {exits}  {epoch.seconds:.0f} s"
        )
        write_report(arguments.out, trainer.progress)

    arguments.out.mkdir(parents=True, exist_ok=True)
    fit(trainer, arguments.out / CHECKPOINT, resume=arguments.resume, track=track, report=report)
    write_report(arguments.out, trainer.progress)
    console.print("evaluating exits, calibration and budgets")
    write_assessment(
        arguments.out, trainer.progress, trainer.network, dataset.held_out, recipe.data
    )
    console.print(f"report: {arguments.out / PAGE}")
    console.print(f"done: {arguments.out / CHECKPOINT}")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; the exit status is 0, 1 for a user's error, 130 after Ctrl-C."""
    arguments, rest = parser().parse_known_args(argv)
    console = Console(soft_wrap=True)
    try:
        run(arguments, rest, console)
    except (TrainingError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "stopped; the same command with --resume goes on after the last whole epoch",
            file=sys.stderr,
        )
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
