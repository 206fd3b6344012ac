"""Every number among the options of every command has an upper bound."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from threading import TIMEOUT_MAX
from typing import get_args

import pytest
from annotated_types import Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from offramp.bounds import MAX_NUMBER, MAX_SECONDS

CLASSES = (
    "exporter.options:ExportOptions",
    "exporter.options:RecalibrateOptions",
    "exporter.cascade.options:CascadeOptions",
    "exporter.certify.options:CertifyOptions",
    "exporter.design.options:DesignOptions",
    "exporter.quantize.options:QuantizeOptions",
    "offramp.commands.bench:BenchOptions",
    "offramp.commands.classify:ClassifyOptions",
    "offramp.commands.evaluate:EvaluateOptions",
    "offramp.commands.models:LoadOptions",
    "serving.settings:Settings",
    "training.options.run_options:RunOptions",
    "training.recipes:Recipe",
)
# The API bounds the first. The second is only compared with the time that has passed. Means and
# deviations of weights are those of a file.
WITHOUT_BOUND = {"min_confidence", "deadline_ms", "mean", "std"}


def unbounded(annotation: object, metadata: Sequence[object]) -> Iterator[object]:
    """Yield the numbers in a type that have no upper bound."""
    flat = [each for one in metadata for each in getattr(one, "metadata", [one])]
    if any(isinstance(each, Le | Lt) for each in flat):
        return
    if annotation in (int, float):
        yield annotation
    for inner in get_args(annotation):
        yield from unbounded(inner, getattr(annotation, "__metadata__", ()))


def numbers_of(kind: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    """Yield the fields of options, and of options in them."""
    for name, field in kind.model_fields.items():
        yield name, field
        for inner in (field.annotation, *get_args(field.annotation)):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from numbers_of(inner)


@pytest.mark.parametrize("place", CLASSES)
def test_every_number_has_an_upper_bound(place: str) -> None:
    module, name = place.split(":")
    kind = getattr(import_module(module), name)
    without = {
        name for name, field in numbers_of(kind) if [*unbounded(field.annotation, field.metadata)]
    }
    assert without <= WITHOUT_BOUND


def test_clocks_can_count_the_bounds() -> None:
    assert max(MAX_NUMBER, 1000 * MAX_SECONDS) < TIMEOUT_MAX
