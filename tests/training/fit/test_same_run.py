"""Which options can differ when a run is resumed."""

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.samples import tiny_dataset, tiny_progress
from training.errors import CheckpointError
from training.fit.checkpoint import load_checkpoint, save_checkpoint
from training.fit.same_run import check_same_recipe, check_same_run, check_same_weights, moved
from training.fit.trainer import Trainer
from training.networks.backbones.msdnet import MSDNetConfig
from training.recipes.weights import Weights


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


def record(sha256: str, *, keep_head: bool = False) -> Weights:
    return Weights(
        source="mine",
        sha256=sha256,
        size=8,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        filter="bicubic",
        licence="mine",
        margin=1,
        keep_head=keep_head,
    )


def test_the_same_weights_or_none_can_be_given_again(tmp_path: Path) -> None:
    file = tmp_path / "mine.safetensors"
    file.write_bytes(b"weights")
    saved = record(sha256(b"weights").hexdigest(), keep_head=True)
    for source in (None, "package", str(file), str(tmp_path / "removed.safetensors")):
        check_same_weights(saved, source, keep_head=True)
    check_same_weights(None, "none", keep_head=False)
    check_same_weights(saved, None, keep_head=False)


@pytest.mark.parametrize("source", ["none", "FILE"])
def test_other_weights_are_another_run(tmp_path: Path, source: str) -> None:
    file = tmp_path / "mine.safetensors"
    file.write_bytes(b"other weights")
    with pytest.raises(CheckpointError, match=r"weights: the run to resume starts from mine"):
        check_same_weights(
            record("0" * 64), str(file) if source == "FILE" else source, keep_head=False
        )


def test_a_run_from_random_weights_cannot_take_others() -> None:
    with pytest.raises(CheckpointError, match="weights: the run to resume starts from none"):
        check_same_weights(None, "package", keep_head=False)


@pytest.mark.parametrize("saved", [None, record("0" * 64)])
def test_a_head_cannot_be_kept_later(saved: Weights | None) -> None:
    with pytest.raises(CheckpointError, match="keep_head: the run to resume has a head of its own"):
        check_same_weights(saved, None, keep_head=True)
