"""The fields of a recipe, of its backbone and of its objective as options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, Field, ValidationError, create_model

from offramp.command_line.options import Options, explain, given_options
from offramp.errors import UsageError
from training.recipes import Recipe

Model = TypeVar("Model", bound=BaseModel)
COMMAND = "offramp train"
PREFIXES = {"shape": "--shape.", "objective_options": "--objective."}


def recipe_options(defaults: Recipe) -> type[Options]:
    """Return a class with every field of the recipe that is one option, for parsing and help."""
    fields: dict[str, Any] = {
        name: (field.annotation, Field(getattr(defaults, name), description=field.description))
        for name, field in Recipe.model_fields.items()
        if name not in (*PREFIXES, "weights")
    }
    return create_model("recipe", __base__=Options, __doc__="fields of the recipe", **fields)


def nested_options(recipe: Recipe) -> type[Options]:
    """Return a class with the fields of the recipe's backbone and objective."""
    shape, objective = _nested_kinds(recipe)
    foreign = recipe.shape.keys() - shape.model_fields.keys()
    if foreign:
        raise UsageError(
            f"--backbone: {recipe.backbone} has no {', '.join(sorted(foreign))}, which the recipe "
            "sets; choose a recipe that does not, such as cifar-paper"
        )
    of_backbone = validated(shape, recipe.shape, "shape")
    of_objective = validated(objective, recipe.objective_options, "objective")
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


def with_nested(recipe: Recipe, named: Recipe, arguments: Sequence[str]) -> Recipe:
    """Return the recipe with the nested options, validated by the backbone and the objective."""
    if recipe.objective != named.objective:
        recipe = recipe.model_copy(update={"objective_options": {}})
    if not arguments:
        return recipe
    (given,) = given_options([nested_options(recipe)], arguments, COMMAND)
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
    values = validated(kind, {**fields, **given}, prefix).model_dump(mode="json")
    return {**fields, **{name: values[name] for name in given}}


def validated(kind: type[Model], values: Mapping[str, object], prefix: str = "") -> Model:
    """Return the values as a record of that kind.

    Raises:
        UsageError: A value is not allowed.
    """
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        text = explain(error, kind, values, prefix)
        raise UsageError(text if text.startswith("--") else f"--{text}") from error
