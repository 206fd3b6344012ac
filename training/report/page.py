"""The HTML page of a run: without scripts and external references, every value escaped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import torch
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from offramp.data.records import printable
from training.evaluation.assessment import BUDGET_SHARES, Assessment
from training.evaluation.budgeted import LESS, SHARES
from training.fit.checkpoint import Progress, new_network
from training.networks.flops import flop_costs, parameter_costs
from training.recipes import RECIPES, Recipe
from training.report.classes import NUMBERED, ClassResults
from training.report.examples import PhotoGroup

TEMPLATE = "report.html"  # includes classes.html
CLASSES = 100  # most classes of which all are in the table
LOWEST = 50  # classes in the table if there are more
CONFUSIONS = 20  # pairs of classes in the table
PSEUDO_LABELS = "pseudo-labels: the predictions of the frozen network at full depth"
NAME = 48  # characters of a class name


@dataclass(frozen=True, slots=True)
class HeldOutDetails:
    """The classes and photos of the held-out images, and the photos by exit."""

    classes: ClassResults
    wrong: tuple[PhotoGroup, ...]
    leaving: tuple[PhotoGroup, ...]


def render(
    progress: Progress,
    figures: Mapping[str, str],
    assessment: Assessment | None,
    details: HeldOutDetails | None = None,
) -> str:
    """Render the page.

    Args:
        progress: State of the run.
        figures: `<svg>` elements by name from `training.report.figures`, which are not escaped.
        assessment: Evaluation of the finished run. `None`: the page shows the epochs alone.
        details: Classes and photos of the finished run. `None`: the page has no such sections.
    """
    flops, parameters = costs(progress)
    before = starts_of(progress)[-1]  # stages that full depth does not run
    return _template().render(
        progress=progress,
        recipe=progress.recipe,
        facts=_facts(progress),
        costs=list(zip(flops, parameters, strict=True)),
        full=flops[-1] - (flops[before - 1] if before else 0),
        # matplotlib escapes the text of its figures
        figures={name: Markup(drawn) for name, drawn in figures.items()},  # noqa: S704
        assessment=assessment,
        shares=SHARES,
        less=LESS,
        budgets=BUDGET_SHARES,
        has_details=details is not None,
        **(_details(details) if details else {}),
    )


@cache
def _template() -> Template:
    """Return the template, which is compiled once, although every epoch writes a page."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, loader=FileSystemLoader(Path(__file__).parent)
    )
    environment.filters |= {"percent": _percent, "millions": _millions, "decimal": _decimal}
    environment.filters["name"] = _name
    return environment.get_template(TEMPLATE)


def _details(details: HeldOutDetails) -> dict[str, object]:
    classes = details.classes
    return {
        "classes": classes,
        "class_rows": classes.rows(None if len(classes.labels) <= CLASSES else LOWEST),
        "matrix": classes.matrix(),
        "numbered": NUMBERED,
        "confusions": classes.confusions(CONFUSIONS),
        "wrong": details.wrong,
        "leaving": details.leaving,
    }


def costs(progress: Progress) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Compute the flops and parameters up to each exit, with all heads on the way."""
    return _costs(progress.recipe.model_dump_json(), len(progress.labels))[:2]


def starts_of(progress: Progress) -> tuple[int, ...]:
    """Return the first stage of each part of the network, from 0."""
    return _costs(progress.recipe.model_dump_json(), len(progress.labels))[2]


@lru_cache(1)  # every epoch writes a page
def _costs(
    recipe_json: str, classes: int
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Return flops and parameters up to each exit, and the first stage of each part."""
    recipe = Recipe.model_validate_json(recipe_json)
    with torch.device("meta"):
        network = new_network(recipe, classes)
    flops = flop_costs(network, recipe.size).cumulative
    return flops, parameter_costs(network).cumulative, network.starts


def _facts(progress: Progress) -> list[tuple[str, str]]:
    recipe, epochs = progress.recipe, progress.epochs
    minutes = sum(epoch.seconds for epoch in epochs) / 60
    return [
        ("recipe", progress.recipe_name),
        ("changed fields", ", ".join(changes(progress)) or "none"),
        ("images", f"{recipe.data}, {recipe.size} x {recipe.size} pixels{_smaller(progress)}"),
        ("training images", f"{progress.train_images:,}, of {len(progress.labels)} classes"),
        ("epochs", f"{len(epochs)} of {recipe.epochs}, in {minutes:.1f} minutes"),
        ("labels", PSEUDO_LABELS if recipe.pseudo_labels else "of the data set"),
        ("seed", str(recipe.seed)),
        ("commit", progress.commit),
    ]


def _smaller(progress: Progress) -> str:
    size, last = progress.recipe.first_size, starts_of(progress)[-1]
    exits = f"exits 1 to {last}" if last > 1 else "exit 1"
    return f", and {size} x {size} for {exits}" if size else ""


def changes(progress: Progress) -> list[str]:
    """List the fields of recipe and backbone that differ from the recipe of the run's name."""
    used = _flat(progress.recipe)
    named = _flat(RECIPES.get(progress.recipe_name, Recipe()))
    changed = [name for name in used | named if used.get(name) != named.get(name)]
    return [f"{name} = {used[name]}" if name in used else f"no {name}" for name in changed]


def _flat(recipe: Recipe) -> dict[str, str]:
    fields = recipe.model_dump(mode="json")
    shape = fields.pop("shape")
    fields |= {f"shape.{name}": value for name, value in shape.items()}
    return {name: json.dumps(value) for name, value in fields.items()}


def _name(label: str, most: int | None = NAME) -> str:
    """Return the name of a class on one line, shortened to `most` characters."""
    line = printable(label)
    return line if most is None or len(line) <= most else f"{line[: most - 1]}…"


def _percent(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f}"  # noqa: RUF001


def _decimal(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"  # noqa: RUF001


def _millions(value: float) -> str:
    return f"{value / 1e6:.2f}"
