"""Our MSDNet, compared with golden tensors of the authors' released classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.training.golden import (
    BASE,
    VARIANTS,
    batch_norm_buffers,
    buffer_names,
    golden_network,
    tensor,
)
from tests.training.masked import MaskedSurgery
from training.networks.backbones import build_network
from training.networks.multi_exit import AveragePool, MultiExitNetwork
from training.recipes import RECIPES
from training.surgery.boundary import Surgery, Variant

VARIANT_OF: dict[str, tuple[Variant, float]] = {
    "joint": ("joint", 0.5),
    "released_b050": ("released", 0.5),
    "paper_b050": ("paper", 0.5),
    "paper_b025": ("paper", 0.25),
    "nofr_b050": ("unreferenced", 0.5),
}
VARIANTS_WITH_REFERENCING: tuple[Variant, ...] = ("released", "paper")
EVERY_SURGERY = [
    Surgery("joint"),
    *(Surgery(v, b) for v in VARIANTS_WITH_REFERENCING for b in (0.25, 0.5, 0.9)),
]
# Flops of the backward pass of one image by torch's counter, in millions: released, paper.


def test_logits_without_referencing_equal_the_golden_ones() -> None:
    network = golden_network().eval()
    network.surgery = Surgery("unreferenced", 0.5)
    expected = VARIANTS["nofr_b050/logits_eval"]
    for logits, golden in zip(network(tensor("x")), expected, strict=True):
        np.testing.assert_allclose(logits.detach(), golden, rtol=0, atol=1e-5)


def test_features_at_the_boundaries_equal_the_golden_ones() -> None:
    network = golden_network().eval()
    features = [tensor("x")[:1]]
    for k, stage in enumerate(network.stages):
        features = stage(features)
        for s, found in enumerate(features):
            expected = BASE[f"bound/{k}/{s}"]
            np.testing.assert_allclose(found.detach(), expected, rtol=1e-4, atol=1e-5)


def summed_loss(network: MultiExitNetwork) -> torch.Tensor:
    """Return the sum of the exits' cross-entropies on the golden images."""
    return torch.stack([F.cross_entropy(one, tensor("y")) for one in network(tensor("x"))]).sum()


@pytest.mark.parametrize("form", [Surgery, MaskedSurgery])
@pytest.mark.parametrize("name", VARIANT_OF)
def test_the_gradient_of_every_parameter_equals_the_golden_one(
    name: str, form: type[Surgery]
) -> None:
    golden, prefix = (BASE, "") if name == "released_b050" else (VARIANTS, f"{name}/")
    network = golden_network().train()
    network.surgery = form(*VARIANT_OF[name])
    summed_loss(network).backward()
    unused, compared = set(BASE["unused"]), 0
    for parameter_name, parameter in zip(BASE["names"], network.parameters(), strict=True):
        if parameter_name in unused:
            assert parameter.grad is None
        elif f"{prefix}grad/{parameter_name}" in golden.files:
            expected = golden[f"{prefix}grad/{parameter_name}"]
            assert parameter.grad is not None
            worst = np.abs(parameter.grad.numpy() - expected).max()
            assert worst <= 1e-4 * np.abs(expected).max(), parameter_name
            compared += 1
    # the files of the variants have the gradients of the blocks alone
    assert compared == (135 if golden is BASE else 111)


def gradients(surgery: Surgery) -> list[torch.Tensor | None]:
    """Return the gradients of the golden network's parameters, in module order."""
    network = golden_network().train()
    network.surgery = surgery
    summed_loss(network).backward()
    return [parameter.grad for parameter in network.parameters()]


@pytest.mark.parametrize("training", [False, True])
def test_with_referencing_logits_do_not_depend_on_variant_or_beta(training: bool) -> None:
    expected = BASE["logits_train" if training else "logits_eval"]
    found = []
    for surgery in EVERY_SURGERY:
        network = golden_network().train(training)
        network.surgery = surgery
        found.append(torch.stack(network(tensor("x"))))
        assert torch.equal(found[-1], found[0]), surgery
    np.testing.assert_allclose(found[0].detach(), expected, rtol=0, atol=1e-5)


def test_head_gradients_and_unused_parameters_do_not_depend_on_variant_or_beta() -> None:
    joint = gradients(EVERY_SURGERY[0])
    names = [name for name, _ in golden_network().named_parameters()]
    assert sum(gradient is None for gradient in joint) == len(BASE["unused"]) == 6
    for surgery in EVERY_SURGERY[1:]:
        for name, one, other in zip(names, gradients(surgery), joint, strict=True):
            assert (one is None) == (other is None), name
            if name.startswith("heads."):
                torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("variant", "cosine"), [("released", 0.658), ("paper", 0.593)])
def test_the_angle_between_gradients_with_surgery_and_in_joint_training(
    variant: Variant, cosine: float
) -> None:
    """The expected cosines are those of the golden gradients."""
    names = [name for name, _ in golden_network().named_parameters()]
    joint, ours = (
        torch.cat(
            [
                gradient.flatten()
                for name, gradient in zip(names, gradients(surgery), strict=True)
                if gradient is not None and name.startswith("stages.")
            ]
        )
        for surgery in (Surgery("joint"), Surgery(variant, 0.5))
    )
    assert round(float(F.cosine_similarity(joint, ours, dim=0)), 3) == cosine


@settings(deadline=None, max_examples=25)
@given(
    exits=st.integers(2, 4),
    base=st.integers(1, 2),
    step=st.integers(1, 2),
    bottleneck=st.booleans(),
    variant=st.sampled_from(["released", "paper", "unreferenced"]),
    beta=st.floats(0, 1),
)
def test_partial_backward_gives_the_gradients_of_masking(
    exits: int, base: int, step: int, bottleneck: bool, variant: Variant, beta: float
) -> None:
    """Stopped channels run through concatenations, transitions and further boundaries."""
    shape: dict[str, object] = {"exits": exits, "base": base, "step": step}
    shape |= {"bottleneck": bottleneck, "channels": 4, "growth": 4}
    shape |= {"head_channels": 4, "head_dropout": 0.0}
    torch.manual_seed(0)
    network = build_network("msdnet", shape, classes=3).double().eval()
    images, found = torch.randn(2, 3, 32, 32, dtype=torch.float64), []
    for form in (Surgery, MaskedSurgery):
        network.surgery = form(variant, beta)
        logits = network(images)
        gradients = torch.autograd.grad(
            torch.stack(logits).square().sum(), list(network.parameters()), allow_unused=True
        )
        found.append((logits, gradients))
    (logits, gradients), (masked_logits, masked_gradients) = found
    assert all(map(torch.equal, logits, masked_logits))
    for one, other in zip(gradients, masked_gradients, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("size", [8, 31, 64, 96])
@pytest.mark.parametrize("recipe", ["cifar-compact", "imagenet-paper"])
def test_images_can_have_any_size(recipe: str, size: int) -> None:
    with torch.device("meta"):
        network = build_network("msdnet", RECIPES[recipe].shape, classes=10).eval()
        logits = network(torch.empty(2, 3, size, size))
    assert all(one.shape == (2, 10) for one in logits)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_the_pool_of_a_head_equals_the_published_one_bit_for_bit_on_2_x_2_features(
    memory_format: torch.memory_format,
) -> None:
    features = torch.randn(3, 50, 2, 2).to(memory_format=memory_format)
    found = []
    for pool in (AveragePool(), nn.AvgPool2d(2)):
        given = features.clone().requires_grad_()
        made = pool(given)
        (gradient,) = torch.autograd.grad(made.square().sum(), given)
        found.append((made, gradient))
    assert all(map(torch.equal, *found))
    larger = torch.randn(3, 5, 7, 6)
    torch.testing.assert_close(AveragePool()(larger), larger.mean((2, 3), keepdim=True))


def test_training_mode_gives_the_golden_logits_and_buffers() -> None:
    network = golden_network().train()
    network.surgery = Surgery("released", 0.5)
    for logits, expected in zip(network(tensor("x")), BASE["logits_train"], strict=True):
        np.testing.assert_allclose(logits.detach(), expected, rtol=0, atol=1e-5)
    for name, found in zip(buffer_names(), batch_norm_buffers(network), strict=True):
        np.testing.assert_allclose(found, BASE[f"bufafter/{name}"], rtol=1e-5, atol=1e-6)
