"""Our MSDNet against what the authors' released classes compute."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden import BASE, VARIANTS, batch_norm_buffers, buffer_names, golden_network, tensor

from training.backbones import build_network
from training.recipes import RECIPES
from training.surgery import Surgery

SETS = {
    "released 0.5": (BASE, "", Surgery("released", 0.5)),
    "joint": (VARIANTS, "joint/", Surgery("joint")),
    "paper 0.5": (VARIANTS, "paper_b050/", Surgery("paper", 0.5)),
    "paper 0.25": (VARIANTS, "paper_b025/", Surgery("paper", 0.25)),
    "unreferenced 0.5": (VARIANTS, "nofr_b050/", Surgery("unreferenced", 0.5)),
}


@pytest.mark.parametrize("surgery", [Surgery("joint"), Surgery("released", 0.5), Surgery("paper")])
def test_logits(surgery: Surgery) -> None:
    network = golden_network().eval()
    network.surgery = surgery
    for logits, expected in zip(network(tensor("x")), BASE["logits_eval"], strict=True):
        np.testing.assert_allclose(logits.detach(), expected, rtol=0, atol=1e-5)


def test_logits_without_referencing() -> None:
    network = golden_network().eval()
    network.surgery = Surgery("unreferenced", 0.5)
    expected = VARIANTS["nofr_b050/logits_eval"]
    for logits, golden in zip(network(tensor("x")), expected, strict=True):
        np.testing.assert_allclose(logits.detach(), golden, rtol=0, atol=1e-5)


def test_features_at_the_boundaries() -> None:
    network = golden_network().eval()
    features = [tensor("x")[:1]]
    for k, stage in enumerate(network.stages):
        features = stage(features)
        for s, found in enumerate(features):
            expected = BASE[f"bound/{k}/{s}"]
            np.testing.assert_allclose(found.detach(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SETS)
def test_gradient_of_every_parameter(name: str) -> None:
    golden, prefix, surgery = SETS[name]
    network = golden_network().train()
    network.surgery = surgery
    sum(F.cross_entropy(logits, tensor("y")) for logits in network(tensor("x"))).backward()
    unused, compared = set(BASE["unused"]), 0
    for parameter_name, parameter in zip(BASE["names"], network.parameters(), strict=True):
        if parameter_name in unused:
            assert parameter.grad is None
        elif f"{prefix}grad/{parameter_name}" in golden.files:
            expected = golden[f"{prefix}grad/{parameter_name}"]
            worst = np.abs(parameter.grad.numpy() - expected).max()
            assert worst <= 1e-4 * np.abs(expected).max(), parameter_name
            compared += 1
    # the sets of variants hold the gradients of the blocks alone
    assert compared == (135 if golden is BASE else 111)


def test_training_mode() -> None:
    network = golden_network().train()
    network.surgery = Surgery("released", 0.5)
    for logits, expected in zip(network(tensor("x")), BASE["logits_train"], strict=True):
        np.testing.assert_allclose(logits.detach(), expected, rtol=0, atol=1e-5)
    for name, found in zip(buffer_names(), batch_norm_buffers(network), strict=True):
        np.testing.assert_allclose(found, BASE[f"bufafter/{name}"], rtol=1e-5, atol=1e-6)


def test_the_papers_cifar_network_has_its_size_and_boundaries() -> None:
    network = build_network("msdnet", {}, classes=100).eval()
    assert sum(p.numel() for p in network.parameters()) == 7_362_348
    features = [torch.zeros(1, 3, 32, 32)]
    shapes = []
    for stage in network.stages:
        features = stage(features)
        shapes.append([tuple(f.shape[1:3]) for f in features])
    assert shapes == [
        [(80, 32), (160, 16), (320, 8)],
        [(112, 32), (224, 16), (448, 8)],
        [(160, 16), (320, 8)],
        [(224, 16), (448, 8)],
        [(288, 16), (576, 8)],
        [(384, 8)],
        [(512, 8)],
    ]


def test_the_papers_imagenet_network_has_its_size_and_boundaries() -> None:
    with torch.device("meta"):
        network = build_network("msdnet", RECIPES["imagenet-paper"].shape, classes=1000)
        features = [torch.empty(1, 3, 224, 224)]
    assert sum(p.numel() for p in network.parameters()) == 23_958_440
    shapes = []
    for stage in network.stages:
        features = stage(features)
        shapes.append([tuple(f.shape[1:3]) for f in features])
    assert shapes == [
        [(96, 56), (192, 28), (384, 14), (384, 7)],
        [(192, 28), (384, 14), (384, 7)],
        [(352, 14), (352, 7)],
        [(304, 7)],
        [(560, 7)],
    ]
