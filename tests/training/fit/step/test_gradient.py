"""The gradient of a batch: micro-batches and compilation do not change it."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.families import SMALL
from tests.training.samples import tiny_dataset, tiny_progress
from training.data.images import Images
from training.errors import RecipeError
from training.fit.initial import initial_network
from training.fit.step.gradient import GradientAccumulator
from training.objectives import build_objective
from training.recipes import Recipe

VIT: dict[str, object] = {"backbone": "vit", "shape": SMALL["vit"], "variant": "paper"}
BATCH = 20


def batch() -> Images:
    return tiny_dataset().train.select(torch.arange(BATCH))


def gradients(
    recipe: Recipe, micro_batch: int | None = None, compiler: str | None = None
) -> tuple[Tensor, list[Tensor | None]]:
    """Compute loss and gradients of one batch on fresh weights."""
    network = initial_network(recipe, 10, tiny_dataset().train.pixels)
    network.train()
    objective = build_objective(recipe.objective, recipe.objective_options, network, 0.0)
    gradient = GradientAccumulator(
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
    """Micro-batches can differ in size (7, 7 and 6); the backbone has no batch norm."""
    recipe = tiny_progress(**VIT, objective=objective).recipe
    assert_same(gradients(recipe), gradients(recipe, micro_batch))


def test_no_limit_and_a_limit_above_the_batch_are_bit_for_bit_equal() -> None:
    recipe = tiny_progress(shape=SMALL["msdnet"]).recipe
    one, other = gradients(recipe), gradients(recipe, BATCH + 1)
    assert torch.equal(one[0], other[0])
    for a, b in zip(one[1], other[1], strict=True):
        assert (a is None and b is None) or (a is not None and b is not None and torch.equal(a, b))


# torch's tracer instantiates every autograd function
@pytest.mark.filterwarnings("ignore:.*Function.* should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("objective", ["joint", "equilibrium", "distillation"])
def test_compiled_gradients_equal_uncompiled_ones(objective: str) -> None:
    """Boundary steps and distillation's hooks and adapters are compiled, too."""
    recipe = tiny_progress(**VIT, objective=objective).recipe
    assert_same(gradients(recipe), gradients(recipe, compiler="aot_eager"))


def measured(recipe: Recipe, **options: int | str) -> dict[str, Tensor]:
    """Return the state of the objective after one batch."""
    network = initial_network(recipe, 10, tiny_dataset().train.pixels)
    objective = build_objective(recipe.objective, {}, network.train(), 0.0)
    taken: dict[str, Any] = {"micro_batch": None, "compiler": None, **options}
    GradientAccumulator(network, objective, size=32, bf16=False, **taken).add(batch(), 32)
    return objective.state_dict()


@pytest.mark.filterwarnings("ignore:.* should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("options", [{"micro_batch": 7}, {"compiler": "aot_eager"}])
def test_the_measured_conflict_is_that_of_the_whole_batch(options: dict[str, int | str]) -> None:
    recipe = tiny_progress(**VIT, surgery_rule="conflict", conflict_decay=0.0).recipe
    whole, other = measured(recipe), measured(recipe, **options)
    assert len(whole) == 2, "two boundaries"
    for name, products in whole.items():
        assert products.all()
        torch.testing.assert_close(other[name], products, rtol=1e-3, atol=0.0)


@pytest.mark.filterwarnings("ignore:.* should not be instantiated:DeprecationWarning")
def test_surgery_on_batch_norm_and_dense_layers_compiles() -> None:
    recipe = tiny_progress(shape=SMALL["msdnet"], variant="paper").recipe
    assert_same(gradients(recipe), gradients(recipe, compiler="aot_eager"))


def test_an_unknown_compiler_raises_an_error_that_lists_the_known() -> None:
    with pytest.raises(RecipeError, match=r"^--compile: 'foo' is not one of .*inductor"):
        gradients(tiny_progress().recipe, compiler="foo")


def test_an_objective_with_several_backward_passes_is_not_compiled() -> None:
    with pytest.raises(RecipeError, match=r"^--compile"):
        gradients(tiny_progress(objective="pcgrad").recipe, compiler="aot_eager")
