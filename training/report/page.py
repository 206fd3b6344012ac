"""A run as one HTML page: no script, nothing loaded from elsewhere, every value escaped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from training.evaluation.assessment import BUDGETS, Assessment
from training.evaluation.budgeted import LESS, SHARES
from training.fit.checkpoint import Progress, new_network
from training.networks.flops import flop_costs, parameter_costs
from training.recipes import RECIPES, Recipe

TEMPLATE = Path(__file__).with_name("report.html")


def render(progress: Progress, figures: Mapping[str, str], assessment: Assessment | None) -> str:
    """The page.

    Args:
        progress: the run; without `assessment` the page shows its epochs only.
        figures: `<svg>` elements by name, as `training.report.figures` draws them; not escaped.
        assessment: what the finished run is worth.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    environment.filters |= {"percent": _percent, "millions": _millions, "share": _share}
    flops, parameters = costs(progress)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        progress=progress,
        recipe=progress.recipe,
        facts=_facts(progress),
        costs=list(zip(flops, parameters, strict=True)),
        full=flops[-1],
        # drawn by matplotlib, which escapes what it writes
        figures={name: Markup(drawn) for name, drawn in figures.items()},  # noqa: S704
        assessment=assessment,
        shares=SHARES,
        less=LESS,
        budgets=BUDGETS,
    )


def costs(progress: Progress) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Flops and parameters to leave at each exit, all heads on the way included."""
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
        ("images", f"{recipe.data}, at {recipe.size} pixels"),
        ("trained on", f"{progress.train_images:,} images of {len(progress.labels)} classes"),
        ("epochs", f"{len(epochs)} of {recipe.epochs}, {minutes:.1f} minutes in all"),
        ("seed", str(recipe.seed)),
        ("commit", progress.commit),
    ]


def changes(progress: Progress) -> list[str]:
    """The fields, and the backbone's, in which a run differs from the recipe of its name."""
    ours = _flat(progress.recipe)
    named = _flat(RECIPES.get(progress.recipe_name, Recipe()))
    apart = [name for name in ours | named if ours.get(name) != named.get(name)]
    return [f"{name} = {ours[name]}" if name in ours else f"no {name}" for name in apart]


def _flat(recipe: Recipe) -> dict[str, str]:
    fields = recipe.model_dump(mode="json")
    shape = fields.pop("shape")
    fields |= {f"shape.{name}": value for name, value in shape.items()}
    return {name: json.dumps(value) for name, value in fields.items()}


def _percent(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f}"  # noqa: RUF001


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"  # noqa: RUF001


def _millions(value: float) -> str:
    return f"{value / 1e6:.2f}"
