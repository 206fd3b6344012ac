"""A network on a smaller image first, then at full size, for every backbone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.training.families import CLASSES, SMALL
from tests.training.masked import MaskedSurgery
from tests.training.two_sizes import images, network_of, two_sizes
from training.errors import RecipeError
from training.networks.backbones import BACKBONES, build_network
from training.networks.flops import flop_costs, flops_of_step, parameter_costs
from training.networks.multi_exit import MultiExitNetwork
from training.surgery.boundary import Surgery

# positions of tokens fit one size
CASES = [(backbone, "own") for backbone in BACKBONES] + [
    (backbone, "shared") for backbone in BACKBONES if backbone != "vit"
]
EACH = pytest.mark.parametrize(("backbone", "weights"), CASES)


def gradients(network: MultiExitNetwork, *exits: int) -> list[Tensor | None]:
    """Return the gradient of each parameter from the logits of some exits, from 1."""
    network.zero_grad()
    logits = network(images().to(next(network.parameters())))
    torch.stack([logits[k - 1] for k in exits]).square().sum().backward()
    return [parameter.grad for parameter in network.parameters()]


@EACH
def test_exits_at_each_size_depend_on_the_image_at_that_size_alone(
    backbone: str, weights: str
) -> None:
    network = network_of(two_sizes(backbone, first_weights=weights, first_exit=2)).eval()
    full = build_network(backbone, SMALL[backbone], CLASSES).exits
    assert network.starts == (0, 2)
    assert network.exits == 2 + full - 1  # the first exit is left out at full size
    whole = network(images())
    reduced = network.readers[0](images())
    assert reduced.shape == (4, 3, 16, 16)
    x = [reduced]
    for stage, head, expected in zip(network.stages[:2], network.heads[:2], whole[:2], strict=True):
        x = stage(x)
        torch.testing.assert_close(head(x[-1]), expected)
    x = [images()]
    for stage, head, expected in zip(network.stages[2:], network.heads[2:], whole[2:], strict=True):
        x = stage(x)
        torch.testing.assert_close(head(x[-1]), expected)


@pytest.mark.parametrize(
    ("backbone", "weights"), [("msdnet", "own"), ("vgg", "shared"), ("vit", "own")]
)
def test_flops_are_those_of_the_network_at_each_size(backbone: str, weights: str) -> None:
    recipe = two_sizes(backbone, first_weights=weights)
    network, shape = network_of(recipe), SMALL[backbone]
    sized = {"image_size": 16} if backbone == "vit" else {}
    small = flop_costs(build_network(backbone, {**shape, **sized}, CLASSES), 16)
    full = flop_costs(build_network(backbone, shape, CLASSES), 32)
    costs = flop_costs(network, 32)
    assert costs.stages == (*small.stages, sum(full.stages))
    assert costs.heads == (*small.heads, full.heads[-1])
    forward, _ = flops_of_step(network, 32)
    assert forward == costs.cumulative[-1]


@pytest.mark.parametrize("backbone", [each for each in BACKBONES if each != "vit"])
def test_shared_weights_have_batch_norm_and_heads_of_their_own(backbone: str) -> None:
    network = network_of(two_sizes(backbone, first_weights="shared"))
    first, second = network.stages[:-1], network.stages[-1:]
    ours = [m for m in first.modules() if isinstance(m, nn.BatchNorm2d)]
    theirs = [m for m in second.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(ours) == len(theirs) > 0
    norms = {id(p) for m in ours for p in m.parameters()}
    small = {id(p) for p in first.parameters()}
    full = {id(p) for p in second.parameters()}
    assert small - norms == small & full
    assert not norms & full
    assert not {id(p) for p in network.heads[:-1].parameters()} & full
    network.train()(images())
    means = [torch.equal(a.running_mean, b.running_mean) for a, b in zip(ours, theirs, strict=True)]  # type: ignore[arg-type] # batch norm with statistics
    assert not any(means)


def test_shared_weights_get_the_gradient_of_both_sizes() -> None:
    network = network_of(two_sizes("vgg", variant="joint", first_weights="shared")).double().eval()
    names = [name for name, _ in network.named_parameters()]
    at = names.index("stages.0.layers.0.weight")
    small, full, both = (
        gradients(network, *exits)[at] for exits in ((1, 2, 3), (4,), (1, 2, 3, 4))
    )
    assert small is not None
    assert full is not None
    torch.testing.assert_close(both, small + full)
    assert small.any()
    assert full.any()


@EACH
def test_partial_backward_gives_the_gradients_of_masking(backbone: str, weights: str) -> None:
    recipe = two_sizes(backbone, first_weights=weights, first_exit=2)
    network = network_of(recipe).double().train()
    found = []
    for form in (Surgery, MaskedSurgery):
        network.surgery = form("paper", 0.3)
        found.append(gradients(network, *range(1, network.exits + 1)))
    for one, other in zip(*found, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("weights", ["own", "shared"])
def test_the_state_has_each_tensor_once_and_gives_the_same_network(weights: str) -> None:
    recipe = two_sizes("efficientnet_lite", first_weights=weights)
    network = network_of(recipe)
    network.train()(images())
    state = network.state_dict()
    assert len({tensor.data_ptr() for tensor in state.values() if tensor.numel()}) == len(
        [tensor for tensor in state.values() if tensor.numel()]
    )
    torch.manual_seed(1)
    other = network_of(recipe)
    other.load_state_dict(state)
    pairs = zip(network.eval()(images()), other.eval()(images()), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_parameters_of_shared_weights_are_counted_once() -> None:
    network = network_of(two_sizes("vgg", first_weights="shared"))
    counted = parameter_costs(network)
    assert sum(counted.stages) + sum(counted.heads) == sum(p.numel() for p in network.parameters())


def test_each_boundary_between_stages_has_its_surgery() -> None:
    network = network_of(two_sizes("vgg", variant="paper", beta=(0.1, 0.2), first_exit=2))
    betas = [network.surgery_at(k) for k in (1, 3)]
    assert betas == [Surgery("paper", 0.1), Surgery("paper", 0.2)]


def test_published_weights_are_those_of_both_sizes() -> None:
    network = network_of(two_sizes("efficientnet_lite", first_exit=2))
    full = build_network("efficientnet_lite", SMALL["efficientnet_lite"], CLASSES).pretraining
    names = network.pretraining.names
    assert set(names.values()) == set(full.names.values())
    assert sum(there == "_conv_stem.weight" for there in names.values()) == 2
    assert {names[name] for name in network.pretraining.classifier} == {"_fc.weight", "_fc.bias"}
    assert all(name.startswith("heads.3.") for name in network.pretraining.classifier)


@pytest.mark.parametrize(
    ("backbone", "changes", "says"),
    [
        ("vgg", {"first_exit": 4}, "first_exit: 4, but the network has 3 exits"),
        ("vgg", {"beta": (0.5,)}, "beta: 1 values for 2 boundaries"),
        ("vit", {"first_weights": "shared"}, "first_weights: shared needs .*; give own"),
        ("vit", {"first_size": 20}, "first_size: 20 does not fit: .*multiple of patch"),
    ],
)
def test_a_recipe_that_describes_no_network_is_refused(
    backbone: str, changes: dict[str, object], says: str
) -> None:
    with pytest.raises(RecipeError, match=f"^{says}"):
        network_of(two_sizes(backbone, **changes))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"first_size": 32}, "first_size: 32 is not smaller than --size, 32"),
        ({"first_size": None, "first_exit": 1}, "first_exit: there is no smaller image first"),
    ],
)
def test_fields_that_do_not_fit_each_other_are_refused(
    changes: dict[str, object], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        two_sizes("vgg", **changes)
