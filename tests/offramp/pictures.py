"""Images in every form that the API takes, and answers without their times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow.parquet import write_table

from offramp.answers import Answer, RankedClass, Timings
from tests.serving.small_bundle import png, random_images

DAMAGED = png(random_images(1, 5)[0])[:-40]
NO_TIME = Timings(0, 0, 0, 0)


def files(count: int, seed: int = 0) -> list[bytes]:
    return [png(image) for image in random_images(count, seed)]


def jpeg(height: int, width: int, seed: int = 0, **options: object) -> bytes:
    """A photo-like JPEG, larger than the model's input."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (4, 4, 3), np.uint8)
    rows, columns = np.arange(height) * 4 // height, np.arange(width) * 4 // width
    noise = rng.integers(-8, 8, (height, width, 3))
    picture = (coarse[rows][:, columns] + noise).clip(0, 255).astype(np.uint8)
    return png(picture, "JPEG", quality=95, **options)


def write_files(folder: Path, count: int, seed: int = 0) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:04}.png" for number in range(count)]
    for path, content in zip(paths, files(count, seed), strict=True):
        path.write_bytes(content)
    return paths


def write_parquet(path: Path, images: list[bytes], **labels: Sequence[object]) -> Path:
    columns = {"image": [{"bytes": image, "path": None} for image in images], **labels}
    write_table(pa.table(columns), path)
    return path


def same(one: Answer, other: Answer) -> bool:
    """Equal but for times, and for the last digit, in which batches of other sizes differ."""

    def rounded(answer: Answer) -> Answer:
        return replace(
            answer, probability=0, confidence=0, top_k=(), timings_ms=NO_TIME, explain=None
        )

    def numbers(answer: Answer) -> list[float]:
        opinions = [opinion.confidence for opinion in answer.explain or ()]
        return [answer.probability, answer.confidence, *opinions, *map(probability, answer.top_k)]

    def probability(ranked: RankedClass) -> float:
        return ranked.probability

    return rounded(one) == rounded(other) and numbers(one) == pytest.approx(
        numbers(other), abs=2e-6
    )
