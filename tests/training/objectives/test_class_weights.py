"""Weights of classes in the losses."""

import pytest
import torch
import torch.nn.functional as F

from tests.training.families import CLASSES, small_network
from training.objectives import build_objective
from training.objectives.class_weights import class_weights

TARGETS = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1, 2])


def test_balanced_classes_have_the_same_weight_and_the_mean_image_has_1() -> None:
    weights = class_weights("balanced", TARGETS, 4)
    assert weights is not None
    assert weights.tolist() == pytest.approx([0.5, 1.5, 3, 0])
    assert weights[TARGETS].mean() == pytest.approx(1)
    assert class_weights("none", TARGETS, 4) is None


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_each_image_is_multiplied(smoothing: float) -> None:
    network, targets = small_network("vgg"), torch.arange(4) % 3
    weights = torch.rand(CLASSES, generator=torch.Generator().manual_seed(0))
    objective = build_objective("joint", {}, network, smoothing, weights)
    logits = list(torch.randn(network.exits, 4, CLASSES))
    found = objective(logits, targets)
    for loss, one in zip(found, logits, strict=True):
        each = F.cross_entropy(one, targets, label_smoothing=smoothing, reduction="none")
        torch.testing.assert_close(loss, (weights[targets] * each).mean())
    soft = objective(logits, F.one_hot(targets, CLASSES).float())
    torch.testing.assert_close(soft, found)
    assert not objective.state_dict().keys() & {"class_weights"}
