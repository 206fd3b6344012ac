"""Fixed-sequence tests along a path of operating points, from the safest to the cheapest.

A hypothesis "the loss is above epsilon" is tested for each point in turn, each at the full level,
until the first test fails. The points before it are certified. Because the order is fixed before
the losses are seen, the probability that any certified point breaks its promise is at most the
level (fixed sequence testing; Angelopoulos et al., "Learn then Test", 2021, section 2.3, used for
early exits by Jazbec et al., "Fast yet Safe", NeurIPS 2024). Promises that are made at once share a
level (Bonferroni).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from offramp.bundle.binomial import p_value


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


def p_value_given_exit(losses: Sequence[int], images: Sequence[int], epsilon: float) -> float:
    """Return a p-value for "at some exit, the answers given there have a loss above epsilon".

    It is the largest of the exits' p-values. Each is valid given the number of images that leave
    there, and to reject a union of hypotheses each must be rejected (Berger, Technometrics 24,
    1982). An exit at which no image left proves nothing, and its p-value is 1.

    Args:
        losses: Losses at each exit at which requests can leave.
        images: Images that left at each of these exits.
        epsilon: Largest probability of a loss, in (0, 1).
    """
    pairs = zip(losses, images, strict=True)
    return max((p_value(k, n, epsilon) if n else 1.0 for k, n in pairs), default=0.0)
