"""A batch's gradient, however it is computed."""

import pytest
import torch
from torch import Tensor

from tests.training.families import SMALL
from tests.training.samples import tiny_dataset, tiny_progress
from training.data.images import Images
from training.errors import RecipeError
from training.fit.gradient import Gradient
from training.fit.initial import initial_network
from training.objectives import build_objective
from training.recipes import Recipe

VIT: dict[str, object] = {"backbone": "vit", "shape": SMALL["vit"], "variant": "paper"}
BATCH = 20


def batch() -> Images:
    return tiny_dataset().train.select(torch.arange(BATCH))


def gradients(
    recipe: Recipe, micro_batch: int | None = None, compiler: str | None = None
) -> tuple[Tensor, list[Tensor | None]]:
    """Loss and gradients of one batch on fresh weights."""
    network = initial_network(recipe, 10, tiny_dataset().train.pixels)
    network.train()
    objective = build_objective(recipe.objective, recipe.objective_options, network, 0.0)
    gradient = Gradient(
        network, objective, size=32, bf16=False, micro_batch=micro_batch, compiler=compiler
    )
    loss = gradient.add(batch(), 32)
    return loss, [p.grad for p in (*network.parameters(), *objective.parameters())]


def assert_same(
    one: tuple[Tensor, list[Tensor | None]], other: tuple[Tensor, list[Tensor | None]]
) -> None:
    torch.testing.assert_close(one[0], other[0])
    assert any(g is not None for g in one[1])
    for a, b in zip(one[1], other[1], strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    "objective", ["joint", "equilibrium", "block-dependent", "pcgrad", "meta-gf"]
)
@pytest.mark.parametrize("micro_batch", [7, 10])
def test_micro_batches_give_the_gradient_of_the_whole_batch(
    objective: str, micro_batch: int
) -> None:
    """7, 7 and 6, too; the backbone has no batch norm."""
    recipe = tiny_progress(**VIT, objective=objective).recipe
    assert_same(gradients(recipe), gradients(recipe, micro_batch))


def test_no_bound_and_one_above_the_batch_are_bit_for_bit_the_same() -> None:
    recipe = tiny_progress(shape=SMALL["msdnet"]).recipe
    one, other = gradients(recipe), gradients(recipe, BATCH + 1)
    assert torch.equal(one[0], other[0])
    assert all(a is b or torch.equal(a, b) for a, b in zip(one[1], other[1], strict=True))


# what torch's tracer itself does to any autograd function
@pytest.mark.filterwarnings("ignore:.*Function.* should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("objective", ["joint", "distillation"])
def test_compiled_is_the_same(objective: str) -> None:
    """Distillation's hooks and adapters are compiled, too."""
    recipe = tiny_progress(**VIT, objective=objective).recipe
    assert_same(gradients(recipe), gradients(recipe, compiler="aot_eager"))


@pytest.mark.filterwarnings("ignore:.* should not be instantiated:DeprecationWarning")
def test_surgery_on_batch_norm_and_dense_layers_compiles() -> None:
    recipe = tiny_progress(shape=SMALL["msdnet"], variant="paper").recipe
    assert_same(gradients(recipe), gradients(recipe, compiler="aot_eager"))


def test_an_unknown_compiler_is_named_with_those_there_are() -> None:
    with pytest.raises(RecipeError, match=r"^--compile: 'foo' is not one of .*inductor"):
        gradients(tiny_progress().recipe, compiler="foo")


def test_a_gradient_for_each_exit_is_not_compiled() -> None:
    with pytest.raises(RecipeError, match=r"^--compile"):
        gradients(tiny_progress(objective="pcgrad").recipe, compiler="aot_eager")
