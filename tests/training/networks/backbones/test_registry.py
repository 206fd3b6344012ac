"""The registry, and properties of every backbone in it."""

import pytest
import torch

from tests.training.families import CLASSES, SMALL, first_exits, small_network
from tests.training.masked import MaskedSurgery
from training.errors import RecipeError
from training.networks.backbones import BACKBONES, build_network
from training.networks.multi_exit import Features, MultiExitNetwork
from training.surgery.boundary import Surgery, Variant

EVERY = pytest.mark.parametrize("backbone", BACKBONES)


def images() -> torch.Tensor:
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def boundaries(network: MultiExitNetwork) -> list[torch.Tensor]:
    """Return a list that the next forward pass fills with the tensors that surgery splits."""
    found: list[torch.Tensor] = []

    def hook(_module: object, _args: object, features: Features) -> None:
        found.append(features[-1])

    for stage in network.stages:
        stage.register_forward_hook(hook)
    return found


def test_an_unknown_backbone_raises_an_error_that_lists_the_known() -> None:
    with pytest.raises(RecipeError, match=r"'resnet'.*msdnet"):
        build_network("resnet", {}, 10)


@pytest.mark.parametrize(
    ("backbone", "shape", "says"),
    [
        ("msdnet", {"exit": 3}, r"shape\.exit: .*exits"),
        ("msdnet", {"exits": 0}, r"shape\.exits"),
        ("msdnet", {"growth_factors": [1, 2]}, "one entry for each scale"),
        (
            "msdnet",
            {"growth_factors": [], "bottleneck_factors": []},
            r"shape\.growth_factors: .*at least 1",
        ),
        ("vgg", {"convolutions": []}, r"shape\.convolutions"),
        ("vit", {"patch": 15}, "multiple of patch"),
        ("vit", {"attention_heads": 5}, "multiple of attention_heads"),
        ("vit", {"exits": 13}, "at most blocks"),
    ],
)
def test_a_wrong_field_raises_an_error_that_names_it(
    backbone: str, shape: dict[str, object], says: str
) -> None:
    with pytest.raises(RecipeError, match=says):
        build_network(backbone, shape, 10)


@EVERY
@pytest.mark.parametrize("training", [True, False])
def test_each_exit_returns_logits(backbone: str, training: bool) -> None:
    network = small_network(backbone).train(training)
    logits = torch.stack(network(images()))
    assert logits.shape == (network.exits, 4, CLASSES)
    assert logits.isfinite().all()
    assert (logits.std(dim=1) > 0).all(), "an exit does not depend on its image"


@EVERY
@pytest.mark.parametrize("training", [True, False])
def test_referencing_does_not_change_logits(backbone: str, training: bool) -> None:
    network = small_network(backbone).train(training)
    joint = torch.stack(network(images()))
    variants: tuple[Variant, ...] = ("released", "paper")
    for variant in variants:
        for beta in (0.0, 0.3, 0.5, 1.0):
            network.surgery = Surgery(variant, beta)
            torch.testing.assert_close(torch.stack(network(images())), joint, rtol=0, atol=1e-5)
    network.surgery = Surgery("unreferenced", 0.5)
    assert not torch.allclose(torch.stack(network(images())), joint, atol=1e-3)


@EVERY
def test_surgery_splits_channels_between_an_exit_and_deeper_exits(backbone: str) -> None:
    network = small_network(backbone).train()
    network.surgery = surgery = Surgery("paper", 0.25)
    found = boundaries(network)
    first, second, *_ = network(images())
    others = [d for d in range(found[0].ndim) if d != network.channel_dim % found[0].ndim]
    channels = found[0].shape[network.channel_dim]
    shared = torch.arange(channels) < surgery.shared_channels(channels)
    assert 0 < int(shared.sum()) < channels
    for logits, trained in ((first, ~shared), (second, shared)):
        (gradient,) = torch.autograd.grad(logits.square().sum(), found[0], retain_graph=True)
        assert torch.equal(gradient.abs().sum(others) > 0, trained)


@EVERY
@pytest.mark.parametrize("variant", ["released", "paper", "unreferenced"])
@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_partial_backward_gives_the_gradients_of_masking(
    backbone: str, variant: Variant, beta: float
) -> None:
    network = small_network(backbone).double().train()
    found = []
    for form in (Surgery, MaskedSurgery):
        network.surgery = form(variant, beta)
        logits = torch.stack(network(images().double()))
        gradients = torch.autograd.grad(
            logits.square().sum(), list(network.parameters()), allow_unused=True
        )
        found.append((logits, gradients))
    (logits, gradients), (masked_logits, masked_gradients) = found
    assert torch.equal(logits, masked_logits)
    for one, other in zip(gradients, masked_gradients, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


# torch's tracer instantiates every autograd function
@pytest.mark.filterwarnings("ignore:.*Function.* should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize(
    ("backbone", "variant"),
    [(backbone, "unreferenced" if backbone == "vgg" else "paper") for backbone in BACKBONES],
)
def test_networks_compile_without_a_graph_break(backbone: str, variant: Variant) -> None:
    torch.compiler.reset()
    network = first_exits(backbone).double().eval()
    network.surgery = Surgery(variant)
    compiled = torch.compile(network, backend="aot_eager", fullgraph=True)
    found, expected = (
        torch.autograd.grad(
            torch.stack(forward(images().double())).square().sum(),
            list(network.parameters()),
            allow_unused=True,
        )
        for forward in (compiled, network)
    )
    for one, other in zip(found, expected, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_every_backbone_has_a_small_network() -> None:
    assert SMALL.keys() == BACKBONES.keys()
