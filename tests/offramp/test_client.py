from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from io import BytesIO
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from offramp import AsyncClient, Classifier, Client, OfframpError
from offramp.answers import Answer, KeptPromise
from offramp.bundle.manifest import Manifest
from offramp.errors import UnreadableFileError
from offramp.inputs.images import ImageSource
from serving.engine.budgets.points import default_budget
from serving.errors import (
    DamagedImageError,
    DeadlineError,
    EmptyBodyError,
    InvalidRequestError,
    NotAnImageError,
    UnknownBudgetError,
    UnknownPromiseError,
)
from tests.offramp.pictures import DAMAGED, files, jpeg, same, write_files
from tests.serving.servers import Running, serving
from tests.serving.small_bundle import png, random_images


@pytest.fixture(scope="module")
def server(bundle: Path) -> Iterator[Running]:
    with serving(bundle, api_key="secret") as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[Client]:
    with Client(server.url, "secret") as opened:
        yield opened


@pytest.fixture(scope="module")
def classifier(bundle: Path) -> Iterator[Classifier]:
    with Classifier.open(bundle, threads=2) as opened:
        yield opened


def every_form(tmp_path: Path) -> list[ImageSource]:
    """A mix that goes as one form: files and pixels."""
    paths = write_files(tmp_path, 2, 1)
    pixels = random_images(3, 2)
    turned = np.asarray(Image.fromarray(pixels[0]).resize((50, 90)))
    return [*paths, *files(3, 3), *pixels, Image.fromarray(pixels[1]), turned, jpeg(100, 70)]


def test_answers_equal_those_of_a_classifier(
    client: Client, classifier: Classifier, tmp_path: Path
) -> None:
    images = every_form(tmp_path) * 4  # three calls
    answers = client.classify(images, "medium", top_k=2, explain=True)
    expected = classifier.classify(images, "medium", top_k=2, explain=True)
    assert len(answers) == len(images)
    assert all(map(same, answers, expected))


def test_an_async_client_answers_as_a_client(
    server: Running, classifier: Classifier, tmp_path: Path
) -> None:
    images = every_form(tmp_path)

    async def classify() -> tuple[list[Answer], list[Answer]]:
        async with AsyncClient(server.url, "secret") as client:
            assert (await client.model()).name == classifier.manifest.name
            alone = await asyncio.gather(*(client.classify(image, "40%") for image in images))
            return [answer for (answer,) in alone], await client.classify(images, "40%")

    expected = classifier.classify(images, "40%")
    for answers in asyncio.run(classify()):
        assert all(map(same, answers, expected))


@pytest.mark.parametrize("pixels", [random_images(40, 4), random_images(1, 4)[0]])
def test_arrays_are_sent_as_pixels(
    client: Client, classifier: Classifier, pixels: np.ndarray
) -> None:
    assert all(map(same, client.classify(pixels), classifier.classify(pixels)))


def test_a_stream_gives_the_answers_in_order(client: Client, classifier: Classifier) -> None:
    images = files(60, 5)
    answers = [a for a in client.classify_iter(images, "low") if isinstance(a, Answer)]
    assert len(answers) == len(images)
    assert all(map(same, answers, classifier.classify(images, "low")))


def test_many_connections_do_not_close_each_other(server: Running) -> None:
    images = list(random_images(4, 5))
    with Client(server.url, "secret", retries=10) as many:
        outcomes = many.classify_iter(images * 250, "low", connections=48)
        assert all(isinstance(each, Answer) for each in outcomes)


def test_an_image_that_fails_does_not_end_a_stream(client: Client) -> None:
    good = files(1, 6)[0]
    outcomes = list(client.classify_iter([good, DAMAGED, "no/such.png", good, b"hello", b""]))
    kinds = [Answer, DamagedImageError, UnreadableFileError, Answer, NotAnImageError]
    assert [type(outcome) for outcome in outcomes] == [*kinds, EmptyBodyError]
    assert not str(outcomes[1]).startswith("image ")


def test_an_error_of_all_images_ends_a_stream(client: Client) -> None:
    with pytest.raises(UnknownBudgetError):
        list(client.classify_iter(repeat(files(1)[0]), "cheap"))


def test_a_stream_that_is_abandoned_ends_its_threads(client: Client) -> None:
    before = threading.active_count()
    stream = client.classify_iter(repeat(files(1)[0]), connections=3)
    next(stream)
    del stream
    assert threading.active_count() <= before + 1


def test_a_model_is_described(client: Client, manifest: Manifest) -> None:
    model = client.model()
    assert (model.name, model.version, model.labels) == (
        manifest.name,
        manifest.version,
        manifest.labels,
    )
    assert (model.input, model.exits, model.full_flops) == (
        manifest.input,
        manifest.exits,
        manifest.full_flops,
    )
    assert model.budgets == tuple(manifest.budgets)
    assert model.default_budget == default_budget(manifest)


@pytest.mark.parametrize(
    ("images", "options", "error", "text"),
    [
        ([DAMAGED], {}, DamagedImageError, "image 1: "),
        ([*files(20), DAMAGED], {}, DamagedImageError, "image 21: "),
        ([*files(20), "no/such.png"], {}, UnreadableFileError, "image 21: no/such.png: "),
        ([np.zeros((2, 2), np.uint8)], {}, NotAnImageError, "image 1: an array must be"),
        (files(1), {"budget": "cheap"}, UnknownBudgetError, "budget: 'cheap' is"),
        (files(1), {"deadline_ms": 0.001}, DeadlineError, "deadline_ms"),
        (files(1), {"top_k": 0}, InvalidRequestError, "top_k"),
    ],
)
def test_problems_are_the_errors_of_the_server(
    client: Client,
    images: list[ImageSource],
    options: dict[str, Any],
    error: type[OfframpError],
    text: str,
) -> None:
    with pytest.raises(error) as raised:
        client.classify(images, **options)
    assert str(raised.value).startswith(text)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_shrunk_photos_have_the_answers_of_the_whole_ones(
    server: Running, client: Client, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    photos = [jpeg(900, 1400, seed, exif=exif) for seed in range(5)]
    photos.append(png(np.asarray(Image.open(BytesIO(photos[0])))))
    with Client(server.url, "secret", shrink=True) as shrinking:
        answers = shrinking.classify(photos, "full")
    assert all(map(same, answers, client.classify(photos, "full")))


def test_shrunk_photos_are_small_on_the_wire(bundle: Path) -> None:
    photo = jpeg(900, 1400)
    assert len(photo) > 100_000
    with serving(bundle, max_body_bytes=20_000) as server:
        with Client(server.url) as client, pytest.raises(InvalidRequestError):
            client.classify(photo)
        with Client(server.url, shrink=True) as client:
            assert client.classify([photo, photo])
            assert isinstance(next(client.classify_iter([photo])), Answer)


def test_what_cannot_be_shrunk_is_judged_by_the_server(server: Running) -> None:
    small, damaged = files(1)[0], jpeg(200, 200)[:5000]
    with Client(server.url, "secret", shrink=True) as client:
        assert isinstance(next(client.classify_iter([small])), Answer)
        outcomes = list(client.classify_iter([damaged, bytes(5000)]))
    assert [type(outcome) for outcome in outcomes] == [DamagedImageError, NotAnImageError]


def test_large_images_are_sent_in_calls_of_bounded_size(bundle: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1200, 1200, 3), np.uint8)
    images = [png(noise)] * 5  # 4 MB each, 20 MB in all
    with serving(bundle) as server, Client(server.url) as client:
        assert len(client.classify(images)) == 5


def test_reject_equals_that_of_a_classifier(reject_bundle: Path) -> None:
    images = random_images(8, 4)
    with serving(reject_bundle) as server, Client(server.url) as client:
        found = [answer.reject for answer in client.classify(images, reject=True)]
        streamed = [*client.classify_iter(images, reject=True)]
        assert {answer.reject for answer in client.classify(images)} == {None}
    with Classifier.open(reject_bundle, threads=2) as classifier:
        assert found == [answer.reject for answer in classifier.classify(images, reject=True)]
    assert [each.reject for each in streamed if isinstance(each, Answer)] == found


def test_a_promise_is_answered_as_by_a_classifier(promise_bundle: Path) -> None:
    images = random_images(12, 4)
    with Classifier.open(promise_bundle, threads=2) as classifier:
        expected = classifier.classify(images, promise="98%")
        streamed = [*classifier.classify_iter(images, promise="98%")]
        with pytest.raises(UnknownPromiseError, match="offers 99%, 95%, harm:2%"):
            classifier.classify(images, promise="99.9%")
    kept = KeptPromise("agreement", 0.01, 0.05, kept=True)
    assert {answer.promise for answer in expected} == {kept}

    async def asynchronous(url: str) -> list[Answer]:
        async with AsyncClient(url) as client:
            return await client.classify(images, promise="98%")

    with serving(promise_bundle) as server, Client(server.url) as client:
        assert client.model().promises == ("99%", "95%", "harm:2%")
        answers = client.classify(images, promise="98%")
        iterated = [*client.classify_iter(images, promise="98%")]
        awaited = asyncio.run(asynchronous(server.url))
        plain = client.classify(images)
        with pytest.raises(UnknownPromiseError, match="offers 99%, 95%, harm:2%"):
            client.classify(images, promise="99.9%")
    assert {answer.promise for answer in plain} == {None}
    for found in (answers, iterated, awaited, streamed):
        assert [
            (each.label, each.exit, each.promise) for each in found if isinstance(each, Answer)
        ] == [(each.label, each.exit, each.promise) for each in expected]
