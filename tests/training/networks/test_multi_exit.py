from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from training.networks.backbones import build_network
from training.networks.multi_exit import MultiExitNetwork, Normalize
from training.surgery.boundary import Surgery

SMALL = {
    "exits": 3,
    "base": 1,
    "step": 1,
    "channels": 4,
    "growth": 4,
    "head_channels": 8,
    "head_dropout": 0.0,
}
SURGERIES = [Surgery("joint"), Surgery("released"), Surgery("paper"), Surgery("unreferenced")]


def test_normalize_takes_stored_images_to_what_the_first_stage_reads() -> None:
    normalize = Normalize()
    normalize.mean.copy_(torch.tensor([0.5, 0.25, 0.0]))
    normalize.std.copy_(torch.tensor([0.5, 0.25, 1.0]))
    pixels = torch.tensor([255, 0, 51], dtype=torch.uint8).expand(1, 2, 4, 3)
    out = normalize(pixels)
    assert out.shape == (1, 3, 2, 4)
    torch.testing.assert_close(out[0, :, 1, 2], torch.tensor([1.0, -1.0, 0.2]))


def small_network(surgery: Surgery) -> MultiExitNetwork:
    torch.manual_seed(0)
    network = build_network("msdnet", SMALL, classes=3)
    network.surgery = surgery
    return network


def gradients(network: nn.Module, steps: int = 1) -> list[Tensor | None]:
    """Of every parameter in the last of so many steps."""
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for _ in range(steps):
        network.zero_grad()
        sum(logits.square().sum() for logits in network(images)).backward()
    return [parameter.grad for parameter in network.parameters()]


def assert_same(found: list[Tensor | None], expected: list[Tensor | None]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.fixture
def one_process() -> Iterator[None]:
    """A process group of this process alone."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("one_process")
@pytest.mark.parametrize("surgery", SURGERIES)
def test_data_parallel(surgery: Surgery) -> None:
    """Every parameter that joint training reaches is reached, in each of several steps."""
    network = small_network(surgery)
    # the finer scales of the last layer feed nothing, surgery or not
    parallel = DistributedDataParallel(network, find_unused_parameters=True)
    found = gradients(parallel, steps=3)
    assert_same(found, gradients(small_network(surgery), steps=3))
    joint = gradients(small_network(Surgery("joint")))
    assert [g is None for g in found] == [g is None for g in joint]
