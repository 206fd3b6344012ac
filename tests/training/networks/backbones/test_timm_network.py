"""Networks of timm are cut into stages that compute what timm computes."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from training.errors import RecipeError
from training.networks.backbones import build_network, pretrained_weights
from training.networks.weights import load_pretrained
from training.surgery.boundary import Surgery

pytestmark = pytest.mark.timm


@pytest.fixture(scope="module")
def timm() -> Any:
    """Import timm only if its tests are selected, because its import takes seconds."""
    return import_module("timm")


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "size"),
    [("resnet10t", 64), ("mobilenetv3_small_050", 64), ("deit_tiny_patch16_224", 224)],
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


def test_names_and_sizes_that_do_not_exist_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"timm .* has no network no_such; see timm.list_models"):
        build_network("timm:no_such", {}, classes=3)
    with pytest.raises(RecipeError, match=r"shape\.image_size: resnet10t reads images of every"):
        build_network("timm:resnet10t", {"image_size": 64}, classes=3)
    with pytest.raises(RecipeError, match="no package has weights of timm; give hub or a file"):
        pretrained_weights("timm:resnet10t", {}, "package", keep_head=False)
