"""The options of the commands that train rows of the recipe `photos`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.timing import positive_int

RECIPES = ("photos-quick", "photos")


def runs_parser(description: str, runs: str) -> argparse.ArgumentParser:
    """Return a command-line parser with the options of all runs.

    Args:
        description: What the command does.
        runs: Default folder of the runs.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    option, required = parser.add_argument, argparse.SUPPRESS
    text = "images with a test split, as for `python -m training`"
    option("--data", required=True, default=required, help=text)
    option("--runs", type=Path, default=Path(runs), help="folder of trained runs")
    option("--out", type=Path, required=True, default=required, help="folder for the results")
    option("--options", default="", help="more options of all runs, such as '--size 128'")
    option("--jobs", type=positive_int, default=1, help="runs at the same time")
    option("--no-training", action="store_true", help="use only runs that are finished")
    return parser


def add_recipe(parser: argparse.ArgumentParser, recipes: Sequence[str] = RECIPES) -> None:
    """Add the choice between heads on cached features of frozen trunks, and fine-tuning."""
    text = "photos-quick: frozen trunks, minutes for a run. photos: fine-tuning"
    parser.add_argument("--recipe", choices=recipes, default=recipes[0], help=text)
