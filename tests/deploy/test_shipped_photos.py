"""The bundle of photos that ships and is served by default, and its 8-bit twin, on real servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.client import Served, classify, serving
from benchmarks.serving.served import statements
from offramp.bundle.manifest import read_manifest
from offramp.bundle.stage_files import read_graph
from tests.serving.servers import Process, started
from training.data.images import File
from training.data.splits import load_files

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "deploy" / "bundles" / "clothing-lite0"
INT8 = ROOT / "deploy" / "bundles" / "clothing-lite0-int8"
BUDGETS = ("low", "medium", "high", "full")
MEMORY = 400e6  # bytes


@pytest.fixture(scope="module")
def files() -> list[File]:
    images = ROOT / "tests" / "data" / "clothing-60.parquet"
    return load_files(str(images), "train", read_manifest(BUNDLE).labels)


@pytest.fixture(scope="module")
def server() -> Iterator[Process]:
    with started(BUNDLE, "--threads", "2") as server:
        yield server


@pytest.fixture
def url(server: Process) -> str:
    return server.url


def test_both_bundles_are_complete_and_together_at_most_32_mb() -> None:
    size = 0
    for bundle in (BUNDLE, INT8):
        for stage in read_manifest(bundle).stages:
            read_graph(bundle, stage)
        size += sum(file.stat().st_size for file in bundle.iterdir())
    assert size <= 32e6


def test_the_manifest_says_where_images_and_weights_are_from() -> None:
    provenance = read_manifest(BUNDLE).provenance
    assert provenance.dataset.startswith("clothing")
    assert provenance.weights is not None
    assert provenance.weights.licence == "Apache-2.0"


@pytest.mark.parametrize("budget", BUDGETS)
def test_photos_are_answered_as_the_manifest_states(
    url: str, files: list[File], budget: str
) -> None:
    manifest = read_manifest(BUNDLE)
    answers = classify(url, files, {"budget": budget})
    found = statements(manifest, manifest.budgets[budget], answers)
    assert [each for each in found if not each.holds] == []


def test_one_worker_needs_at_most_400_mb(server: Process, files: list[File]) -> None:
    classify(server.url, files, {"budget": "full"})
    assert server.memory("VmRSS") <= MEMORY


def test_8_bit_answers_are_those_of_32_bits(url: str, files: list[File]) -> None:
    def right(answers: list[Served]) -> list[bool]:
        return [answer.right[-1] for answer in answers]

    exact = right(classify(url, files, {"budget": "full"}))
    with serving(INT8) as twin:
        rounded = right(classify(twin, files, {"budget": "full"}))
    assert sum(a == b for a, b in zip(exact, rounded, strict=True)) >= 0.9 * len(files)
