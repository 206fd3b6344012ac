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
from training.recipes.weights import PLAIN, Resizing, Weights

__all__ = [
    "PLAIN",
    "RECIPES",
    "BackboneName",
    "Fraction",
    "HeldOutSplit",
    "ObjectiveName",
    "OptimizerName",
    "Recipe",
    "Resizing",
    "Schedule",
    "Weights",
]
