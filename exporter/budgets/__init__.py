"""Solve budgets: operating points along a path, with their accuracy, flops and exit shares."""

from exporter.budgets.estimates import estimate_mean, estimate_share
from exporter.budgets.solve import (
    CURVE_POINTS,
    FULL,
    NAMED_SHARES,
    operating_point,
    solve_budgets,
)

__all__ = (
    "CURVE_POINTS",
    "FULL",
    "NAMED_SHARES",
    "estimate_mean",
    "estimate_share",
    "operating_point",
    "solve_budgets",
)
