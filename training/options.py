"""The command line of `python -m training`, and the recipe it asks for."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from training.errors import RecipeError
from training.recipes import RECIPES, Recipe

# Prefixes of options that are fields of a record within the recipe.
NESTED = {"shape": "shape", "objective": "objective_options"}


def parser() -> argparse.ArgumentParser:
    """The command line: a recipe's name, where to write, and every field of the recipe."""
    made = argparse.ArgumentParser(
        prog="python -m training",
        description="Train a multi-exit network with Deep Feature Surgery. On several GPUs: "
        "torchrun --nproc-per-node K -m training RECIPE ...",
        epilog="Fields of the backbone are given as --shape.FIELD, those of the objective as "
        "--objective.FIELD: --shape.exits 5 --objective distillation --objective.share 0.5.",
    )
    made.add_argument("recipe", choices=RECIPES, help="a named recipe; options change its fields")
    made.add_argument("--out", type=Path, required=True, help="folder for checkpoint and report")
    made.add_argument("--resume", action="store_true", help="go on with the run in --out")
    _add_ways(made)
    fields = made.add_argument_group("recipe fields")
    for name, field in Recipe.model_fields.items():
        if name not in NESTED.values():
            fields.add_argument(f"--{name.replace('_', '-')}", dest=name, help=field.description)
    return made


def _add_ways(made: argparse.ArgumentParser) -> None:
    """Options that are no part of the recipe, for they decide how it is run, not what comes out."""
    made.add_argument("--device", default="auto", help="cpu, cuda, cuda:1 ...; auto: CUDA if any")
    made.add_argument(
        "--images",
        default="auto",
        choices=("auto", "memory", "disk"),
        help="where they are held; auto: in memory if they take at most 4 GiB",
    )
    made.add_argument(
        "--workers",
        type=_whole_number,
        help="processes that decode images on disk (default: cores)",
    )
    made.add_argument(
        "--save-every", type=_whole_number, metavar="STEPS", help="checkpoints within an epoch, too"
    )
    made.add_argument(
        "--compile",
        nargs="?",
        const="inductor",
        metavar="BACKEND",
        help="compile network and objective, by torch.compile's inductor or another backend",
    )


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


def _whole_number(text: str) -> int:
    if (number := int(text)) < 0:
        raise ValueError
    return number
