"""Surgery by measured conflict: its limits are joint training and fixed surgery."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.training.families import SMALL, small_network
from tests.training.masked import MaskedSurgery, plain
from tests.training.samples import TINY, tiny_dataset, tiny_progress
from training.errors import RecipeError
from training.fit.checkpoint import new_network
from training.fit.step.gradient import Losses
from training.fit.trainer import Trainer
from training.networks.multi_exit import MultiExitNetwork
from training.objectives import build_objective
from training.recipes import Recipe
from training.surgery.boundary import Boundary, Surgery, Variant
from training.surgery.conflict import ConflictSurgery

IMAGES = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))
VARIANTS: list[Variant] = ["released", "paper"]
OPPOSED, ALIGNED = (-1.0, 1.0, 1.0), (1.0, 1.0, 1.0)  # <s, d>, <s, s>, <d, d>

some_variant = st.sampled_from(VARIANTS)
some_beta = st.floats(0, 1)
some_channels = st.integers(1, 9)
some_seed = st.integers(0, 2**16)


def conflict_surgery(
    variant: Variant = "released",
    beta: float = 0.5,
    deeper: int = 1,
    scale: float | None = None,
    decay: float = 0.0,
) -> ConflictSurgery:
    return ConflictSurgery(Surgery(variant, beta), deeper, scale, decay)


def set_products(surgery: ConflictSurgery, products: Sequence[float]) -> None:
    surgery.products.copy_(torch.tensor(products))


def gradient(surgery: Boundary, s: Tensor, d: Tensor, dim: int = 1) -> Tensor:
    """Return the gradient of the features, for gradients s of the exit and d of deeper exits."""
    x = torch.zeros(s.shape, requires_grad=True)
    onward, to_exit = map(plain, surgery.split(x, dim))
    ((onward * d).sum() + (to_exit * s).sum()).backward()
    return torch.zeros_like(x) if x.grad is None else x.grad


def gradients_of(channels: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    s, d = torch.randn(2, 3, channels, 2, 2, generator=generator).unbind()
    return s, d


@settings(max_examples=20)
@given(variant=some_variant, beta=some_beta, channels=some_channels, seed=some_seed)
def test_without_conflict_the_gradient_is_that_of_joint_training_bit_for_bit(
    variant: Variant, beta: float, channels: int, seed: int
) -> None:
    s, d = gradients_of(channels, seed)
    surgery = conflict_surgery(variant, beta)
    for products in ((0.0, 0.0, 0.0), ALIGNED):
        set_products(surgery, products)
        assert not surgery.shares().any()
        assert torch.equal(gradient(surgery, s, d), gradient(Surgery("joint"), s, d))


@settings(max_examples=20)
@given(variant=some_variant, beta=some_beta, channels=some_channels, seed=some_seed)
def test_at_full_conflict_the_gradient_is_that_of_fixed_surgery_bit_for_bit(
    variant: Variant, beta: float, channels: int, seed: int
) -> None:
    s, d = gradients_of(channels, seed)
    surgery = conflict_surgery(variant, beta)
    set_products(surgery, OPPOSED)
    assert (surgery.shares() == 1).all()
    assert torch.equal(gradient(surgery, s, d), gradient(MaskedSurgery(variant, beta), s, d))


@settings(max_examples=20)
@given(
    cosine=st.integers(-10, 10),
    lengths=st.tuples(st.floats(1e-3, 10), st.floats(1e-3, 10)),
    deeper=st.integers(1, 6),
    scale=st.none() | st.floats(0.1, 5),
    factor=st.floats(0.01, 100),
)
def test_shares_are_fractions_that_do_not_depend_on_the_size_of_the_loss(
    cosine: int, lengths: tuple[float, float], deeper: int, scale: float | None, factor: float
) -> None:
    own, other = lengths
    along = cosine / 10 * (own * other) ** 0.5
    surgery, scaled = (conflict_surgery(deeper=deeper, scale=scale) for _ in range(2))
    set_products(surgery, (along, own, other))
    set_products(scaled, (factor * along, factor * own, factor * other))
    shares = surgery.shares()
    assert ((shares >= 0) & (shares <= 1)).all()
    torch.testing.assert_close(scaled.shares(), shares, atol=1e-3, rtol=1e-3)
    if scale is None:
        assert shares.any() == (along < 0)


@settings(max_examples=20)
@given(channels=some_channels, seed=some_seed, scale=st.floats(0.2, 2), deeper=st.integers(1, 4))
def test_shares_are_those_of_the_measured_gradients(
    channels: int, seed: int, scale: float, deeper: int
) -> None:
    s, d = gradients_of(channels, seed)
    surgery = conflict_surgery(deeper=deeper, scale=scale)
    gradient(surgery, s, d)
    surgery.finish_step()
    expected = []
    for one, other, count in ((s, d, deeper), (d, s, 1 / deeper)):
        a = (one * other).sum() / one.square().sum()
        b = (other - a * one).norm() / one.norm() / count**0.5
        expected.append(max(-a, 1 - (scale / b) ** 2, torch.tensor(0.0)).clamp(max=1))
    torch.testing.assert_close(surgery.shares(), torch.stack(expected), atol=1e-4, rtol=1e-4)


def test_the_number_of_stopped_channels_grows_with_the_conflict() -> None:
    s, d = gradients_of(8, 0)
    surgery = conflict_surgery("paper", 0.5)
    trained = []
    for a in (0.3, 0.0, -0.25, -0.5, -1.0, -3.0):
        set_products(surgery, (a, 1.0, 1.0))
        found = gradient(surgery, torch.zeros_like(s), d)
        trained.append(int(found.any(dim=0).flatten(1).any(dim=1).sum()))
    assert trained == [8, 8, 7, 6, 4, 4], "channels that deeper exits train"


def test_a_longer_gradient_across_is_a_conflict_above_the_given_ratio() -> None:
    surgery = conflict_surgery(deeper=3, scale=2.0)
    set_products(surgery, (0.0, 1.0, 3 * 2.0**2))
    assert not surgery.shares().any(), "each of three exits is twice as long"
    set_products(surgery, (0.0, 1.0, 3 * 4.0**2))
    from_deeper, from_exit = surgery.shares().tolist()
    assert from_deeper == pytest.approx(0.75), "a quarter of the squared length is twice as long"
    assert from_exit == 0
    set_products(surgery, (0.0, 4.0**2, 3.0))
    assert surgery.shares().tolist() == pytest.approx([0, 0.75])


def test_the_products_are_averaged_over_steps() -> None:
    surgery = conflict_surgery(decay=0.75)
    s, d = gradients_of(4, 0)
    expected = torch.zeros(3)
    for step in range(1, 4):
        gradient(surgery, step * s, d)
        surgery.finish_step()
        found = torch.stack([step * (s * d).sum(), step**2 * s.square().sum(), d.square().sum()])
        expected = 0.75 * expected + 0.25 * found
        torch.testing.assert_close(surgery.products, expected)
    surgery.finish_step()
    torch.testing.assert_close(surgery.products, expected)


def test_outside_of_training_the_features_stay_as_they_are() -> None:
    x = torch.ones(2, 4, 3, 3)
    surgery = conflict_surgery()
    assert all(half is x for half in (*surgery.split(x), *surgery.mask(x)))
    assert not surgery.changes_values


def step(network: MultiExitNetwork) -> list[Tensor]:
    """Return the gradient of every parameter after one step."""
    objective = build_objective("joint", {}, network.train(), 0.0)
    losses = Losses(network, objective)(IMAGES, torch.arange(6))
    objective.backward(losses, network)
    return [torch.zeros_like(p) if p.grad is None else p.grad for p in network.parameters()]


@pytest.mark.parametrize("backbone", SMALL)
def test_networks_of_every_backbone_are_between_joint_training_and_fixed_surgery(
    backbone: str,
) -> None:
    """Bit for bit, unless the exit reads its features twice. Then sums are in another order."""
    for products, limit in ((ALIGNED, Surgery("joint")), (OPPOSED, MaskedSurgery("paper", 0.4))):
        network, twin = small_network(backbone), small_network(backbone)
        surgeries = [conflict_surgery("paper", 0.4) for _ in range(1, network.exits)]
        for surgery in surgeries:
            set_products(surgery, products)
        network.surgery, twin.surgery = surgeries, limit
        for found, expected in zip(step(network), step(twin), strict=True):
            if backbone == "resnet18":
                torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
            else:
                assert torch.equal(found, expected)
        for surgery in surgeries:
            _, own, other = surgery.products
            assert own > 0
            assert other > 0


def test_surgery_can_be_limited_to_the_first_boundaries() -> None:
    shape = {**TINY.shape, "exits": 4}
    recipe = tiny_progress(shape=shape, surgery_boundaries=2, beta=(0.7, 0.5, 0.3)).recipe
    network = new_network(recipe, 10)
    surgeries = [network.surgery_at(k) for k in (1, 2, 3)]
    assert surgeries == [Surgery("released", 0.7), Surgery("released", 0.5), Surgery("joint", 0.5)]
    with pytest.raises(RecipeError, match=r"surgery_boundaries: 4 of 3; give at most 3, or null"):
        new_network(recipe.model_copy(update={"surgery_boundaries": 4}), 10)


def test_the_measured_conflict_is_in_the_checkpoint_and_not_in_the_weights() -> None:
    progress = tiny_progress(surgery_rule="conflict", ema=0.9)
    trainer = Trainer(progress, tiny_dataset(), torch.device("cpu"))
    trainer.run_epoch(lambda batches, _: batches)
    saved = trainer.checkpoint()
    assert saved.objective["conflicts.0.products"].all()
    plain_run = Trainer(tiny_progress(), tiny_dataset(), torch.device("cpu")).checkpoint()
    assert saved.weights.keys() == plain_run.weights.keys()


def test_the_rule_needs_a_variant_that_stops_gradients_and_one_backward_pass() -> None:
    with pytest.raises(ValueError, match="give --variant released or paper"):
        Recipe(surgery_rule="conflict", variant="joint")
    network = new_network(tiny_progress(surgery_rule="conflict").recipe, 10)
    with pytest.raises(RecipeError, match="dependent runs several; give --surgery-rule fixed"):
        build_objective("block-dependent", {}, network, 0.0)
    build_objective("block-dependent", {"overlap": 0}, network, 0.0)
