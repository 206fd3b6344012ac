"""The values of a model that its metrics need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Model:
    """The model's values that metrics need.

    Attributes:
        exits: Number of exits.
        full_flops: Flops of a request that runs to the last exit.
        mean_flops: Expected flops of an answer, by named budget.
        expected: Expected share of requests at each exit, by named budget.
        budgets_without_shares: Further budget labels, without expected shares.
        rejects: The bundle has thresholds to reject answers by.
    """

    name: str
    version: str
    precision: str
    provider: str
    exits: int
    full_flops: int
    mean_flops: Mapping[str, float]
    expected: Mapping[str, tuple[float, ...]]
    budgets_without_shares: tuple[str, ...]
    rejects: bool = False

    @property
    def budgets(self) -> tuple[str, ...]:
        """Return every budget label."""
        return (*self.expected, *self.budgets_without_shares)
