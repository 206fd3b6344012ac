from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.families import SMALL
from tests.training.fit.runs import CPU, trained, untracked
from tests.training.samples import TINY, tiny_dataset, tiny_progress
from training.data.datasets import load_dataset
from training.errors import CheckpointError, DivergedError, RecipeError
from training.fit.checkpoint import Checkpoint, load_checkpoint
from training.fit.trainer import Trainer


def test_each_step_is_reported() -> None:
    steps: list[tuple[int, float, float]] = []
    trainer = Trainer(tiny_progress(schedule="linear", lr=0.2), tiny_dataset(), CPU)
    for _ in range(2):
        epoch = trainer.run_epoch(
            untracked, lambda number, loss, lr: steps.append((number, float(loss), lr))
        )
    numbers, losses, rates = zip(*steps, strict=True)
    assert numbers == tuple(range(1, 9))
    assert sum(losses[4:]) / 4 == pytest.approx(epoch.loss)
    assert rates == pytest.approx([0.2 * (1 - step / 8) for step in range(8)])
    assert trainer.steps_done == 8
    assert epoch.images_per_second * epoch.seconds >= 400


def test_training_lowers_the_loss() -> None:
    shape = {"exits": 2, "base": 1, "step": 1, "channels": 8, "growth": 8, "head_dropout": 0.0}
    options: dict[str, Any] = {"optimizer": "muon", "lr": 0.05, "muon_lr": 0.1, "cutout": 0}
    options |= {"schedule": "linear", "shape": shape, "batch_size": 50, "epochs": 6}
    trainer = Trainer(tiny_progress(**options), tiny_dataset(), CPU)
    reports = [trainer.run_epoch(untracked) for _ in range(6)]
    assert reports[-1].loss < reports[0].loss
    assert min(reports[-1].accuracies) > 0.15, "chance is 0.1"


@pytest.mark.parametrize("backbone", sorted(SMALL.keys() - {"msdnet"}))
def test_each_other_backbone_is_trained_and_restored(tmp_path: Path, backbone: str) -> None:
    recipe: dict[str, Any] = {"backbone": backbone, "shape": SMALL[backbone]}
    recipe |= {"epochs": 1, "variant": "paper"}
    fresh = Trainer(tiny_progress(**recipe), tiny_dataset(), CPU).network
    trained(tmp_path / "c", **recipe)
    network = load_checkpoint(tmp_path / "c").network()
    for (name, before), after in zip(fresh.named_parameters(), network.parameters(), strict=True):
        assert after.isfinite().all(), name
        assert not torch.equal(before, after), f"{name} has not moved"


def test_an_existing_run_is_not_overwritten(tmp_path: Path) -> None:
    trained(tmp_path / "c", stop_after=1)
    with pytest.raises(CheckpointError, match="--resume"):
        trained(tmp_path / "c")


def test_resuming_with_another_recipe_raises_an_error_that_names_the_field(tmp_path: Path) -> None:
    trained(tmp_path / "c", stop_after=1)
    with pytest.raises(CheckpointError, match=r"^beta: the run to resume has 0\.5"):
        trained(tmp_path / "c", resume=True, beta=0.25)


def test_resuming_with_other_images_is_rejected(tmp_path: Path) -> None:
    trained(tmp_path / "c", stop_after=1)
    other = tiny_progress().model_copy(update={"fingerprint": "another"})
    trainer = Trainer(other, tiny_dataset(), CPU)
    with pytest.raises(CheckpointError, match="other images"):
        trainer.restore(load_checkpoint(tmp_path / "c"))


def test_divergence_raises_an_error_on_the_learning_rate_and_writes_no_checkpoint(
    tmp_path: Path,
) -> None:
    with pytest.raises(DivergedError, match=r"^lr: "):
        trained(tmp_path / "c", lr=1e9, batch_size=25)
    with pytest.raises(DivergedError, match=r"^lr: "):
        trained(tmp_path / "c", lr=1e9, batch_size=25, save_every=7)
    assert not (tmp_path / "c").exists()


def test_results_that_are_not_finite_count_as_wrong() -> None:
    held_out = tiny_dataset().held_out
    assert (held_out.targets == 0).any()  # the class that argmax returns for NaN
    trainer = Trainer(tiny_progress(batch_size=400), tiny_dataset(), CPU)

    def diverge(_steps: int, _loss: Tensor, _lr: float) -> None:
        torch.nn.init.constant_(next(trainer.network.heads[-1].parameters()), torch.inf)

    assert trainer.run_epoch(untracked, diverge).accuracies[-1] == 0


def test_a_size_that_the_network_cannot_read_raises_an_error_with_advice() -> None:
    vgg = {"backbone": "vgg", "shape": SMALL["vgg"]}
    with pytest.raises(RecipeError, match=r"^size: .* 2 x 2 pixels; give a larger --size"):
        Trainer(tiny_progress(**vgg, size=2, shift=0), tiny_dataset(), CPU)


def test_images_of_64_pixels_can_be_trained_on() -> None:
    dataset = load_dataset(TINY.data, 64, TINY.held_out, TINY.seed)
    options = {"size": 64, "small_size": 40, "small_epochs": 1}
    trainer = Trainer(tiny_progress(**options), dataset, CPU)
    for _ in range(2):
        assert 0 < trainer.run_epoch(untracked).loss < 10


def test_a_constant_channel_can_be_trained_on() -> None:
    images = tiny_dataset().train
    pixels = images.pixels.clone()
    pixels[..., 2] = 0
    dataset = replace(tiny_dataset(), train=replace(images, pixels=pixels))
    epoch = Trainer(tiny_progress(), dataset, CPU).run_epoch(untracked)
    assert 0 < epoch.loss < 10


def test_weights_that_do_not_fit_are_rejected() -> None:
    trainer = Trainer(tiny_progress(), tiny_dataset(), CPU)
    checkpoint = trainer.checkpoint()
    foreign = Checkpoint(checkpoint.progress, {"w": torch.ones(1)}, {}, {})
    with pytest.raises(CheckpointError, match="does not fit"):
        trainer.restore(foreign)


def test_images_are_normalised_by_statistics_of_the_training_set() -> None:
    trainer = Trainer(tiny_progress(), tiny_dataset(), CPU)
    normalised = trainer.network.normalize(tiny_dataset().train.pixels)
    torch.testing.assert_close(normalised.mean((0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(normalised.std((0, 2, 3)), torch.ones(3), atol=1e-4, rtol=0)


def test_bf16_gives_nearly_the_loss_of_fp32() -> None:
    losses = []
    for precision in ("fp32", "bf16"):
        trainer = Trainer(tiny_progress(precision=precision), tiny_dataset(), CPU)
        losses.append(trainer.run_epoch(untracked).loss)
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    assert losses[1] != losses[0]


@pytest.mark.gpu
def test_an_epoch_on_cuda() -> None:
    trainer = Trainer(tiny_progress(precision="bf16"), tiny_dataset(), torch.device("cuda"))
    epoch = trainer.run_epoch(untracked)
    assert 0 < epoch.loss < 10
    assert next(trainer.network.parameters()).is_cuda
