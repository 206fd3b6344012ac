"""The command line of `python -m training`, and the recipe it asks for."""

from __future__ import annotations

import argparse
import json
from collections.abc import Collection, Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import NoReturn

from pydantic import ValidationError

from training.errors import RecipeError
from training.recipes import RECIPES, Recipe

# Prefixes of options that are fields of a record within the recipe.
NESTED = {"shape": "shape", "objective": "objective_options"}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Raise what a wrong value of a recipe's field raises."""
        raise RecipeError(message.removeprefix("argument "))


def parser() -> argparse.ArgumentParser:
    """The command line: a recipe's name, where to write, and every field of the recipe.

    It raises RecipeError where argparse would exit.
    """
    made = _Parser(
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
            fields.add_argument(_option(name), dest=name, help=field.description)
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

    What the first epochs' images are smaller by, and how many epochs these are, stays in the
    named recipe's proportion to `size` and `epochs` unless it is given.

    Raises:
        RecipeError: an option is unknown or its value is out of range.
    """
    named = RECIPES[arguments.recipe]
    changes: dict[str, object] = {
        name: _parsed(text) if text.startswith("[") or text == "null" else text
        for name in Recipe.model_fields
        if (text := getattr(arguments, name, None)) is not None
    }
    nested = _nested_options(rest, vars(arguments).keys() - {"recipe"})
    if changes.get("objective", named.objective) == named.objective:
        nested["objective_options"] = named.objective_options | nested["objective_options"]
    nested["shape"] = named.shape | nested["shape"]
    try:
        recipe = Recipe.model_validate(named.model_dump() | changes | nested)
    except ValidationError as error:
        raise RecipeError(_what_is_wrong(error)) from error
    return _with_small_epochs(recipe, named, changes.keys())


def _what_is_wrong(error: ValidationError) -> str:
    """The first thing; of several forms that a value may have, in the one it comes nearest to."""
    first = max(error.errors(include_url=False), key=lambda one: len(one["loc"]))
    if not first["loc"]:
        return f"--{first['ctx']['error']}"
    name = str(first["loc"][0])
    said = first["msg"][0].lower() + first["msg"][1:]
    described = Recipe.model_fields[name].description
    return f"{_option(name)}: {first['input']}: {said} ({described})"


def _with_small_epochs(recipe: Recipe, named: Recipe, given: Collection[str]) -> Recipe:
    """The recipe with `small_size` and `small_epochs` in proportion, or as given and checked."""
    in_proportion: dict[str, int] = {}
    if named.small_size and "small_size" not in given:
        in_proportion["small_size"] = max(1, named.small_size * recipe.size // named.size)
    if "small_epochs" not in given:
        in_proportion["small_epochs"] = named.small_epochs * recipe.epochs // named.epochs
    recipe = recipe.model_copy(update=in_proportion)
    if recipe.small_size and recipe.small_size > recipe.size:
        raise RecipeError(
            f"--small-size: {recipe.small_size} is more than --size, {recipe.size}; give at most "
            "that, or null"
        )
    if recipe.small_size and recipe.small_epochs >= recipe.epochs:
        raise RecipeError(
            f"--small-epochs: {recipe.small_epochs} of {recipe.epochs} epochs leave none at full "
            f"size; give at most {recipe.epochs - 1}"
        )
    return recipe


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _nested_options(rest: Sequence[str], known: Iterable[str]) -> dict[str, dict[str, object]]:
    """The options `--PREFIX.FIELD VALUE` by the recipe's field; `known` are names of others."""
    words = [word for flag in rest for word in flag.split("=", 1)]
    options: dict[str, dict[str, object]] = {field: {} for field in NESTED.values()}
    for flag, value in zip(words[::2], [*words[1::2], None], strict=False):
        prefix, dot, name = flag.removeprefix("--").partition(".")
        if not flag.startswith("--") or prefix not in NESTED or not dot:
            near = get_close_matches(flag, map(_option, known), n=1)
            hint = f"did you mean {near[0]}?" if near else "--help lists them"
            raise RecipeError(f"{flag}: no such option; {hint}")
        if value is None:
            raise RecipeError(f"{flag}: a value is missing")
        options[NESTED[prefix]][name] = _parsed(value)
    return options


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _whole_number(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text}: give a whole number, 0 or more")
    return int(text)
