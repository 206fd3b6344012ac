from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from training.evaluation.calibration_error import auroc, reliability, wilson

# multiples of 1/15 are the edges of the bins, and often equal
levels = st.one_of(st.integers(0, 15).map(lambda n: n / 15), st.floats(0, 1))
predictions = st.lists(st.tuples(levels, st.booleans()), min_size=1, max_size=60)


def arrays(drawn: list[tuple[float, bool]]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    confidence, right = zip(*drawn, strict=True)
    return np.array(confidence), np.array(right)


@given(predictions, st.sampled_from([1, 10, 15]))
def test_calibration_error_equals_the_equation_of_guo_et_al(
    drawn: list[tuple[float, bool]], bins: int
) -> None:
    total = 0.0
    for m in range(1, bins + 1):
        inside = [(c, r) for c, r in drawn if (m - 1) / bins < c <= m / bins or (m == 1 and c == 0)]
        if inside:
            accuracy = sum(r for _, r in inside) / len(inside)
            confidence = sum(c for c, _ in inside) / len(inside)
            total += len(inside) / len(drawn) * abs(accuracy - confidence)
    assert reliability(*arrays(drawn), bins).error == pytest.approx(total, abs=1e-12)


def test_calibration_error_by_hand() -> None:
    confidence = np.array([0.95, 0.95, 0.5, 0.5], dtype=np.float32)
    found = reliability(confidence, np.array([True, False, True, False]))
    assert found.images.tolist() == [0] * 7 + [2] + [0] * 6 + [2]
    assert found.error == pytest.approx(0.5 * 0.45)


@given(predictions)
def test_auroc_is_the_share_of_ordered_pairs(drawn: list[tuple[float, bool]]) -> None:
    rights = [c for c, right in drawn if right]
    wrongs = [c for c, right in drawn if not right]
    pairs = [1.0 if r > w else 0.5 if r == w else 0.0 for r, w in product(rights, wrongs)]
    found = auroc(*arrays(drawn))
    if pairs:
        assert found == pytest.approx(sum(pairs) / len(pairs))
    else:
        assert found is None


@pytest.mark.parametrize(
    ("share", "images", "low", "high"),
    # the formula of Brown, Cai and DasGupta, evaluated by hand with z = 1.96
    [(0.5, 100, 0.403830, 0.596170), (0.0, 10, 0.0, 0.277533), (1.0, 10, 0.722467, 1.0)],
)
def test_wilson_intervals_by_hand(share: float, images: int, low: float, high: float) -> None:
    assert wilson(share, images) == pytest.approx((low, high), abs=1e-4)
