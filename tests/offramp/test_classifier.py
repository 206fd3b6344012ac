from __future__ import annotations

import os
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from offramp import Classifier, OfframpError
from offramp.answers import Answer, answer_from
from offramp.bundle.errors import BundleError
from offramp.bundle.manifest import Manifest
from offramp.errors import UnreadableFileError
from offramp.in_process.settings import LARGEST_FILE
from offramp.inputs.images import ImageSource
from serving.errors import (
    BodyTooLargeError,
    BudgetTooLowError,
    DamagedImageError,
    DeadlineError,
    EmptyBodyError,
    ImageTooLargeError,
    NotAnImageError,
    ParameterError,
    StageError,
    UnknownBudgetError,
)
from tests.offramp.pictures import DAMAGED, files, jpeg, same
from tests.serving.servers import Running, serving
from tests.serving.small_bundle import png, random_images


@pytest.fixture(scope="module")
def classifier(bundle: Path) -> Iterator[Classifier]:
    with Classifier.open(bundle, threads=2, max_batch=8, slots=64) as opened:
        yield opened


@pytest.fixture(scope="module")
def server(bundle: Path) -> Iterator[Running]:
    with serving(bundle) as running:
        yield running


def over_http(server: Running, images: list[bytes], **query: Any) -> list[Answer]:
    """The answers of a real server, one call for each image."""
    with server.client as client:
        calls = [client.post("/classify", params=query, content=image) for image in images]
    return [answer_from(call.json()["answers"][0]) for call in calls]


@pytest.mark.parametrize(
    "query",
    [
        {"budget": "low"},
        {"budget": "medium", "top_k": 3},
        {"budget": "60%", "explain": True},
        {"budget": "full"},
        {"min_confidence": 0.8},
        {},
    ],
)
def test_answers_equal_those_of_a_server(
    classifier: Classifier, server: Running, query: dict[str, Any]
) -> None:
    images = [*files(150, 1), *(jpeg(70 + i, 90, i) for i in range(10))]
    answers = classifier.classify(images, **query)
    expected = over_http(server, images, **query)
    assert len(answers) == len(images)
    assert all(map(same, answers, expected))
    assert len({answer.exit for answer in answers}) > 1 or query == {"budget": "full"}


def test_an_image_has_the_same_answer_in_every_form(classifier: Classifier, tmp_path: Path) -> None:
    pixels = random_images(1, 2)[0]
    (tmp_path / "a.png").write_bytes(png(pixels))
    with Image.open(tmp_path / "a.png") as opened:
        forms = [str(tmp_path / "a.png"), tmp_path / "a.png", png(pixels), opened, pixels]
        answers = classifier.classify(forms, "high")
    assert all(same(answers[0], other) for other in answers[1:])


@pytest.mark.parametrize("form", ["path", "bytes", "image", "pixels", "batch"])
def test_one_image_needs_no_list(classifier: Classifier, tmp_path: Path, form: str) -> None:
    pixels = random_images(1, 2)[0]
    path = tmp_path / "a.png"
    path.write_bytes(png(pixels))
    image = {
        "path": path,
        "bytes": png(pixels),
        "image": Image.fromarray(pixels),
        "pixels": pixels,
        "batch": pixels[None],
    }[form]
    assert len(classifier.classify(image)) == 1


def test_an_array_of_four_axes_is_many_images(classifier: Classifier) -> None:
    pixels = random_images(20, 3)
    assert all(map(same, classifier.classify(pixels), classifier.classify(list(pixels))))


def test_pixels_of_another_size_are_brought_to_the_input(
    classifier: Classifier, server: Running
) -> None:
    pixels = np.asarray(Image.fromarray(random_images(1, 4)[0]).resize((80, 60)))
    (answer,) = classifier.classify(pixels, "full")
    assert same(answer, over_http(server, [png(pixels)], budget="full")[0])


def test_an_image_keeps_its_exif_orientation(classifier: Classifier, server: Running) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = jpeg(120, 80, exif=exif)
    with Image.open(BytesIO(turned)) as image:
        answers = classifier.classify([turned, image], "full")
    (expected,) = over_http(server, [turned], budget="full")
    assert same(answers[0], expected)
    assert answers[1].index == expected.index


def test_no_images_give_no_answers(classifier: Classifier) -> None:
    assert classifier.classify([]) == []


@pytest.fixture(scope="module")
def of_few_pixels(bundle: Path) -> Iterator[Classifier]:
    with Classifier.open(bundle, max_pixels=100_000) as opened:
        yield opened


@pytest.mark.parametrize(
    ("image", "error"),
    [
        (b"", EmptyBodyError),
        (b"hello", NotAnImageError),
        (DAMAGED, DamagedImageError),
        (png(np.zeros((600, 600, 3), np.uint8)), ImageTooLargeError),
        (np.zeros((600, 600, 3), np.uint8), ImageTooLargeError),
        (Image.new("RGB", (600, 600)), ImageTooLargeError),
        (np.zeros((32, 32), np.uint8), NotAnImageError),
        (np.zeros((32, 32, 3), np.float32), NotAnImageError),
        (np.zeros((32, 32, 4), np.uint8), NotAnImageError),
        (np.zeros((0, 32, 3), np.uint8), NotAnImageError),
        ("no/such/file.png", UnreadableFileError),
    ],
)
def test_an_image_that_cannot_be_read_is_named(
    of_few_pixels: Classifier, image: ImageSource, error: type[OfframpError]
) -> None:
    good = random_images(1, 6)[0]
    with pytest.raises(error, match=r"^image 2: "):
        of_few_pixels.classify([good, image, good])
    outcomes = list(of_few_pixels.classify_iter([good, image, good]))
    assert [type(outcome) for outcome in outcomes] == [Answer, error, Answer]


def test_files_can_be_larger_than_the_bodies_that_a_server_takes(
    classifier: Classifier, tmp_path: Path
) -> None:
    image = png(random_images(1, 6)[0])
    large, too_large = tmp_path / "large.png", tmp_path / "too-large.png"
    large.write_bytes(image + bytes(17 << 20))  # what follows an image is not read
    too_large.write_bytes(image)
    os.truncate(too_large, LARGEST_FILE + 1)
    found = list(classifier.classify_iter([image, large, too_large]))
    assert isinstance(found[0], Answer)
    assert isinstance(found[1], Answer)
    assert same(found[0], found[1])
    assert isinstance(found[2], BodyTooLargeError)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"budget": "cheap"}, UnknownBudgetError),
        ({"budget": "1"}, BudgetTooLowError),
        ({"budget": "low", "min_confidence": 0.5}, ParameterError),
        ({"min_confidence": 1.5}, ParameterError),
        ({"deadline_ms": 0}, ParameterError),
        ({"top_k": 0}, ParameterError),
        ({"top_k": 101}, ParameterError),
    ],
)
def test_arguments_are_checked_before_an_image_is_read(
    classifier: Classifier, arguments: dict[str, Any], error: type[OfframpError]
) -> None:
    for classify in (classifier.classify, classifier.classify_iter):
        with pytest.raises(error):
            classify(iter(lambda: pytest.fail("it was read"), None), **arguments)


def test_a_deadline_that_leaves_time_changes_no_answer(classifier: Classifier) -> None:
    images = random_images(30, 10)
    answers = classifier.classify(images, "medium", deadline_ms=60_000)
    expected = classifier.classify(images, "medium")
    assert [a.index for a in answers] == [e.index for e in expected]
    assert not any(answer.deadline_hit for answer in answers)


def test_a_deadline_that_leaves_no_time_is_an_error(classifier: Classifier) -> None:
    with pytest.raises(DeadlineError):
        classifier.classify(random_images(1, 11), deadline_ms=0.001)
    (outcome,) = classifier.classify_iter(random_images(1, 11), deadline_ms=0.001)
    assert isinstance(outcome, DeadlineError)


def test_an_image_on_which_the_network_fails_does_not_fail_its_chunk(
    classifier: Classifier,
) -> None:
    images = [*random_images(10, 16)]
    images[3] = np.full((32, 32, 3), 128, np.uint8)  # features of length 0, which it divides by
    outcomes = list(classifier.classify_iter(images))
    assert [type(outcome) for outcome in outcomes] == [*[Answer] * 3, StageError, *[Answer] * 6]
    with pytest.raises(StageError, match=r"^image 4: "):
        classifier.classify(images)


def test_no_environment_variable_is_read(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFRAMP_SLOTS", "nonsense")
    monkeypatch.setenv("OFFRAMP_BUNDLE", "/nowhere")
    with Classifier.open(bundle) as classifier:
        assert classifier.classify(random_images(1, 15))


def test_options_are_checked(bundle: Path) -> None:
    with pytest.raises(ParameterError, match="slots"):
        Classifier.open(bundle, slots=0)


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError):
        Classifier.open(tmp_path)


def test_the_curve_is_that_of_the_manifest(classifier: Classifier, manifest: Manifest) -> None:
    assert classifier.curve == manifest.curve
    assert classifier.manifest == manifest


def test_reject_is_in_the_answers_that_ask_for_it(reject_bundle: Path) -> None:
    images = random_images(12, 4)
    with Classifier.open(reject_bundle, threads=2) as classifier:
        plain = classifier.classify(images, "low")
        asked = classifier.classify(images, "low", reject=True)
        streamed = [*classifier.classify_iter(images, "low", reject=True)]
    assert {answer.reject for answer in plain} == {None}
    assert {answer.reject for answer in asked} == {True, False}
    assert [a.reject for a in streamed if isinstance(a, Answer)] == [a.reject for a in asked]


def test_a_bundle_that_rejects_nothing_refuses_reject(bundle: Path) -> None:
    with (
        Classifier.open(bundle, threads=2) as classifier,
        pytest.raises(ParameterError, match="--reject"),
    ):
        classifier.classify(random_images(1, 4), reject=True)
