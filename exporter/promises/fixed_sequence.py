"""Fixed-sequence tests along a path of operating points, from the safest to the cheapest.

A hypothesis "the loss is above epsilon" is tested for each point in turn, each at the full level,
until the first test fails. The points before it are certified. Because the order is fixed before
the losses are seen, the probability that any certified point breaks its promise is at most the
level (fixed sequence testing; Angelopoulos et al., "Learn then Test", 2021, section 2.3, used for
early exits by Jazbec et al., "Fast yet Safe", NeurIPS 2024). Promises that are made at once share a
level (Bonferroni).
"""

from __future__ import annotations

from collections.abc import Iterable


def last_certified(p_values: Iterable[float], level: float) -> int | None:
    """Return the position of the last point before the first p-value above `level`.

    Args:
        p_values: One for each point, from the safest to the cheapest. Those after the first that
            fails are not computed.
        level: Largest p-value that certifies.

    Returns:
        The position, or `None` if the first point fails.
    """
    last = None
    for position, p in enumerate(p_values):
        if p > level:
            break
        last = position
    return last


def level_of(delta: float, at_once: int) -> float:
    """Return the level of each of several promises that hold at once with 1 - delta."""
    return delta / at_once
