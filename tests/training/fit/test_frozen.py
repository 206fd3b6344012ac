"""A frozen trunk and a kept head stay bit for bit what they were, and so does frozen batch norm."""

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from tests.training.families import SMALL, small_network
from tests.training.pretrained import LITE, original, retrofit, write_weights
from tests.training.samples import tiny_dataset, tiny_progress
from training.data.images import Images
from training.errors import RecipeError
from training.fit.frozen import start_training
from training.fit.initial import with_weights
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


@pytest.mark.parametrize("keep_head", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {"ema": 0.9},
        {"objective": "distillation"},
        {"shape": {**SMALL["efficientnet_lite"], "head": "coarse"}},
    ],
)
def test_a_frozen_trunk_stays_bit_for_bit_and_heads_are_trained(
    tmp_path: Path, options: dict[str, object], *, keep_head: bool
) -> None:
    path = write_weights(tmp_path / "w.safetensors")
    progress, pretrained = retrofit(path, keep_head=keep_head, **options)
    trainer = Trainer(progress, tiny_dataset(), torch.device("cpu"), pretrained=pretrained)
    before = {name: t.clone() for name, t in trainer.network.state_dict().items()}
    trainer.run_epoch(lambda batches, _: batches)
    given = original().state_dict()
    for state in (trainer.network.state_dict(), trainer.checkpoint().weights):
        for name, tensor in state.items():
            if name.startswith("stages") or (keep_head and name.startswith("heads.2")):
                assert torch.equal(tensor, given[name]), name
            elif name.startswith("heads"):
                assert not torch.equal(tensor, before[name]), name


def test_a_frozen_trunk_has_no_state_in_the_optimizer(tmp_path: Path) -> None:
    progress, pretrained = retrofit(write_weights(tmp_path / "w.safetensors"), keep_head=True)
    trainer = Trainer(progress, tiny_dataset(), torch.device("cpu"), pretrained=pretrained)
    trainer.run_epoch(lambda batches, _: batches)
    heads = trainer.network.heads[:-1]
    trained = {id(p) for p in trainer.network.parameters() if p.requires_grad}
    assert trained == {id(p) for p in heads.parameters()}
    steps = [name for name in trainer.checkpoint().optimizers if name.endswith("/step")]
    assert len(steps) == len(trained)


def test_random_weights_are_not_frozen() -> None:
    recipe = LITE.model_copy(update={"freeze": "trunk"})
    with pytest.raises(RecipeError, match="--freeze: the trunk has random weights; give --weights"):
        with_weights(recipe, None, keep_head=False)


@pytest.mark.parametrize(
    "given", [{"variant": "paper"}, {"objective": "pcgrad"}, {"optimizer": "muon"}]
)
def test_options_that_change_the_training_of_a_trunk_do_not_go_with_a_frozen_one(
    given: dict[str, object],
) -> None:
    (option,) = given
    with pytest.raises(ValidationError, match=f"{option}: .*--freeze trunk trains only heads"):
        retrofit(Path("unread"), keep_head=False, **given)


def test_frozen_batch_norm_gives_the_features_of_evaluation() -> None:
    network = small_network("vgg")
    frozen = LITE.model_copy(update={"batch_norm": "frozen"})
    start_training(network, LITE)
    images = Images(torch.randint(256, (6, 32, 32, 3), dtype=torch.uint8), torch.zeros(6))
    network(network.normalize(images.pixels))
    start_training(network, frozen)
    assert torch.equal(features(network, images), features(network.eval(), images))
    start_training(network, LITE)
    assert not torch.equal(features(network, images), features(network.eval(), images))


def features(network: MultiExitNetwork, images: Images) -> Tensor:
    found = network.stages[0]([network.normalize(images.pixels)])[-1]
    assert isinstance(found, Tensor)
    return found.detach()
