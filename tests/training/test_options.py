import pytest

from training.errors import RecipeError
from training.options import chosen_recipe, parser
from training.recipes import RECIPES, Recipe


def chosen(*options: str, recipe: str = "cifar-compact") -> Recipe:
    return chosen_recipe(*parser().parse_known_args([recipe, "--out", "x", *options]))


def test_every_field_of_a_recipe_can_be_given() -> None:
    recipe = chosen("--beta", "0.25", "--held-out=100", "--epochs=2", "--shape.channels=4")
    assert (recipe.beta, recipe.held_out, recipe.epochs) == (0.25, 100, 2)
    assert recipe.shape["channels"] == 4
    assert recipe.shape["bottleneck"] is False, "the recipe's own field stays"
    assert recipe.muon_lr == RECIPES["cifar-compact"].muon_lr
    assert chosen("--beta", "[0.3, 0.5, 0.7]").beta == (0.3, 0.5, 0.7)
    assert chosen("--small-size", "null").small_size is None
    assert chosen("--micro-batch", "null").micro_batch is None


@pytest.mark.parametrize("name", RECIPES)
def test_without_options_it_is_the_named_recipe(name: str) -> None:
    assert chosen(recipe=name) == RECIPES[name]


@pytest.mark.parametrize(
    ("options", "small_size", "small_epochs"),
    [
        (["--epochs", "5"], 24, 2),
        (["--epochs", "1"], 24, 0),
        (["--epochs", "40"], 24, 22),
        (["--epochs", "40", "--small-epochs", "11"], 24, 11),
        (["--size", "64"], 48, 11),
        (["--size", "16", "--small-size", "16"], 16, 11),
    ],
)
def test_what_is_small_at_first_keeps_its_share_unless_it_is_given(
    options: list[str], small_size: int, small_epochs: int
) -> None:
    recipe = chosen(*options)
    assert (recipe.small_size, recipe.small_epochs) == (small_size, small_epochs)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--beta", "2"], r"--beta: 2: .* equal to 1 \(share of .* '\[0.3, 0.5\]': of"),
        (["--beta", "[0.3,2]"], r"--beta: 2: .* equal to 1 \(share"),
        (["--beta", "half"], r"--beta: half: .* number.* \(share"),
        (["--epochs", "x"], r"--epochs: x: .* integer.* \(passes over"),
        (["--milestones", "[3]"], r"--milestones: 3: .* equal to 1 \(shares"),
        (["--variant", "magic"], "--variant: magic: .*'released'"),
        (["--shift", "40"], "--shift: 40 pixels .* 32; give at most 31"),
        (["--small-size", "40"], "--small-size: 40 .* --size, 32; give at most that, or null"),
        (["--small-epochs", "20"], "--small-epochs: 20 of 20 .* full size; give at most 19"),
        (["--small_size", "5"], "--small_size: no such option; did you mean --small-size?"),
        (["--save_every=5"], "--save_every: no such option; did you mean --save-every?"),
        (["--no-such-option", "1"], "--no-such-option: no such option; --help lists them"),
        (["--shape.exits"], r"--shape\.exits: a value is missing"),
        (["--workers", "-1"], "--workers: -1: give a whole number, 0 or more"),
        (["--save-every", "x"], "--save-every: x: give a whole number, 0 or more"),
        (["--images", "here"], "--images: .*'memory', 'disk'"),
    ],
)
def test_a_wrong_option_is_named_with_what_is_allowed(options: list[str], says: str) -> None:
    with pytest.raises(RecipeError, match=f"^{says}") as error:
        chosen(*options)
    assert "\n" not in str(error.value)
