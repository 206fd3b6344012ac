"""Blends of training images and of their labels."""

import pytest
import torch

from tests.training.samples import tiny_dataset, tiny_progress
from training.data.augment import Mixup, new_mixup
from training.data.images import Images
from training.errors import RecipeError


def batch(count: int) -> Images:
    return tiny_dataset().train.select(torch.arange(count))


@pytest.mark.parametrize("count", [6, 7])
def test_neighbours_are_blended_like_their_labels(count: int) -> None:
    given = batch(count)
    mixed = Mixup(0.4, seed=0, classes=10)(given, epoch=0, step=1)
    torch.testing.assert_close(mixed.targets.sum(1), torch.ones(count))
    for i in range(count):
        j = min(i ^ 1, count - 1)
        first, second = given.targets[i], given.targets[j]
        share = 1.0 if first == second else float(mixed.targets[i, first])
        if first != second:
            assert float(mixed.targets[i, second]) == pytest.approx(1 - share, abs=1e-6)
            expected = share * given.pixels[i].float() + (1 - share) * given.pixels[j].float()
            assert (mixed.pixels[i].float() - expected).abs().max() <= 0.51


def test_blends_depend_on_epoch_and_step_alone() -> None:
    mixup = Mixup(0.4, seed=0, classes=10)
    one, again = mixup(batch(6), 1, 2), mixup(batch(6), 1, 2)
    assert torch.equal(one.pixels, again.pixels)
    assert torch.equal(one.targets, again.targets)
    for epoch, step in ((1, 3), (2, 2)):
        assert not torch.equal(mixup(batch(6), epoch, step).pixels, one.pixels)


def test_processes_blend_like_one(monkeypatch: pytest.MonkeyPatch) -> None:
    mixup, whole = Mixup(0.4, seed=0, classes=10), batch(8)
    expected = mixup(whole, 0, 1)
    monkeypatch.setattr("training.data.augment.processes", lambda: 2)
    for rank in (0, 1):
        monkeypatch.setattr(
            "training.data.augment.shard", lambda shares, r=rank: shares.tensor_split(2)[r]
        )
        half = slice(4 * rank, 4 * rank + 4)
        found = mixup(whole.select(torch.arange(8)[half]), 0, 1)
        assert torch.equal(found.pixels, expected.pixels[half])
        assert torch.equal(found.targets, expected.targets[half])
    with pytest.raises(RecipeError, match="mixup: 3 images of a batch in each process"):
        new_mixup(tiny_progress(mixup=0.2, batch_size=6).recipe, 10, 400)


def test_without_the_option_nothing_is_blended() -> None:
    assert new_mixup(tiny_progress().recipe, 10, 400) is None
