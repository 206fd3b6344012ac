"""Recipes: the options of a run, and the recipes that have a name."""

from training.recipes.named import RECIPES
from training.recipes.recipe import (
    BackboneName,
    Fraction,
    HeldOutSplit,
    ObjectiveName,
    OptimizerName,
    Recipe,
    Schedule,
)

__all__ = [
    "RECIPES",
    "BackboneName",
    "Fraction",
    "HeldOutSplit",
    "ObjectiveName",
    "OptimizerName",
    "Recipe",
    "Schedule",
]
