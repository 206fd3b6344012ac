import json
from pathlib import Path
from typing import get_args

import pytest

from offramp.errors import UsageError
from training.networks.backbones import BACKBONES, family_of
from training.objectives import OBJECTIVES
from training.options import RunOptions, read_run
from training.recipes import RECIPES, BackboneName, ObjectiveName, Recipe


def run(*options: str, recipe: str = "cifar-compact") -> tuple[RunOptions, Recipe]:
    return read_run([recipe, "--out", "x", *options])


def chosen(*options: str, recipe: str = "cifar-compact") -> Recipe:
    return run(*options, recipe=recipe)[1]


def help_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as caught:
        read_run(arguments)
    assert caught.value.code == 0
    return " ".join(capsys.readouterr().out.split())


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
        (["--epochs", "20"], 24, 9),
        (["--epochs", "40", "--small-epochs", "11"], 24, 11),
        (["--size", "64"], 48, 27),
        (["--size", "16", "--small-size", "16"], 16, 27),
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
        (["--beta", "2"], r"--beta: 2: .* equal to 1 \(fraction of .* boundary: '\[0.3, 0.5\]'"),
        (["--beta", "[0.3,2]"], r"--beta: 2: .* equal to 1 \(fraction"),
        (["--beta", "half"], r"--beta: half: .* number.* \(fraction"),
        (["--epochs", "x"], r"--epochs: x: .* integer.* \(passes over"),
        (["--milestones", "[3]"], r"--milestones: 3: .* equal to 1 \(fractions"),
        (["--variant", "magic"], "--variant: magic: .*'released'"),
        (["--shift", "40"], "--shift: 40 pixels .* 32 .*; give at most 31"),
        (["--small-size", "40"], "--small-size: 40 .* --size, 32; give at most that, or null"),
        (["--small-epochs", "60"], "--small-epochs: 60 of 60 .* full size; give at most 59"),
        (["--small_size", "5"], "--small_size: no such option; did you mean --small-size?"),
        (["--save_every=5"], "--save_every: no such option; did you mean --save-every?"),
        (["--no-such-option", "1"], "--no-such-option: no such option; --help lists them"),
        (["--shape.exits"], r"--shape\.exits: a value is missing"),
        (["--workers", "-1"], "--workers: -1: input should be greater than or equal to 0"),
        (["--save-every", "x"], "--save-every: x: input should be a valid integer"),
        (["--images", "here"], "--images: here: .*'memory' or 'disk'"),
        (["--class-names", "names.txt"], "--class-names: the labels .* give --pseudo-labels true"),
        (
            ["--freeze=trunk", "--optimizer=sgd", "--trunk-lr=1"],
            "--trunk-lr: --freeze trunk trains",
        ),
        (
            ["--freeze=trunk", "--optimizer=sgd", "--layer-decay=.5"],
            "--layer-decay: --freeze trunk",
        ),
        (["--backbone", "vgh"], "--backbone: vgh: .*'resnet18', 'vgg' or 'vit'"),
        (["--shape.exist", "5"], r"--shape\.exist: no such option; did you mean --shape\.exits?"),
        (["--shape.exits=0"], r"--shape\.exits: 0: input should be greater than 0 \("),
        (["--shape.growth_factors=[1]"], "--shape: growth_factors .* need one entry"),
        (["--objective=joint", "--objective.share=1"], r"--objective\.share: no such option"),
        (["--objective.share=2"], r"--objective\.share: 2: .* to 1 \("),
        (
            ["--backbone=vgg", "--shape.channels=4"],
            "--backbone: vgg has no base, .* exits, .* sets",
        ),
    ],
)
def test_a_wrong_option_is_named_with_what_is_allowed(options: list[str], says: str) -> None:
    with pytest.raises(UsageError, match=f"^{says}") as error:
        chosen(*options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("cifar-compat", "cifar-compat: no such recipe; did you mean cifar-compact?"),
        ("xyz", "xyz: no such recipe; --help lists them"),
    ],
)
def test_an_unknown_recipe_is_named_with_the_nearest(name: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        run(recipe=name)
    assert str(caught.value) == says


def test_the_options_of_a_run_are_no_part_of_the_recipe() -> None:
    options, recipe = run("--resume", "--compile", "--workers=0", "--save-every", "5")
    assert recipe == RECIPES["cifar-compact"]
    assert (options.resume, options.compile) == (True, "inductor")
    assert (options.workers, options.save_every) == (0, 5)
    assert run("--compile", "eager")[0].compile == "eager"
    assert run()[0] == RunOptions(recipe="cifar-compact", out=Path("x"))


def test_nested_options_are_kept_as_a_checkpoint_keeps_them() -> None:
    recipe = chosen(
        *("--shape.growth_factors", "[1, 2]", "--shape.bottleneck-factors=[1, 2]"),
        *("--shape.bottleneck", "true", "--shape.head_channels", "null"),
        *("--objective", "joint", "--objective.backbone_first", "0.25"),
    )
    assert recipe.shape == RECIPES["cifar-compact"].shape | {
        "growth_factors": [1, 2],
        "bottleneck_factors": [1, 2],
        "bottleneck": True,
        "head_channels": None,
    }
    assert recipe.objective_options == {"backbone_first": 0.25}
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


@pytest.mark.parametrize("given", ["0.4,0.65,0.8", "[0.4, 0.65, 0.8]"])
def test_exits_are_a_list_with_or_without_brackets(given: str) -> None:
    recipe = chosen("--shape.exits", given, recipe="photos")
    assert recipe.shape == {"exits": [0.4, 0.65, 0.8]}


def test_one_exit_needs_no_brackets() -> None:
    assert chosen("--shape.exits=0.5", recipe="photos").shape == {"exits": [0.5]}
    assert chosen("--shape.blocks", "7", recipe="photos").shape == {"blocks": [7]}
    assert chosen("--shape.blocks", "7,9", recipe="photos").shape == {"blocks": [7, 9]}
    with pytest.raises(UsageError, match=r"^--shape\.exits"):
        chosen("--shape.exits", "0.5,x", recipe="photos")
    with pytest.raises(UsageError, match=r"^--shape\.blocks"):
        chosen("--shape.blocks", "true", recipe="photos")


def test_another_objective_does_not_keep_the_options_of_the_recipes() -> None:
    named = "cifar-paper-resnet18"
    assert chosen("--objective.share=0.5", recipe=named).objective_options == {"share": 0.5}
    changed = chosen("--objective", "joint", recipe=named)
    assert (changed.objective, changed.objective_options) == ("joint", {})


@pytest.mark.parametrize("name", RECIPES)
def test_the_help_of_a_recipe_shows_its_values(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shown, recipe = help_of(capsys, name, "--help"), RECIPES[name]
    for field, value in recipe.model_dump(mode="json").items():
        described = Recipe.model_fields[field].description
        if field not in ("shape", "objective_options", "weights"):
            text = value if isinstance(value, str) else json.dumps(value)
            assert f"{described} (default: {text})" in shown
    shape = family_of(recipe.backbone).config.model_validate(recipe.shape)
    for field, value in shape.model_dump(mode="json").items():
        text = value if isinstance(value, str) else json.dumps(value)
        described = type(shape).model_fields[field].description
        assert f"--shape.{field.replace('_', '-')} " in shown
        assert f"{described} (default: {text})" in shown
    for field in OBJECTIVES[recipe.objective].options.model_fields:
        assert f"--objective.{field.replace('_', '-')} " in shown


def test_the_help_of_a_recipe_heeds_the_options_before_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["cifar-paper", "--backbone=vgg", "--objective", "distillation", "--epochs=7", "-h"]
    shown = help_of(capsys, *arguments)
    assert "passes over the training images (default: 7)" in shown
    assert "--shape.convolutions JSON" in shown
    assert "--shape.exits" not in shown
    assert "--objective.share NUMBER" in shown


def test_the_help_without_a_recipe_lists_recipes_and_where_the_rest_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    shown = help_of(capsys, "--help")
    assert "{efficientnet_lite,msdnet,resnet18,vgg,vit}" in shown
    assert "those of cifar-paper" in shown
    assert "offramp train RECIPE --help" in shown
    assert Recipe() == RECIPES["cifar-paper"]


def test_the_names_in_recipes_are_those_of_the_registries() -> None:
    assert get_args(BackboneName) == tuple(BACKBONES)
    assert get_args(ObjectiveName) == tuple(OBJECTIVES)


@pytest.mark.parametrize(
    ("option", "recipe", "says"),
    [
        ("--small-size=24", "cifar-full", "^--small-size: no epoch trains at 24 .*--small-epochs"),
        ("--small-epochs=9", "cifar-paper", "^--small-epochs: there is no .*; give --small-size"),
    ],
)
def test_a_half_of_what_is_small_at_first_is_refused_without_the_other(
    option: str, recipe: str, says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        chosen(option, recipe=recipe)


@pytest.mark.parametrize(
    ("options", "recipe", "small_size", "small_epochs"),
    [
        (["--small-size=24", "--small-epochs=9"], "cifar-full", 24, 9),
        (["--small-size=null"], "cifar-paper", None, 0),
        (["--small-epochs=0"], "cifar-paper", None, 0),
        (["--small-size=null", "--small-epochs=0"], "cifar-compact", None, 0),
        (["--small-epochs=0"], "cifar-compact", 24, 0),
        (["--small-size=16", "--epochs=1"], "cifar-compact", 16, 0),
    ],
)
def test_what_is_small_at_first_can_be_given_left_out_or_taken_from_the_recipe(
    options: list[str], recipe: str, small_size: int | None, small_epochs: int
) -> None:
    found = chosen(*options, recipe=recipe)
    assert (found.small_size, found.small_epochs) == (small_size, small_epochs)
