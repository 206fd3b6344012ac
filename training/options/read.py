"""The command line of `offramp train`, read as the options of a run and its recipe."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from offramp.command_line.options import Options, explain, given_options
from offramp.command_line.parser import hint
from offramp.errors import UsageError
from training.options.recipe_options import (
    COMMAND,
    PREFIXES,
    nested_options,
    recipe_options,
    validated,
    with_nested,
)
from training.options.run_options import RunOptions
from training.recipes import RECIPES, Recipe

EPILOG = """\
The values above are those of cifar-paper. For the values of a recipe, and for the options of its
backbone (--shape.FIELD) and its objective (--objective.FIELD): offramp train RECIPE --help
On several GPUs: torchrun --nproc-per-node K -m training RECIPE ..."""


def read_run(arguments: Sequence[str]) -> tuple[RunOptions, Recipe]:
    """Return the options of a run, and the named recipe with the fields that the options change.

    `small_size` and `small_epochs` keep the named recipe's ratio to `size` and `epochs`, unless
    they are given.

    Raises:
        UsageError: An option is unknown, or its value is not allowed.
    """
    if "--help" in arguments or "-h" in arguments:
        _print_help(arguments)
    plain, nested = _split(arguments)
    kinds: list[type[Options]] = [RunOptions, recipe_options(Recipe())]
    given, changes = given_options(kinds, plain, COMMAND)
    options = _run_options(given)
    named = _named(options.recipe)
    recipe = validated(Recipe, named.model_dump() | changes)
    _check_images(options, recipe)
    _check_rates(recipe, changes)
    recipe = with_nested(recipe, named, nested)
    return options, _with_small_epochs(recipe, named, changes.keys())


def _run_options(given: dict[str, Any]) -> RunOptions:
    try:
        return RunOptions(**given)
    except ValidationError as error:
        raise UsageError(explain(error, RunOptions, given)) from error


def _check_images(options: RunOptions, recipe: Recipe) -> None:
    """Check that the images can be kept where the options say, and who names their classes."""
    if options.images == "memory" and (recipe.crop == "resized" or recipe.cache_features):
        option = "--crop resized" if recipe.crop == "resized" else "--cache-features true"
        raise UsageError(f"--images: {option} needs the files on disk; give disk or auto")
    if options.class_names and not recipe.pseudo_labels:
        raise UsageError(
            "--class-names: the labels of the images name their classes; leave it out, or give "
            "--pseudo-labels true"
        )


def _check_rates(recipe: Recipe, given: Mapping[str, object]) -> None:
    """Check that no rate of a trunk that is not trained is given. A recipe can have one."""
    for name, without in {"trunk_lr": None, "layer_decay": 1}.items():
        if recipe.freeze == "trunk" and given.get(name, without) != without:
            raise UsageError(
                f"--{name.replace('_', '-')}: --freeze trunk trains only heads; leave it out, or "
                "give --freeze none"
            )


def _print_help(arguments: Sequence[str]) -> None:
    """Print the help, of the recipe that the arguments name if any, and raise SystemExit."""
    name = next((word for word in arguments if word in RECIPES), None)
    if name is None:
        given_options([RunOptions, recipe_options(Recipe())], ["--help"], COMMAND, EPILOG)
        return
    recipe = RECIPES[name]
    kinds: list[type[Options]] = [RunOptions, recipe_options(recipe)]
    words = [word for word in _split(arguments)[0] if word not in ("-h", "--help")]
    _, changes = given_options(kinds, words, COMMAND)
    recipe = with_nested(validated(Recipe, recipe.model_dump() | changes), recipe, [])
    epilog = f"The values above are those of {name}, and of the options before --help."
    given_options(
        [RunOptions, recipe_options(recipe), nested_options(recipe)], ["--help"], COMMAND, epilog
    )


def _named(name: str) -> Recipe:
    if name not in RECIPES:
        raise UsageError(f"{name}: no such recipe; {hint(name, RECIPES)}")
    return RECIPES[name]


def _split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the arguments without the nested options, and the nested options."""
    plain: list[str] = []
    nested: list[str] = []
    words = list(arguments)
    while words:
        word = words.pop(0)
        if not word.startswith(tuple(PREFIXES.values())):
            plain.append(word)
            continue
        nested.append(word)
        if "=" not in word and words and not words[0].startswith("--"):
            nested.append(words.pop(0))
    return plain, nested


def _with_small_epochs(recipe: Recipe, named: Recipe, given: Collection[str]) -> Recipe:
    """Return the recipe with `small_size` and `small_epochs` in proportion, or as given."""
    in_proportion: dict[str, int] = {}
    if named.small_size and "small_size" not in given:
        in_proportion["small_size"] = max(1, named.small_size * recipe.size // named.size)
    if "small_epochs" not in given:
        in_proportion["small_epochs"] = named.small_epochs * recipe.epochs // named.epochs
    recipe = recipe.model_copy(update=in_proportion)
    _check_small_epochs(recipe)
    _check_both(recipe, named, given)
    return recipe


def _check_both(recipe: Recipe, named: Recipe, given: Collection[str]) -> None:
    """Check that neither of the two options is given alone, if the recipe has not the other."""
    if "small_size" in given and "small_epochs" not in given:
        if recipe.small_size and not named.small_epochs:
            raise UsageError(
                f"--small-size: no epoch trains at {recipe.small_size} pixels; give --small-epochs"
            )
    elif recipe.small_epochs and "small_size" not in given and not recipe.small_size:
        raise UsageError(
            f"--small-epochs: there is no smaller size for {recipe.small_epochs} epochs; give "
            "--small-size"
        )


def _check_small_epochs(recipe: Recipe) -> None:
    if recipe.small_size and recipe.small_size > recipe.size:
        raise UsageError(
            f"--small-size: {recipe.small_size} is more than --size, {recipe.size}; give at most "
            "that, or null"
        )
    if recipe.small_size and recipe.small_epochs >= recipe.epochs:
        raise UsageError(
            f"--small-epochs: {recipe.small_epochs} of {recipe.epochs} epochs leave no epoch at "
            f"full size; give at most {recipe.epochs - 1}"
        )
