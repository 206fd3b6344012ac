from html.parser import HTMLParser

from tests.training.samples import finished_progress, tiny_progress
from training.fit.checkpoint import Progress
from training.recipes import RECIPES
from training.report.page import changes, costs, render

EVIL = "<script>alert('&')</script>"


class Reader(HTMLParser):
    """A parser that collects the tags and the text of a page, as a browser does."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_user_input_is_escaped() -> None:
    recipe = finished_progress().recipe.model_copy(update={"data": EVIL})
    progress = finished_progress().model_copy(
        update={"recipe_name": EVIL, "recipe": recipe, "commit": EVIL}
    )
    page = Reader(render(progress, {"accuracy": "<svg></svg>"}, None))
    assert "script" not in page.tags
    assert page.text.count(EVIL) >= 4
    assert page.tags.count("svg") == 1


def test_changed_fields_are_the_differences_from_the_named_recipe() -> None:
    named = RECIPES["cifar-compact"]
    shape = dict(named.shape) | {"exits": 5}
    recipe = named.model_copy(update={"seed": 3, "shape": shape})
    progress = Progress(
        recipe_name="cifar-compact",
        recipe=recipe,
        labels=("a", "b"),
        train_images=1,
        fingerprint="",
    )
    assert changes(progress) == ["seed = 3", "shape.exits = 5"]


def test_costs_are_those_of_the_recipes_network() -> None:
    progress = Progress(
        recipe_name="cifar-paper",
        recipe=RECIPES["cifar-paper"],
        labels=tuple(map(str, range(100))),
        train_images=1,
        fingerprint="",
    )
    flops, parameters = costs(progress)
    assert (parameters[0], parameters[-1]) == (898_996, 7_362_348)
    assert round(flops[-1] / 1e6, 2) == 339.55


def test_the_page_of_an_unfinished_run_shows_its_epochs_alone() -> None:
    epochs = finished_progress().epochs[:1]
    page = render(tiny_progress().model_copy(update={"epochs": epochs}), {"accuracy": ""}, None)
    assert "Epoch 1 of 2." in page
    assert "Calibration" not in page
