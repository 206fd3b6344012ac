"""Exact binomial tests, by which a promise is certified and checked again. Pure Python.

Every sum starts at its largest term and follows the ratios of neighbouring terms, so that no
difference of large logarithms is taken. The relative error stays below 1e-9 up to a million images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

MOST_IMAGES = 10_000_000  # of one test, which bounds its time
_NEGLIGIBLE = 1e-18  # of a term, relative to the sum
# Error of Stirling's formula for n!, n from 0 to 15.
_STIRLING_ERRORS = tuple(
    math.lgamma(n + 1) - ((n + 0.5) * math.log(n) - n + 0.5 * math.log(2 * math.pi)) if n else 0.0
    for n in range(16)
)


def p_value(losses: int, images: int, epsilon: float) -> float:
    """Return P(Bin(images, epsilon) <= losses).

    It is a p-value for the hypothesis that a loss has a probability above `epsilon`. Source:
    Angelopoulos, Bates, Candes, Jordan and Lei, "Learn then Test" (2021), section 2, with the
    exact tail of a binary loss, as Jazbec et al., "Fast yet Safe: Early-Exiting with Risk Control"
    (NeurIPS 2024), section 3, for early exits.

    Args:
        losses: Images with a loss, 0 to `images`.
        images: Independent images, 1 to `MOST_IMAGES`.
        epsilon: Probability of a loss, in (0, 1).

    Raises:
        ValueError: A number is out of its range.
    """
    if not 0 < images <= MOST_IMAGES or not 0 <= losses <= images or not 0 < epsilon < 1:
        raise ValueError(f"no binomial test of {losses} losses in {images} images at {epsilon}")
    if losses == images:
        return 1.0
    if losses <= images * epsilon:
        return min(1.0, _lower_tail(losses, images, epsilon))
    # the other tail is that of the images without a loss
    return max(0.0, 1.0 - _lower_tail(images - losses - 1, images, 1 - epsilon))


def p_value_given_exit(exits: Iterable[tuple[int, int]], epsilon: float) -> float:
    """Return a p-value for "at some exit, the answers given there have a loss above epsilon".

    It is the largest of the exits' p-values. Each is valid given the number of images that leave
    there, and to reject a union of hypotheses each must be rejected (Berger, Technometrics 24,
    1982). An exit at which no image left proves nothing, and its p-value is 1.

    Args:
        exits: Losses and images of each exit at which requests can leave.
        epsilon: Largest probability of a loss, in (0, 1).
    """
    return max((p_value(k, n, epsilon) if n else 1.0 for k, n in exits), default=0.0)


def _lower_tail(count: int, images: int, share: float) -> float:
    """Return P(Bin(images, share) <= count), where the largest term is about the last one."""
    term = total = 1.0
    odds = (1 - share) / share
    for k in range(count, 0, -1):
        term *= k * odds / (images - k + 1)
        total += term
        if term < _NEGLIGIBLE * total:
            break
    return math.exp(_log_probability(count, images, share)) * total


def _log_probability(count: int, images: int, share: float) -> float:
    """Return the logarithm of P(Bin(images, share) = count).

    Source: Loader, "Fast and Accurate Computation of Binomial Probabilities" (2000): the
    saddle-point expansion, which has no difference of large logarithms.
    """
    if count == 0:
        return images * math.log1p(-share)
    if count == images:
        return images * math.log(share)
    rest = images - count
    errors = _stirling_error(images) - _stirling_error(count) - _stirling_error(rest)
    deviance = _deviance(count, images * share) + _deviance(rest, images * (1 - share))
    return errors - deviance + 0.5 * math.log(images / (2 * math.pi * count * rest))


def _stirling_error(n: int) -> float:
    """Return log(n!) without Stirling's formula, log(sqrt(2 pi n) (n / e)^n)."""
    if n < len(_STIRLING_ERRORS):
        return _STIRLING_ERRORS[n]
    square = float(n) * n
    inner = 1 / 360 - (1 / 1260 - (1 / 1680 - 1 / 1188 / square) / square) / square
    return (1 / 12 - inner / square) / n


def _deviance(x: float, mean: float) -> float:
    """Return x log(x / mean) + mean - x, also where both are nearly equal."""
    if abs(x - mean) >= 0.1 * (x + mean):
        return x * math.log(x / mean) + mean - x
    ratio = (x - mean) / (x + mean)
    result, term, square = (x - mean) * ratio, 2 * x * ratio, ratio * ratio
    for j in range(3, 1000, 2):
        term *= square
        before, result = result, result + term / j
        if result == before:
            break
    return result


def images_needed(epsilon: float, level: float, losses: int = 0) -> int:
    """Return the fewest images that pass the test at `epsilon` with so many losses.

    Without a loss it is log(level) / log(1 - epsilon), rounded up.

    Args:
        epsilon: Probability of a loss to exclude, in (0, 1).
        level: Largest p-value that passes, in (0, 1).
        losses: Images with a loss.

    Raises:
        ValueError: More than `MOST_IMAGES` are needed, or a number is out of its range.
    """
    if not 0 < epsilon < 1 or not 0 < level < 1 or losses < 0:
        raise ValueError(f"no number of images for {losses} losses at {epsilon} and {level}")
    return fewest_images(lambda images: p_value(losses, images, epsilon), epsilon, level, losses)


def fewest_images(
    test: Callable[[int], float], epsilon: float, level: float, losses: int = 0
) -> int:
    """Return the fewest images for which a test passes.

    Args:
        test: Returns the p-value of a number of images. It falls with the number.
        epsilon: What the test excludes, for the error.
        level: Largest p-value that passes, in (0, 1).
        losses: Images with a loss, which are too few.

    Raises:
        ValueError: More than `MOST_IMAGES` are needed.
    """
    low, high = losses, losses + 1
    while test(min(high, MOST_IMAGES)) > level:
        if high >= MOST_IMAGES:
            raise ValueError(f"more than {MOST_IMAGES:,} images are needed at {epsilon}")
        low, high = high, 2 * high
    high = min(high, MOST_IMAGES)
    while high - low > 1:
        middle = (low + high) // 2
        if test(middle) > level:
            low = middle
        else:
            high = middle
    return high
