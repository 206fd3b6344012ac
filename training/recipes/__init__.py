"""Recipes: the options of a run, and the recipes that have a name."""

from training.recipes.images import HeldOutSplit
from training.recipes.named import RECIPES
from training.recipes.network import BackboneName, Fraction
from training.recipes.optimization import BatchNormMode, OptimizerName, Schedule
from training.recipes.recipe import ClassWeights, ObjectiveName, Recipe
from training.recipes.weights import PLAIN, Resizing, Weights

__all__ = [
    "PLAIN",
    "RECIPES",
    "BackboneName",
    "BatchNormMode",
    "ClassWeights",
    "Fraction",
    "HeldOutSplit",
    "ObjectiveName",
    "OptimizerName",
    "Recipe",
    "Resizing",
    "Schedule",
    "Weights",
]
