"""The bundle that ships, served by a real server to 500 images of the CIFAR-10 test set."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmarks.client import classify, counters, serving
from benchmarks.serving.served import metrics_add_up, statements
from offramp.bundle.manifest import Manifest, read_graph, read_manifest
from training.data.datasets import load_files
from training.data.images import File

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "deploy" / "bundles" / "cifar10-msdnet"
BUDGETS = ("low", "medium", "high", "full")


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return read_manifest(BUNDLE)


@pytest.fixture(scope="module")
def files(manifest: Manifest) -> list[File]:
    images = ROOT / "tests" / "data" / "cifar10-500.parquet"
    return load_files(str(images), "train", manifest.labels)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(BUNDLE) as url:
        yield url


def test_it_is_whole_and_of_a_size_to_ship(manifest: Manifest) -> None:
    for stage in manifest.stages:
        read_graph(BUNDLE, stage)
    assert sum(f.stat().st_size for f in BUNDLE.iterdir()) <= 32e6


def test_budgets_are_in_order_and_cost_what_they_may(manifest: Manifest) -> None:
    assert tuple(manifest.budgets) == BUDGETS
    for name, share in (("low", 0.25), ("medium", 0.5), ("high", 0.75), ("full", 1.0)):
        assert manifest.budgets[name].mean_flops.value <= share * manifest.full_flops


@pytest.mark.parametrize("budget", BUDGETS)
def test_served_equals_manifest(
    url: str, files: list[File], manifest: Manifest, budget: str
) -> None:
    before = counters(url)
    answers = classify(url, files, {"budget": budget})
    found = statements(manifest, manifest.budgets[budget], answers)
    assert [s for s in found if not s.holds] == []
    assert metrics_add_up(before, counters(url), budget, answers)


def test_every_exit_is_taken_by_some_image(url: str, files: list[File], manifest: Manifest) -> None:
    answers = classify(url, files, {"min_confidence": "0.9"})
    assert {a.exit for a in answers} == set(range(1, manifest.exits + 1))


def test_answers_do_not_depend_on_company(url: str, files: list[File]) -> None:
    """16 images alone, and amid 64 times 3 others at all budgets at once."""
    alone = classify(url, files[:16], {"budget": "medium"}, concurrency=1)
    with ThreadPoolExecutor(len(BUDGETS)) as pool:
        company = [pool.submit(classify, url, files[:64], {"budget": budget}) for budget in BUDGETS]
        amid = company[BUDGETS.index("medium")].result()[:16]
    for one, other in zip(alone, amid, strict=True):
        assert (one.exit, one.right) == (other.exit, other.right)
        assert one.probability == pytest.approx(other.probability, abs=1e-5)
