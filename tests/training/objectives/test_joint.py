import pytest
import torch
import torch.nn.functional as F

from tests.training.families import CLASSES, small_network
from training.errors import RecipeError
from training.objectives import build_objective


def test_losses_are_weighted_cross_entropies() -> None:
    network = small_network("vit")
    logits = list(torch.randn(network.exits, 5, CLASSES))
    targets = torch.arange(5)
    plain = [F.cross_entropy(one, targets) for one in logits]
    joint = build_objective("joint", {}, network, 0.0)
    torch.testing.assert_close(joint(logits, targets), torch.stack(plain))
    weighted = build_objective("joint", {"weights": [0.5, 1, 2]}, network, 0.0)
    expected = torch.stack([0.5 * plain[0], plain[1], 2 * plain[2]])
    torch.testing.assert_close(weighted(logits, targets), expected)


def test_the_number_of_weights_must_be_the_number_of_exits() -> None:
    with pytest.raises(RecipeError, match=r"objective\.weights: 2 weights for 3 exits"):
        build_objective("joint", {"weights": [1, 1]}, small_network("vit"), 0.0)


def test_only_the_last_exit_counts_in_the_first_part_of_a_mixed_schedule() -> None:
    network = small_network("vit")
    logits = list(torch.randn(network.exits, 5, CLASSES))
    options = {"weights": [1, 1, 2], "backbone_first": 0.5}
    mixed = build_objective("joint", options, network, 0.0)
    joint = build_objective("joint", {"weights": [1, 1, 2]}, network, 0.0)
    whole = joint(logits, torch.arange(5))
    for share_done, counted in ((0, 0), (0.49, 0), (0.5, 1), (0.9, 1)):
        mixed.start_step(share_done)
        expected = whole * torch.tensor([counted, counted, 1])
        assert torch.equal(mixed(logits, torch.arange(5)), expected)
