"""Flops, parameters and boundaries of the papers' networks."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from tests.training.masked import MaskedSurgery
from training.networks.backbones import build_network
from training.networks.flops import flops_of_step
from training.networks.multi_exit import MultiExitNetwork
from training.recipes import RECIPES
from training.surgery.boundary import Surgery

BACKWARD = {
    0.25: (1222.24, 1203.96),
    0.5: (1257.31, 1220.74),
    0.75: (1295.19, 1238.56),
    0.9: (1332.08, 1254.48),
}


JOINT_BACKWARD = 1357.31


@cache
def cifar_network() -> MultiExitNetwork:
    """Build the papers' CIFAR network, once for all counts."""
    return build_network("msdnet", {}, classes=100)


def backward_flops(surgery: Surgery) -> float:
    """Count those of the papers' CIFAR network, in millions, two for each multiply-add."""
    network = cifar_network()
    network.surgery = surgery
    _, backward = flops_of_step(network, size=32)
    return round(2 * backward / 1e6, 2)


@pytest.mark.parametrize("beta", BACKWARD)
def test_backward_flops_with_surgery_are_minimal(beta: float) -> None:
    released, paper = BACKWARD[beta]
    assert backward_flops(Surgery("released", beta)) == released
    assert backward_flops(Surgery("paper", beta)) == paper
    assert backward_flops(Surgery("unreferenced", beta)) == paper


@pytest.mark.parametrize("surgery", [Surgery("joint"), MaskedSurgery("paper")])
def test_backward_flops_of_joint_training_and_masking_are_complete(surgery: Surgery) -> None:
    assert backward_flops(surgery) == JOINT_BACKWARD


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
