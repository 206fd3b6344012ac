"""Batch norm of the trunk with frozen statistics."""

import torch
from torch import Tensor, nn

from tests.training.families import SMALL, small_network
from tests.training.samples import tiny_dataset, tiny_progress
from training.data.images import Images
from training.fit.batch_norm import start_training
from training.fit.trainer import Trainer
from training.networks.multi_exit import MultiExitNetwork


def statistics(module: nn.Module) -> list[Tensor]:
    return [t.clone() for name, t in module.named_buffers() if "running" in name]


def test_frozen_statistics_of_the_stages_do_not_change_and_all_else_is_trained() -> None:
    options: dict[str, object] = {"backbone": "vgg", "shape": SMALL["vgg"], "variant": "paper"}
    progress = tiny_progress(**options, batch_norm="frozen")
    trainer = Trainer(progress, tiny_dataset(), torch.device("cpu"))
    network = trainer.network
    stages = statistics(network.stages)
    weights = [p.clone() for p in network.parameters()]
    trainer.run_epoch(lambda batches, _: batches)
    for before, after in zip(stages, statistics(network.stages), strict=True):
        assert torch.equal(before, after)
    for before, after in zip(weights, network.parameters(), strict=True):
        assert not torch.equal(before, after)


def test_frozen_batch_norm_gives_the_features_of_evaluation() -> None:
    network = small_network("vgg")
    start_training(network, "train")
    images = Images(torch.randint(256, (6, 32, 32, 3), dtype=torch.uint8), torch.zeros(6))
    network(network.normalize(images.pixels))
    start_training(network, "frozen")
    assert torch.equal(features(network, images), features(network.eval(), images))
    start_training(network, "train")
    assert not torch.equal(features(network, images), features(network.eval(), images))


def features(network: MultiExitNetwork, images: Images) -> Tensor:
    found = network.stages[0]([network.normalize(images.pixels)])[-1]
    assert isinstance(found, Tensor)
    return found.detach()
