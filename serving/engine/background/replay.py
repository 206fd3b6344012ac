"""The answer that another operating point would have given to an audited request."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from serving.audit.sequence import Result
from serving.engine.opinion import Opinion


def result_at(thresholds: Sequence[float], opinions: Sequence[Opinion | None], full: int) -> Result:
    """Return the result of an audit if another operating point had answered.

    It is unknown if this point goes on beyond the exits reached, or leaves at an exit that was not
    evaluated or whose confidence is not finite.

    Args:
        thresholds: Thresholds of the point, one for each exit.
        opinions: Opinions of the exits that the request reached, `None` where it evaluated none.
        full: Class that full depth gives.
    """
    for threshold, opinion in zip(thresholds, opinions, strict=False):
        if threshold > 1:  # the point does not evaluate this exit
            continue
        if opinion is None or not np.isfinite(opinion.confidence):
            return "unknown"
        if opinion.confidence >= threshold:
            return "agreement" if np.argmax(opinion.probabilities) == full else "disagreement"
    return "unknown"
