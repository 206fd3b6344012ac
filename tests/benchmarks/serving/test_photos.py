"""The comparison on photos of several sizes."""

from __future__ import annotations

import argparse
import io
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.serving.figures import Rounds
from benchmarks.serving.photos.__main__ import AGREEMENT, agreeing_budget
from benchmarks.serving.photos.images import photo_of, size_named
from benchmarks.serving.photos.parts import Alone, Parts, shrunk_bodies
from benchmarks.serving.photos.tables import MOSEC, SHRUNK, Result, goals, lines
from benchmarks.serving.rounds import LIMIT, SATURATION, SINGLE, Row
from benchmarks.serving.servers.commands import EQUAL, OURS
from offramp.bundle.manifest import read_manifest
from serving.engine.policy import resolve
from tests.serving.small_bundle import SIZE, png, random_images, write_bundle

FULL = "full"
PHOTOS = [png(image) for image in random_images(6, 0)]


@pytest.mark.parametrize(
    ("name", "size"), [("16px", (16, 16)), ("64px", (64, 64)), ("1MP", (1000, 1000))]
)
def test_photos_get_the_stated_size(name: str, size: tuple[int, int]) -> None:
    with Image.open(io.BytesIO(photo_of(PHOTOS[0], size_named(name), 0))) as image:
        assert (image.format, image.size) == ("JPEG", size)


def test_enlarged_photos_have_about_the_bytes_of_a_camera() -> None:
    first, again, other = (photo_of(PHOTOS[0], size_named("1MP"), seed) for seed in (0, 0, 1))
    assert 0.15 < len(first) / 10**6 < 0.6
    assert first == again != other


@pytest.mark.parametrize("text", ["400", "0px", "2mp", "px"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="no size such as 400px or 12MP"):
        size_named(text)


def test_the_equal_budget_agrees_with_full_depth() -> None:
    manifest = read_manifest(Path("deploy/bundles/clothing-lite0"))
    thresholds = resolve(manifest, agreeing_budget(manifest)).thresholds
    (point,) = (each for each in manifest.curve if each.thresholds == thresholds)
    assert point.agreement is not None
    assert point.agreement.value >= AGREEMENT
    silent = [each.model_copy(update={"agreement": None}) for each in manifest.curve]
    assert agreeing_budget(manifest.model_copy(update={"curve": tuple(silent)}))


def test_the_parts_of_an_answer_are_measured_without_a_server(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle")
    manifest = read_manifest(folder)
    files = [photo_of(file, size_named("400px"), k) for k, file in enumerate(PHOTOS)]
    alone = Alone(folder, manifest, {EQUAL: "medium", FULL: FULL}, files)
    parts = alone.parts(0.01)
    assert parts.decode > 0
    assert parts.resize > 0
    assert set(parts.model) == {EQUAL, FULL}
    assert parts.client is not None
    work = alone.with_decoding(EQUAL)
    assert work.answers == len(files)
    for run in work.batches:
        run()
    bodies = shrunk_bodies(files, manifest.input)
    assert bodies is not None
    assert {len(body) for body in bodies} == {SIZE * SIZE * 3}
    assert shrunk_bodies(PHOTOS, manifest.input) is None, "small files are sent as they are"


def rows(number: int, ours: float) -> list[Row]:
    """Return the rows of a round with so many answers per second of our server."""
    one = Row(number, OURS, SATURATION, EQUAL, rate=ours, cpu=5.0, p50=10.0, p99=20.0, answered=1)
    return [
        one,
        replace(one, measure=SINGLE, rate=ours / 4),
        replace(one, budget=FULL, rate=ours / 2),
        replace(one, server=SHRUNK, rate=2 * ours),
        replace(one, server=MOSEC, budget=FULL, rate=100.0),
        Row(number, LIMIT, LIMIT, EQUAL, rate=1.25 * ours, cpu=4.0),
    ]


def test_ratios_are_within_rounds_and_goals_are_on_their_median() -> None:
    parts = Parts(1.0, 0.5, {EQUAL: 2.0, FULL: 4.0}, None)
    rounds = Rounds([*rows(1, 200.0), *rows(2, 190.0), *rows(3, 170.0)])
    results = [Result("400px", 50.0, parts, rounds)]
    text = "\n".join(lines(results))
    assert "| 400px | offramp | equal | 190 | 47.5 | 5 | 10 / 20 | 10 / 20 | 100 |" in text
    assert "| 400px | 50 | 1.00 | 0.50 | 2.00 | 4.00 | 1.50 | sends the file |" in text
    assert "400px, 64 clients, answers/s, equal / mosec: 1.900 [1.700, 2.000], 3 rounds" in text
    assert "shrunk by the client / file: 2.000 [2.000, 2.000], 3 rounds" in text
    assert [goal.met for goal in goals(results, "fp32")] == [True, False]
    assert [goal.met for goal in goals(results, "int8")] == [False, False]


def test_a_server_that_was_not_measured_is_left_out() -> None:
    parts = Parts(1.0, 0.5, {EQUAL: 2.0, FULL: 4.0}, 3.0)
    ours = [row for row in rows(1, 200.0) if row.server == OURS]
    results = [Result("2MP", 500.0, parts, Rounds(ours))]
    text = "\n".join(lines(results))
    assert "mosec" not in text
    assert "| 3.00 |" in text
    assert not list(goals(results, "fp32"))
