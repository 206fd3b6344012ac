"""The bundle that ships, served by a real server to 500 images of the CIFAR-10 test set."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.client import Served, classify, counters, serving
from benchmarks.served import metrics_add_up, statements
from serving.manifest import read_graph, read_manifest
from training.data import File, load_files

ROOT = Path(__file__).parents[1]
BUNDLE = ROOT / "deploy" / "bundles" / "cifar10-msdnet"
MANIFEST = read_manifest(BUNDLE)


@pytest.fixture(scope="module")
def files() -> list[File]:
    return load_files(str(ROOT / "tests" / "data" / "cifar10-500.parquet"), "train")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(BUNDLE) as url:
        yield url


def test_it_is_whole_and_of_a_size_to_ship() -> None:
    for stage in MANIFEST.stages:
        read_graph(BUNDLE, stage)
    assert sum(f.stat().st_size for f in BUNDLE.iterdir()) <= 32e6


def test_budgets_are_in_order_and_cost_what_they_may() -> None:
    assert list(MANIFEST.budgets) == ["low", "medium", "high", "full"]
    for name, share in (("low", 0.25), ("medium", 0.5), ("high", 0.75), ("full", 1.0)):
        assert MANIFEST.budgets[name].mean_flops.value <= share * MANIFEST.full_flops


@pytest.mark.parametrize("budget", MANIFEST.budgets)
def test_served_equals_manifest(url: str, files: list[File], budget: str) -> None:
    answers = classify(url, files, {"budget": budget})
    assert [s for s in statements(MANIFEST, MANIFEST.budgets[budget], answers) if not s.holds] == []
    assert metrics_add_up(counters(url), budget, answers)


def test_every_exit_is_taken_by_some_image(url: str, files: list[File]) -> None:
    answers = classify(url, files, {"min_confidence": "0.9"})
    assert {a.exit for a in answers} == set(range(1, MANIFEST.exits + 1))


def test_answers_do_not_depend_on_company(url: str, files: list[File]) -> None:
    alone = classify(url, files[:16], {"budget": "medium"}, concurrency=1)
    amid: list[Served] = classify(url, files[:64] * 3, {"budget": "medium"}, concurrency=64)[:16]
    for one, other in zip(alone, amid, strict=True):
        assert (one.exit, one.right) == (other.exit, other.right)
        assert one.probability == pytest.approx(other.probability, abs=1e-5)
