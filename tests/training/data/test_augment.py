import torch
from hypothesis import given
from hypothesis import strategies as st

from training.data.augment import Augment, jitter_colors, shrink

RNG_SEED = 3


def images(count: int = 6, size: int = 8) -> torch.Tensor:
    return (
        torch.arange(count * size * size * 3)
        .remainder(251)
        .to(torch.uint8)
        .view(count, size, size, 3)
    )


def apply(
    augment: Augment, batch: torch.Tensor, epoch: int = 0, seed: int = RNG_SEED
) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    indices = torch.arange(len(batch))
    return augment(batch, augment.draw(indices, epoch, batch.shape[1], rng))


def test_without_options_images_do_not_change() -> None:
    assert torch.equal(apply(Augment(0, flip=False, cutout=0), images()), images())


def test_every_image_is_mirrored_in_every_other_epoch() -> None:
    batch, augment = images(64), Augment(0, flip=True, cutout=0)
    even, odd = apply(augment, batch, epoch=0), apply(augment, batch, epoch=1)
    mirrored = torch.tensor([torch.equal(e, b.flip(1)) for e, b in zip(even, batch, strict=True)])
    assert 16 < int(mirrored.sum()) < 48, "about half of the images in each epoch"
    assert torch.equal(odd, even.flip(2))


@given(st.integers(1, 3), st.integers(0, 1000))
def test_a_shifted_image_is_a_window_of_the_padded_one(shift: int, seed: int) -> None:
    batch = images(2)
    moved = apply(Augment(shift, flip=False, cutout=0), batch, seed=seed)
    floats = batch.permute(0, 3, 1, 2).float()
    padded = torch.nn.functional.pad(floats, [shift] * 4, mode="reflect").permute(0, 2, 3, 1)
    for one, source in zip(moved, padded, strict=True):
        windows = source.to(torch.uint8).unfold(0, 8, 1).unfold(1, 8, 1).flatten(0, 1)
        assert (windows == one.permute(2, 0, 1)).flatten(1).all(1).any()


def test_cutout_paints_at_most_one_square() -> None:
    white = torch.full((50, 16, 16, 3), 255, dtype=torch.uint8)
    painted = apply(Augment(0, flip=False, cutout=4), white)
    grey = (painted == 127).all(-1).flatten(1).sum(1)
    assert ((painted == 127) | (painted == 255)).all()
    assert int(grey.max()) == 16
    assert int(grey.min()) >= 4, "at least a corner of the square"


def test_color_jitter_changes_each_image_within_its_limits() -> None:
    grey = torch.full((40, 4, 4, 3), 100, dtype=torch.uint8)
    changed = apply(Augment(0, flip=False, cutout=0, color_jitter=0.2), grey)
    assert (changed == changed[:, :1, :1, :1]).all(), "grey without contrast stays grey"
    levels = changed[:, 0, 0, 0].tolist()
    assert 80 <= min(levels) < 90
    assert 110 < max(levels) <= 120


def test_colors_are_multiplied_by_their_factors() -> None:
    image = torch.tensor([[[[200, 100, 50], [100, 100, 100]]]], dtype=torch.uint8)

    def changed(*factors: float) -> list[list[int]]:
        found: list[list[int]] = jitter_colors(image, torch.tensor([factors]))[0, 0].tolist()
        return found

    assert changed(1, 1, 1) == image[0, 0].tolist()
    assert changed(1.5, 1, 1) == [[255, 150, 75], [150, 150, 150]]
    assert changed(1, 0, 1) == [[112, 112, 112]] * 2, "the mean brightness"
    assert changed(1, 1, 0) == [[124, 124, 124], [100, 100, 100]], "the pixel's brightness"


def test_color_jitter_does_not_change_the_other_draws() -> None:
    batch = images(8)
    plain, jittered = (Augment(2, flip=True, cutout=3, color_jitter=each) for each in (0.0, 0.5))
    draws = [
        augment.draw(torch.arange(8), 0, 8, torch.Generator().manual_seed(1))
        for augment in (plain, jittered)
    ]
    assert torch.equal(draws[0], draws[1][:, :5])
    grey = (jittered(batch, draws[1]) == 127).all(-1)
    assert grey[(plain(batch, draws[0]) == 127).all(-1)].all(), "the square stays grey"


def test_shrink_resizes_and_keeps_the_mean() -> None:
    full = torch.rand(2, 3, 32, 32)
    assert shrink(full, 32) is full
    small = shrink(full, 24)
    assert small.shape == (2, 3, 24, 24)
    torch.testing.assert_close(small.mean(), full.mean(), atol=0.02, rtol=0)
