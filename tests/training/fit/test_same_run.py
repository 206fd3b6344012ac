"""Which options can differ when a run is resumed."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.samples import tiny_dataset, tiny_progress
from training.errors import CheckpointError
from training.fit.checkpoint import load_checkpoint, save_checkpoint
from training.fit.same_run import check_same_recipe, check_same_run, moved
from training.fit.trainer import Trainer
from training.networks.backbones.msdnet import MSDNetConfig


def test_images_that_moved_are_the_same_run(tmp_path: Path) -> None:
    saved, start = tiny_progress(), tiny_progress(data="./elsewhere", held_out=None)
    check_same_run(saved, start)
    line = moved(saved, start)
    assert line is not None
    assert "./elsewhere are the same" in line
    assert moved(saved, tiny_progress()) is None
    trainer = Trainer(start, tiny_dataset(), torch.device("cpu"))
    save_checkpoint(tmp_path / "c", Trainer(saved, tiny_dataset(), trainer.device).checkpoint())
    trainer.restore(load_checkpoint(tmp_path / "c"))
    assert trainer.progress.recipe.data == "./elsewhere"
    assert trainer.progress.recipe.held_out == 100


def test_other_images_are_another_run_wherever_they_are() -> None:
    other = tiny_progress().model_copy(update={"fingerprint": "another"})
    with pytest.raises(CheckpointError, match=r"^data: the run to resume used other images"):
        check_same_run(tiny_progress(), other)


def test_a_network_of_timm_is_the_same_run() -> None:
    timm: dict[str, Any] = {"backbone": "timm:resnet10t", "shape": {"exits": [0.5]}}
    check_same_recipe(tiny_progress(**timm), tiny_progress(**timm).recipe)
    with pytest.raises(CheckpointError, match=r"^shape: "):
        check_same_recipe(tiny_progress(**timm), tiny_progress(**{**timm, "shape": {}}).recipe)


SHAPE = tiny_progress().recipe.shape


@pytest.mark.parametrize(
    ("run", "given"),
    [
        ({"optimizer": "sgd", "muon_lr": 0.1}, {"muon_lr": 0.3}),
        ({"schedule": "cosine"}, {"milestones": (0.5,)}),
        ({"crop": "resized"}, {"shift": 2}),
        ({"small_epochs": 0, "small_size": None}, {"small_size": 16}),
        ({"batch_size": 400}, {"batch_size": 500}),
        ({"micro_batch": None}, {"micro_batch": 100}),
        ({"beta": 0.5}, {"beta": (0.5,)}),
        ({}, {"shape": {**SHAPE, "head_dropout": MSDNetConfig().head_dropout}}),
    ],
)
def test_a_field_without_influence_can_differ(run: dict[str, Any], given: dict[str, Any]) -> None:
    check_same_recipe(tiny_progress(**run), tiny_progress(**run | given).recipe)


@pytest.mark.parametrize(
    "given",
    [
        {"seed": 1}, {"lr": 0.2}, {"epochs": 3}, {"batch_size": 50}, {"micro_batch": 40},
        {"cutout": 2}, {"milestones": (0.5,)}, {"shape": {**SHAPE, "growth": 8}},
        {"objective": "distillation"}, {"small_epochs": 1, "small_size": 24}, {"beta": 0.25},
    ],
)  # fmt: skip
def test_a_field_with_an_influence_must_be_equal(given: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match=f"^({'|'.join(given)}): the run to resume has"):
        check_same_recipe(tiny_progress(), tiny_progress(**given).recipe)
