"""The output of one exit for one image, and its score."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Opinion(NamedTuple):
    """Output of one exit for one image.

    Attributes:
        confidence: In [0, 1]. Not finite: the network failed on this image.
        probabilities: float32, [classes]. Of many classes, those beyond the `MOST_CLASSES`
            likeliest can be 0.
        score: Score of the exit, for a request that asks whether to reject, if the graphs give one.
    """

    confidence: float
    probabilities: NDArray[np.float32]
    score: float | None = None


def score_of(opinion: Opinion) -> float:
    """Return the score of an opinion: the confidence, if the graphs give no score."""
    return opinion.confidence if opinion.score is None else opinion.score
