"""Many images through a classifier: streams, slots, several threads, and its end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path

import numpy as np
import pytest

from offramp import Classifier, OfframpError
from offramp.answers import Answer
from serving.errors import (
    DeadlineError,
    NotReadyError,
)
from tests.offramp.pictures import files, same
from tests.serving.small_bundle import random_images


@pytest.fixture(scope="module")
def classifier(bundle: Path) -> Iterator[Classifier]:
    with Classifier.open(bundle, threads=2, max_batch=8, slots=64) as opened:
        yield opened


def test_a_stream_reads_only_a_bounded_number_ahead(classifier: Classifier) -> None:
    read = 0

    def endless() -> Iterator[np.ndarray]:
        nonlocal read
        for image in random_images(50, 7):
            while True:
                read += 1
                yield image

    answers = classifier.classify_iter(endless(), "full")
    for taken in range(1, 2000):
        assert isinstance(next(answers), Answer)
        assert read - taken <= 64 + 4 * 32
    answers.close()  # type: ignore[attr-defined]


def test_a_stream_that_is_abandoned_frees_its_slots(bundle: Path) -> None:
    with Classifier.open(bundle, slots=4) as classifier:
        for _ in range(20):
            stream = classifier.classify_iter(random_images(50, 8), "full")
            next(stream)
            del stream
        assert len(classifier.classify(random_images(50, 8))) == 50


@pytest.mark.parametrize("slots", [1, 3, 40])
def test_more_images_than_slots_all_have_answers(bundle: Path, slots: int) -> None:
    images = random_images(100, 9)
    with Classifier.open(bundle, slots=slots, threads=2) as classifier:
        answers = classifier.classify(images, "medium")
        with ThreadPoolExecutor(4) as executor:
            calls = [executor.submit(classifier.classify, images, "medium") for _ in range(4)]
            assert all(all(map(same, call.result(), answers)) for call in calls)


def test_images_that_miss_their_deadline_leave_room_for_others(bundle: Path) -> None:
    with Classifier.open(bundle, slots=4, threads=1) as classifier:
        outcomes = list(classifier.classify_iter(random_images(300, 12), deadline_ms=1.0))
        assert len(outcomes) == 300
        assert all(isinstance(outcome, Answer | DeadlineError) for outcome in outcomes)
        assert len(classifier.classify(random_images(40, 12))) == 40


def test_a_closed_classifier_refuses(bundle: Path) -> None:
    classifier = Classifier.open(bundle)
    classifier.close()
    classifier.close()
    with pytest.raises(NotReadyError, match="closed"):
        classifier.classify(random_images(1, 13))


def test_closing_ends_the_calls_of_other_threads(bundle: Path) -> None:
    classifier = Classifier.open(bundle, slots=8, threads=1)
    ended: list[object] = []

    def call() -> None:
        try:
            for outcome in classifier.classify_iter(repeat(random_images(1, 14)[0])):
                assert isinstance(outcome, Answer)
        except OfframpError as error:
            ended.append(error)

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    classifier.close()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert [type(error) for error in ended] == [NotReadyError] * 3


def test_closing_leaves_no_thread(bundle: Path) -> None:
    before = set(threading.enumerate())
    with Classifier.open(bundle) as classifier:
        classifier.classify(files(3))
    assert set(threading.enumerate()) == before
