from collections.abc import Sequence
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from tests.training.samples import finished_progress, tiny_progress
from tests.training.two_sizes import two_sizes
from training.data.images import Images
from training.evaluation.assessment import MEDIUM, assess
from training.evaluation.labelled_logits import LabelledLogits, score
from training.fit.checkpoint import Progress
from training.recipes import RECIPES
from training.report.classes import class_results
from training.report.examples import leaving_images, photo_groups, wrong_predictions
from training.report.page import HeldOutDetails, changes, costs, render

EVIL = "<script>alert('&')</script>"


class Reader(HTMLParser):
    """A parser that collects the tags and the text of a page, as a browser does."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.elements.append((tag, dict(attrs)))

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


def test_the_page_of_two_sizes_names_them_and_the_costs_of_full_depth() -> None:
    recipe = two_sizes("vgg", first_exit=2)
    progress = finished_progress().model_copy(update={"recipe": recipe})
    before, full = costs(progress)[0][1::2]
    text = " ".join(Reader(render(progress, {"accuracy": ""}, None)).text.split())
    assert "32 x 32 pixels, and 16 x 16 for exits 1 to 2" in text
    assert f"{full / 1e6:.2f}{100 * full / (full - before):.1f} %" in text


def test_the_page_of_an_unfinished_run_shows_its_epochs_alone() -> None:
    epochs = finished_progress().epochs[:1]
    page = render(tiny_progress().model_copy(update={"epochs": epochs}), {"accuracy": ""}, None)
    assert "Epoch 1 of 2." in page
    assert "Calibration" not in page


FLOPS = np.array([10.0, 40.0])


@pytest.mark.parametrize(("epochs", "lead"), [(2, "2 epochs done."), (1, "1 of 2 epochs done.")])
def test_the_page_of_a_run_that_stopped_early_has_its_accuracy(epochs: int, lead: str) -> None:
    progress = finished_progress()
    progress = progress.model_copy(update={"epochs": progress.epochs[:epochs]})
    logits = LabelledLogits(torch.eye(2).expand(2, 2, 2).clone(), torch.tensor([0, 1]))
    figures = dict.fromkeys(("accuracy", "calibration", "budgeted"), "")
    text = Reader(render(progress, figures, assess(logits, None, FLOPS))).text
    assert f"{lead} On 2 held-out images, the accuracy is 100.00 % at the first exit" in text
    assert "The evaluation" not in text


def page_of_classes(labels: tuple[str, ...], images: int, *, held_out_classes: int) -> str:
    """Render a finished run with random predictions for images of the first classes."""
    rng = np.random.default_rng(0)
    targets = rng.integers(0, held_out_classes, images)
    predicted = np.where(rng.random((2, images)) < 0.6, targets, rng.integers(0, len(labels)))
    logits = torch.from_numpy(3 * np.eye(len(labels))[predicted]).float()
    logits += torch.from_numpy(rng.random(logits.shape)).float()
    predicted = logits.argmax(-1).numpy()
    held_out = LabelledLogits(logits, torch.from_numpy(targets))
    assessment = assess(held_out, None, FLOPS)
    scored = score(held_out, assessment.temperatures, FLOPS)
    thresholds = np.array(assessment.sets[0].budgets[MEDIUM].thresholds)
    pixels = torch.from_numpy(rng.integers(0, 256, (images, 16, 16, 3), dtype=np.uint8))
    wrong, leaving = (
        photo_groups(chosen, Images(pixels, held_out.targets), labels, predicted, scored)
        for chosen in (wrong_predictions(scored), leaving_images(scored, thresholds))
    )
    train = np.arange(len(labels)).repeat(2)
    details = HeldOutDetails(
        class_results(labels, predicted, targets, {"train": train}), wrong, leaving
    )
    progress = finished_progress().model_copy(update={"labels": labels})
    figures = dict.fromkeys(("accuracy", "calibration", "budgeted"), "<svg></svg>")
    return render(progress, figures, assessment, details)


def test_names_of_classes_are_escaped_shortened_and_on_one_line() -> None:
    long = "very long name " * 40
    page = page_of_classes((EVIL, long, "a\nb\x1b\udcff", '" onload="x'), 60, held_out_classes=4)
    read = Reader(page)
    page.encode("utf-8")
    assert "script" not in read.tags
    assert not {name for _, attributes in read.elements for name in attributes} & {"onload"}
    assert EVIL in read.text
    assert long[:40] in read.text
    assert long not in read.text
    assert r"a\nb\x1b\xff" in read.text


def test_tables_have_captions_images_have_alternative_texts_and_nothing_is_external() -> None:
    read = Reader(page_of_classes(("a", "b", "c"), 60, held_out_classes=3))
    assert read.tags.count("table") == read.tags.count("caption") > 5
    images = [attributes for tag, attributes in read.elements if tag == "img"]
    assert len(images) > 5
    for attributes in images:
        assert (attributes["alt"] or "").startswith("held-out image of class ")
        assert (attributes["src"] or "").startswith("data:image/jpeg;base64,")
    plots = [attributes for _, attributes in read.elements if attributes.get("role") == "img"]
    assert len(plots) == 3
    assert all(attributes["aria-label"] for attributes in plots)
    assert not {name for _, attributes in read.elements for name in attributes} & {"href", "onload"}


@pytest.mark.parametrize("classes", [2, 100])
def test_the_matrix_has_a_labelled_row_and_column_for_each_class(classes: int) -> None:
    page = page_of_classes(tuple(f"k{k}" for k in range(classes)), 80, held_out_classes=2)
    matrix = Reader(page[page.index('<table class="matrix') : page.index("The largest confusions")])
    assert matrix.tags.count("td") == classes**2
    scopes = [attributes.get("scope") for tag, attributes in matrix.elements if tag == "th"]
    assert scopes.count("row") == classes
    assert scopes.count("col") == classes + 1, "and the name of the axis"


def test_a_thousand_classes_have_short_tables_and_no_matrix() -> None:
    page = page_of_classes(tuple(f"class {k}" for k in range(1000)), 300, held_out_classes=30)
    assert 'class="matrix' not in page
    assert "50 of 1,000 classes" in page
    assert "all 1,000 classes" in page
    assert "The largest confusions" in page
    assert len(page) < 2_000_000


def test_classes_without_held_out_images_have_no_accuracy() -> None:
    read = Reader(page_of_classes(("a", "b", "lonely"), 40, held_out_classes=2))
    assert "lonely204" not in read.text, "2 training images, no held-out image"
    assert "lonely20–––" in read.text  # noqa: RUF001


def test_without_wrong_predictions_the_page_says_so() -> None:
    found = class_results(("a", "b"), np.array([[0, 1], [0, 1]]), np.array([0, 1]), {})
    assessment = assess(
        LabelledLogits(torch.eye(2).expand(2, 2, 2).clone(), torch.tensor([0, 1])), None, FLOPS
    )
    page = render(
        finished_progress(),
        dict.fromkeys(("accuracy", "calibration", "budgeted"), ""),
        assessment,
        HeldOutDetails(found, (), ()),
    )
    assert "The last exit predicts all held-out images right." in page
