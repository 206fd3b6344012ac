import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.networks.confidence import CONFIDENCES


@pytest.mark.parametrize("name", CONFIDENCES)
@given(st.integers(2, 20), st.floats(0.01, 50))
def test_confidence_is_between_0_and_1_and_highest_for_certainty(
    name: str, classes: int, scale: float
) -> None:
    confidence = CONFIDENCES[name]
    drawn = torch.softmax(scale * torch.randn(16, classes), dim=1)
    values = confidence(drawn)
    assert values.shape == (16,)
    assert (values >= 0).all()
    assert (values <= 1 + 1e-6).all()
    certain = torch.eye(classes)[:1]
    torch.testing.assert_close(confidence(certain), torch.ones(1))


def test_confidence_of_equal_probabilities() -> None:
    equal = torch.full((1, 4), 0.25)
    found = {name: float(confidence(equal)) for name, confidence in CONFIDENCES.items()}
    assert found == pytest.approx({"max_softmax": 0.25, "margin": 0, "negentropy": 0})
