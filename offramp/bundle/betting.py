"""A betting test of the accuracy that answers lose, for promises. Pure Python."""

from __future__ import annotations

import math

from offramp.bundle.binomial import MOST_IMAGES, fewest_images

BETS = 32
# Of the capital, what each bet loses at an image with a loss. None loses everything.
FRACTIONS = tuple((number + 0.5) / BETS for number in range(BETS))


def p_value_of_gap(losses: int, gains: int, images: int, epsilon: float) -> float:
    """Return a p-value for the hypothesis that losses less gains have a mean above `epsilon`.

    An image is 1 for a loss, -1 for a gain, else 0. A bet against the hypothesis multiplies its
    capital by 1 + b (epsilon - x) for each image x. If the hypothesis is true, the mean of this
    factor is at most 1, and so is that of the capital in the end. By Markov's inequality, the
    capital passes 1 / p with probability p at most. The bets are a fixed grid, and their capitals
    are averaged, so that the result depends on the counts only. Source: Waudby-Smith and Ramdas,
    "Estimating means of bounded random variables by betting" (JRSS B, 2023), sections 3 and 4.

    Args:
        losses: Images with a loss.
        gains: Other images, with a gain.
        images: Independent images, 1 to `MOST_IMAGES`.
        epsilon: Largest mean, in (0, 1).

    Raises:
        ValueError: A number is out of its range.
    """
    fits = losses >= 0 and gains >= 0 and 0 < images <= MOST_IMAGES and losses + gains <= images
    if not fits or not 0 < epsilon < 1:
        raise ValueError(
            f"no test of {losses} losses and {gains} gains in {images} images at {epsilon}"
        )
    logs = [_log_capital(each, losses, gains, images, epsilon) for each in FRACTIONS]
    largest = max(logs)
    mean = sum(math.exp(each - largest) for each in logs) / BETS
    return math.exp(min(0.0, -largest - math.log(mean)))


def _log_capital(fraction: float, losses: int, gains: int, images: int, epsilon: float) -> float:
    bet = fraction / (1 - epsilon)
    lost, gained = losses * math.log1p(-fraction), gains * math.log1p(bet * (1 + epsilon))
    return lost + gained + (images - losses - gains) * math.log1p(bet * epsilon)


def images_needed_for_gap(epsilon: float, level: float) -> int:
    """Return the fewest images that pass the test at `epsilon` without losses and gains.

    Args:
        epsilon: Mean to exclude, in (0, 1).
        level: Largest p-value that passes, in (0, 1).

    Raises:
        ValueError: More than `MOST_IMAGES` are needed, or a number is out of its range.
    """
    if not 0 < level < 1:
        raise ValueError(f"no number of images for a level of {level}")
    return fewest_images(lambda images: p_value_of_gap(0, 0, images, epsilon), epsilon, level)
