"""The shipped bundle on a real server, with 500 images of the CIFAR-10 test set."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmarks.client import classify, counters, serving
from benchmarks.serving.served import metrics_add_up, statements
from offramp.bundle.manifest import Manifest, read_manifest
from offramp.bundle.stage_files import read_graph
from training.data.images import File
from training.data.splits import load_files

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


def test_the_bundle_is_complete_and_at_most_32_mb(manifest: Manifest) -> None:
    for stage in manifest.stages:
        read_graph(BUNDLE, stage)
    assert sum(f.stat().st_size for f in BUNDLE.iterdir()) <= 32e6


def test_budgets_are_in_order_and_within_their_flops(manifest: Manifest) -> None:
    assert tuple(manifest.budgets) == BUDGETS
    for name, share in (("low", 0.25), ("medium", 0.5), ("high", 0.75), ("full", 1.0)):
        assert manifest.budgets[name].mean_flops.value <= share * manifest.full_flops


@pytest.mark.parametrize("budget", BUDGETS)
def test_served_accuracy_and_flops_equal_the_manifest(
    url: str, files: list[File], manifest: Manifest, budget: str
) -> None:
    before = counters(url)
    answers = classify(url, files, {"budget": budget})
    found = statements(manifest, manifest.budgets[budget], answers)
    assert [s for s in found if not s.holds] == []
    assert metrics_add_up(before, counters(url), budget, answers)


def test_every_exit_is_taken(url: str, files: list[File], manifest: Manifest) -> None:
    answers = classify(url, files[:200], {"min_confidence": "0.9"})
    assert {a.exit for a in answers} == set(range(1, manifest.exits + 1))


def test_answers_do_not_depend_on_concurrent_requests(url: str, files: list[File]) -> None:
    """16 images alone, and among 64 images at each of four budgets at the same time."""
    alone = classify(url, files[:16], {"budget": "medium"}, concurrency=1)
    with ThreadPoolExecutor(len(BUDGETS)) as pool:
        futures = [pool.submit(classify, url, files[:64], {"budget": budget}) for budget in BUDGETS]
        concurrent = futures[BUDGETS.index("medium")].result()[:16]
    for first, second in zip(alone, concurrent, strict=True):
        assert (first.exit, first.right) == (second.exit, second.right)
        assert first.probability == pytest.approx(second.probability, abs=1e-5)
