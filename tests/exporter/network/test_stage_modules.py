"""Stage modules of networks with additive heads, before they become graphs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from exporter.network.stage_modules import split
from tests.training.families import small_network
from tests.training.samples import tiny_dataset
from training.networks.confidence import CONFIDENCES
from training.networks.predict import predict


@pytest.mark.parametrize("additive", [0.0, 0.5])
def test_the_chain_of_modules_has_the_probabilities_of_the_network(additive: float) -> None:
    network = small_network("vit").eval()
    network.additive = additive
    pixels = tiny_dataset().held_out.pixels[:4]
    expected = torch.softmax(predict(network, pixels), dim=2)
    tensors: tuple[Tensor, ...] = (pixels,)
    for k, module in enumerate(split(network, CONFIDENCES["max_softmax"])):
        module.temperature.fill_(1.0)
        with torch.no_grad():
            *tensors_list, probabilities, _ = module(*tensors)
        tensors = tuple(tensors_list)
        torch.testing.assert_close(probabilities, expected[k])
    assert tensors == ()
