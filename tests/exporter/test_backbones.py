"""Export of every backbone: split, graph and verify."""

import pytest
import torch

from exporter.network.stage_graphs import export_stages
from exporter.network.stage_modules import split
from exporter.network.verify import verify_blocks, verify_chain
from exporter.stages.graph import cut_by_need
from tests.exporter.exported import SHAPE
from tests.training.families import first_exits, small_network
from tests.training.samples import tiny_dataset
from training.networks.backbones import BACKBONES, build_network
from training.networks.confidence import CONFIDENCES
from training.networks.flops import flop_costs
from training.surgery.boundary import Surgery, Variant


@pytest.mark.parametrize(
    ("backbone", "variant"), [*((b, "paper") for b in BACKBONES), ("vit", "unreferenced")]
)
def test_graphs_give_the_outputs_of_the_network(backbone: str, variant: Variant) -> None:
    # Deeper exits of ResNet-18 and ViT have the same layers, and all boundaries the same surgery.
    # `test_retrofit` exports, and so verifies, a whole EfficientNet-Lite.
    whole = backbone in ("msdnet", "vgg")
    network = (small_network if whole else first_exits)(backbone).eval()
    network.surgery = Surgery(variant, 0.5)
    modules = split(network, CONFIDENCES["max_softmax"])
    graphs = export_stages(modules, size=32)
    pixels = tiny_dataset().held_out.pixels[:20]
    verify_blocks(modules, graphs, pixels)
    stages = cut_by_need(graphs)
    temperatures = [float(module.temperature) for module in modules]
    assert verify_chain(network, temperatures, stages, pixels) < 1e-5
    # cutting by need also removes scales that a later stage drops
    by_need, blockwise = (sum(g.flops for g in each) for each in (stages, graphs))
    assert by_need < blockwise if backbone == "msdnet" else by_need == blockwise
    costs = flop_costs(network, 32)
    stated = [stage + head for stage, head in zip(costs.stages, costs.heads, strict=True)]
    counted = [graph.flops for graph in graphs]
    assert counted[:-1] == stated[:-1]
    # the finer scales of MSDNet's last layer are unused and not in the graph
    assert counted[-1] < stated[-1] if backbone == "msdnet" else counted[-1] == stated[-1]


def test_a_network_that_ends_early_with_coarse_heads_is_exported_and_counted() -> None:
    torch.manual_seed(0)
    shape = {"width": 0.25, "hidden": 16, "head": "coarse", "blocks": [3], "last_block": 5}
    network = build_network("efficientnet_lite", shape, classes=10).eval()
    modules = split(network, CONFIDENCES["max_softmax"])
    graphs = cut_by_need(export_stages(modules, size=32))
    pixels = tiny_dataset().held_out.pixels[:20]
    assert verify_chain(network, [1.0, 1.0], graphs, pixels) < 1e-5
    costs = flop_costs(network, 32)
    counted = [graph.flops for graph in graphs]
    assert counted == [stage + head for stage, head in zip(costs.stages, costs.heads, strict=True)]
    assert graphs[0].head_flops == costs.heads[0]


def test_graphs_of_an_msdnet_for_64_pixels_give_its_outputs() -> None:
    torch.manual_seed(0)
    fewer = {"exits": 2, "growth_factors": (1, 2), "bottleneck_factors": (1, 2)}
    shape = SHAPE | fewer | {"bottleneck": False}
    network = build_network("msdnet", shape, classes=10).eval()
    modules = split(network, CONFIDENCES["max_softmax"])
    stages = cut_by_need(export_stages(modules, size=64))
    pixels = torch.randint(256, (20, 64, 64, 3), generator=torch.Generator().manual_seed(0))
    temperatures = [float(module.temperature) for module in modules]
    assert verify_chain(network, temperatures, stages, pixels.to(torch.uint8)) < 1e-5
