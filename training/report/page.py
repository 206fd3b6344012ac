"""The HTML page of a run: without scripts and external references, every value escaped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from training.evaluation.assessment import BUDGET_SHARES, Assessment
from training.evaluation.budgeted import LESS, SHARES
from training.fit.checkpoint import Progress, new_network
from training.networks.flops import flop_costs, parameter_costs
from training.recipes import RECIPES, Recipe

TEMPLATE = Path(__file__).with_name("report.html")


def render(progress: Progress, figures: Mapping[str, str], assessment: Assessment | None) -> str:
    """Render the page.

    Args:
        progress: state of the run.
        figures: `<svg>` elements by name from `training.report.figures`, which are not escaped.
        assessment: evaluation of the finished run. `None`: the page shows the epochs alone.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    environment.filters |= {"percent": _percent, "millions": _millions, "decimal": _decimal}
    flops, parameters = costs(progress)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        progress=progress,
        recipe=progress.recipe,
        facts=_facts(progress),
        costs=list(zip(flops, parameters, strict=True)),
        full=flops[-1],
        # matplotlib escapes the text of its figures
        figures={name: Markup(drawn) for name, drawn in figures.items()},  # noqa: S704
        assessment=assessment,
        shares=SHARES,
        less=LESS,
        budgets=BUDGET_SHARES,
    )


def costs(progress: Progress) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Compute the flops and parameters up to each exit, with all heads on the way."""
    with torch.device("meta"):
        network = new_network(progress.recipe, len(progress.labels))
    flops = flop_costs(network, progress.recipe.size).cumulative
    return flops, parameter_costs(network).cumulative


def _facts(progress: Progress) -> list[tuple[str, str]]:
    recipe, epochs = progress.recipe, progress.epochs
    minutes = sum(epoch.seconds for epoch in epochs) / 60
    return [
        ("recipe", progress.recipe_name),
        ("changed fields", ", ".join(changes(progress)) or "none"),
        ("images", f"{recipe.data}, {recipe.size} x {recipe.size} pixels"),
        ("training images", f"{progress.train_images:,}, of {len(progress.labels)} classes"),
        ("epochs", f"{len(epochs)} of {recipe.epochs}, in {minutes:.1f} minutes"),
        ("seed", str(recipe.seed)),
        ("commit", progress.commit),
    ]


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


def _percent(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f}"  # noqa: RUF001


def _decimal(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"  # noqa: RUF001


def _millions(value: float) -> str:
    return f"{value / 1e6:.2f}"
