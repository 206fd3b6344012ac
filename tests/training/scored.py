"""Hypothesis strategies for images with confidences and correctness of every exit."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from training.evaluation.evaluate import Scored


@st.composite
def scored_sets(draw: st.DrawFn) -> Scored:
    """Draw a small set; confidences can be equal or constant."""
    exits, images = draw(st.integers(1, 4)), draw(st.integers(1, 40))
    levels = draw(st.sampled_from([2, 5, 1000]))
    ranks = draw(npst.arrays(np.int64, (exits, images), elements=st.integers(0, levels)))
    right = draw(npst.arrays(np.bool_, (exits, images)))
    steps = draw(st.lists(st.integers(1, 100), min_size=exits, max_size=exits))
    flops = np.cumsum(steps).astype(np.float64)
    shares = draw(st.none() | st.lists(st.integers(0, 100), min_size=exits, max_size=exits))
    heads = None if shares is None else np.array(steps) * np.array(shares) / 100
    others = draw(st.sets(st.integers(1, exits - 1))) if exits > 1 else set()
    firsts = (0, *sorted(others))
    return Scored((ranks / levels).astype(np.float32), right, flops, heads, firsts)
