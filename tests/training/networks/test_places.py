"""Exits by time are measured once, when a run starts, and then read from its recipe."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.training.families import SMALL
from tests.training.samples import PARQUET, TINY, tiny_dataset, tiny_progress
from training.__main__ import main
from training.errors import CheckpointError, RecipeError
from training.fit.checkpoint import load_checkpoint, save_checkpoint
from training.fit.same_run import check_same_recipe
from training.fit.trainer import Trainer
from training.networks.backbones import build_network
from training.networks.places import with_places
from training.options import read_run
from training.recipes import Recipe

CPU = torch.device("cpu")
SHAPE = {**SMALL["efficientnet_lite"], "exits_by": "time"}
LITE = TINY.model_copy(update={"backbone": "efficientnet_lite", "shape": SHAPE})


class Measurement:
    """A measurement with given times, which counts its calls."""

    def __init__(self, *seconds: float) -> None:
        self.seconds = list(seconds)
        self.sizes: list[int] = []

    def __call__(self, blocks: Sequence[nn.Module], size: int) -> list[float]:
        assert len(blocks) == len(self.seconds)
        self.sizes.append(size)
        return self.seconds


def never(_blocks: Sequence[nn.Module], _size: int) -> list[float]:
    raise AssertionError("measured again")


def test_exits_are_at_the_shares_of_the_measured_time() -> None:
    measure = Measurement(6.0, *[0.4] * 15)  # 12 in all: half of it in the first of 16 blocks
    recipe, line = with_places(LITE, CPU, measure)
    assert recipe.shape == {**SHAPE, "blocks": [1, 4]}  # .3 and .6 of the time
    assert measure.sizes == [LITE.size]
    assert line == (
        "exits by time: after blocks 1, 4 of 16, at 50, 60 % of 12000.0 ms of CPU time (one "
        "image of 32 pixels, one thread)"
    )
    network = build_network("efficientnet_lite", recipe.shape, 10)
    fixed = build_network("efficientnet_lite", {**SHAPE, "blocks": [1, 4]}, 10)
    assert network.state_dict().keys() == fixed.state_dict().keys()


def test_equal_times_give_other_exits_than_flops() -> None:
    recipe, _ = with_places(LITE, CPU, Measurement(*[1.0] * 16))
    assert recipe.shape["blocks"] == [5, 10]


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": SMALL["efficientnet_lite"]},
        {"shape": {**SHAPE, "blocks": [2, 3]}},
        {"backbone": "msdnet", "shape": {}},
        {"backbone": "vit", "shape": {}},
    ],
)
def test_nothing_else_is_measured(changes: dict[str, object]) -> None:
    recipe = LITE.model_copy(update=changes)
    assert with_places(recipe, CPU, never) == (recipe, None)


def test_the_blocks_of_this_machine_are_measured_by_default() -> None:
    recipe, line = with_places(LITE, CPU)
    blocks = recipe.shape["blocks"]
    assert isinstance(blocks, list)
    assert 1 <= blocks[0] < blocks[1] < 16
    assert line is not None


def test_places_that_do_not_rise_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"^shape\.exits: \[0\.3, 0\.6\] put exits .* \[1, 1\]"):
        with_places(LITE, CPU, Measurement(1.0, *[0.0] * 15))


def test_a_network_is_never_built_by_a_measurement() -> None:
    with pytest.raises(RecipeError, match=r"^shape\.exits_by: time needs a measurement"):
        build_network("efficientnet_lite", SHAPE, 10)


def test_a_size_that_the_network_cannot_read_is_refused() -> None:
    def refuse(_blocks: Sequence[nn.Module], _size: int) -> list[float]:
        raise AssertionError("Input height (32) doesn't match model (224).")

    with pytest.raises(RecipeError, match=r"^size: this network cannot read 32 x 32 pixels"):
        with_places(LITE, CPU, refuse)


def test_a_resumed_run_takes_the_blocks_of_the_saved_one() -> None:
    saved = tiny_progress(backbone="efficientnet_lite", shape={**SHAPE, "blocks": [2, 15]})
    given = LITE.continuing(saved.recipe)
    check_same_recipe(saved, given)
    assert with_places(given, CPU, never) == (given, None)
    assert given.shape["blocks"] == [2, 15]
    for shape in (
        SMALL["efficientnet_lite"],
        {**SHAPE, "exits": [0.3, 0.7]},
        {**SHAPE, "blocks": [2, 14]},
    ):
        other = LITE.model_copy(update={"shape": shape}).continuing(saved.recipe)
        with pytest.raises(CheckpointError, match=r"^shape: the run to resume has"):
            check_same_recipe(saved, other)


OPTIONS = [
    *("photos", "--weights", "none", f"--data={PARQUET}", "--held-out=100", "--batch-size=100"),
    *("--size=32", "--crop=shifted", "--shrink=false", "--epochs=1", "--device=cpu"),
    *("--shape.width=0.25", "--shape.exits=[0.3, 0.6]", "--shape.hidden=16"),
    *("--shape.exits_by", "time"),
]


def test_a_run_keeps_its_blocks_when_it_is_resumed(tmp_path: Path) -> None:
    """No measurement would choose these blocks."""
    _, recipe = read_run([*OPTIONS, f"--out={tmp_path}"])
    shape = {**recipe.shape, "blocks": [2, 15]}
    start = tiny_progress().model_copy(
        update={"recipe": recipe.model_copy(update={"shape": shape, "weights": None})}
    )
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, Trainer(start, tiny_dataset(), CPU).checkpoint())
    assert main([*OPTIONS, f"--out={tmp_path}", "--resume"]) == 0
    done = load_checkpoint(path)
    assert (len(done.progress.epochs), done.progress.recipe.shape) == (1, shape)
    assert done.network().exits == 3


def test_a_run_says_what_it_measured(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main([*OPTIONS, f"--out={tmp_path / 'run'}", "--data=/nowhere"]) == 1
    line = r"exits by time: after blocks \d+, \d+ of 16, at \d+, \d+ % of [0-9.]+ ms of CPU"
    assert re.match(line, capsys.readouterr().out)


def test_a_checkpoints_header_keeps_the_blocks() -> None:
    recipe, _ = with_places(LITE, CPU, Measurement(*[1.0] * 16))
    again = Recipe.model_validate_json(recipe.model_dump_json())
    assert again.shape["blocks"] == recipe.shape["blocks"] == [5, 10]
