"""The options of the comparison of static networks with chains."""

from __future__ import annotations

import argparse

from benchmarks.timing import positive_int
from benchmarks.training.photos.command import RECIPES as PHOTOS
from benchmarks.training.photos.command import add_recipe, runs_parser
from benchmarks.training.photos.static.rows import RECIPES, Choice

SIZES = (96, 128, 160, 192)  # of photos


def named(text: str) -> tuple[str, str]:
    """Parse an argument NAME=OPTIONS.

    Raises:
        argparse.ArgumentTypeError: It has another form.
    """
    name, equals, options = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=OPTIONS")
    return name, options


def build_parser(description: str) -> argparse.ArgumentParser:
    """Return the command-line parser."""
    parser = runs_parser(description, "runs/static")
    option = parser.add_argument
    add_recipe(parser, RECIPES)
    text = f"pixels (default: {SIZES} for photos, none for CIFAR)"
    option("--sizes", type=positive_int, nargs="*", help=text)
    option("--cuts", type=positive_int, nargs="*", default=[8, 11, 13], help="last blocks")
    option("--cut-sizes", type=positive_int, nargs="*", default=[], help="pixels, for --cuts too")
    text = "another static network, with options of training that replace those of the recipe"
    option("--network", type=named, action="append", default=[], metavar="NAME=OPTIONS", help=text)
    text = "another chain, with options of training"
    option("--chain", type=named, action="append", default=[], metavar="NAME=OPTIONS", help=text)
    option("--first-size", type=positive_int, default=128, help="pixels, for small-first")
    option("--seeds", type=positive_int, default=3, help="runs of each row")
    option("--rows", nargs="+", metavar="NAME", help="only these rows")
    return parser


def choice_of(given: argparse.Namespace) -> Choice:
    """Return the static networks that the options name."""
    known = SIZES if given.recipe in PHOTOS else ()
    return Choice(
        known if given.sizes is None else given.sizes,
        given.cuts,
        given.cut_sizes,
        dict(given.network),
        dict(given.chain),
        given.first_size,
        given.seeds,
    )
