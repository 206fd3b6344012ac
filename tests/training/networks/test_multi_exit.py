from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tests.training.masked import plain
from training.networks.backbones import build_network
from training.networks.backbones.timm_network import MaskedStage
from training.networks.multi_exit import Branch, MultiExitNetwork, Normalize
from training.surgery.boundary import Surgery
from training.surgery.feature_map import FeatureMap

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


def test_normalize_scales_and_reorders_stored_images() -> None:
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
    """Return the gradient of every parameter in the last step."""
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for _ in range(steps):
        network.zero_grad()
        torch.stack(network(images)).square().sum().backward()
    return [parameter.grad for parameter in network.parameters()]


def assert_same(found: list[Tensor | None], expected: list[Tensor | None]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_boundary_steps_run_after_surgery_and_in_order() -> None:
    network, calls = small_network(Surgery("paper")), []

    def first(branch: Branch, k: int, deeper: int) -> Branch:
        calls.append(("first", k, deeper, type(branch.onward[-1]), type(branch.to_exit)))
        return Branch([plain(one) for one in branch.onward], branch.to_exit)

    def second(branch: Branch, k: int, deeper: int) -> Branch:
        calls.append(("second", k, deeper, type(branch.onward[-1]), type(branch.to_exit)))
        return branch

    network(torch.zeros(1, 3, 32, 32), (first, second))
    assert calls == [
        *(("first", 1, 2, FeatureMap, FeatureMap), ("second", 1, 2, Tensor, FeatureMap)),
        *(("first", 2, 1, FeatureMap, FeatureMap), ("second", 2, 1, Tensor, FeatureMap)),
    ]


@pytest.fixture
def one_process() -> Iterator[None]:
    """Create a process group of this process alone."""
    store = dist.HashStore()  # type: ignore[attr-defined] # torch does not list it in __all__
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("one_process")
@pytest.mark.parametrize("surgery", SURGERIES)
def test_data_parallel_gives_the_gradients_of_one_process(surgery: Surgery) -> None:
    """The same parameters have gradients as in joint training, in each of several steps."""
    network = small_network(surgery)
    # no exit reads the finer scales of the last layer, with surgery or without
    parallel = DistributedDataParallel(network, find_unused_parameters=True)
    found = gradients(parallel, steps=3)
    assert_same(found, gradients(small_network(surgery), steps=3))
    joint = gradients(small_network(Surgery("joint")))
    assert [g is None for g in found] == [g is None for g in joint]


def test_additive_heads_add_a_share_of_the_logits_before_them_without_gradient() -> None:
    network = small_network(Surgery("joint")).eval()
    images = torch.randn(2, 3, 32, 32)
    own = network(images)
    network.additive = 0.5
    logits = network(images)
    expected = own[0]
    for one, found in zip(own, logits, strict=True):
        expected = one if one is own[0] else one + 0.5 * expected
        torch.testing.assert_close(found, expected)
    logits[1].sum().backward()
    assert all(p.grad is None for p in network.heads[0].parameters())


class ToTokens(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        return maps.flatten(2).transpose(1, 2)


@pytest.mark.parametrize(("boundary", "channels"), [(1, 1), (2, -1)])
def test_surgery_splits_channels_of_maps_and_of_tokens(boundary: int, channels: int) -> None:
    """EfficientFormer has blocks of maps, then blocks of tokens."""
    layers = (nn.Conv2d(3, 8, 2, 2), ToTokens(), nn.Linear(8, 8))
    heads = [nn.Sequential(ToTokens(), nn.Linear(8, 3)), nn.Linear(8, 3), nn.Linear(8, 3)]
    network = MultiExitNetwork([MaskedStage(layer) for layer in layers], heads, channel_dim=1)
    network.surgery = Surgery("released", 0.25)
    found: list[Tensor] = []
    network.stages[boundary - 1].register_forward_hook(lambda _m, _x, made: found.extend(made))
    logits = network(torch.randn(2, 3, 8, 8))
    (gradient,) = torch.autograd.grad(logits[boundary].sum(), found[0])
    trained = gradient.movedim(channels, 0).flatten(1).any(dim=1)
    assert trained.tolist() == [True] * 2 + [False] * 6
