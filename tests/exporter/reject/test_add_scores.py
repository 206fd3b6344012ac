from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from exporter.bundle import Naming, read_bundle, write_bundle
from exporter.network.export import make_manifest
from exporter.recalibrate import recalibrate
from exporter.reject.add_scores import add_reject
from exporter.reject.photos import Photos
from exporter.report import summary
from exporter.stages.runner import Chain
from offramp.bundle.manifest import Manifest
from offramp.bundle.reject import Reject
from tests.exporter.exported import checkpoint, export, held_out

RATE = 0.1


def noise(contrast: int = 8) -> Photos:
    """Return noise on grey, of which this network's energy is the best score."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (60, 32, 32, 3), dtype=torch.uint8, generator=generator)
    pixels = (128 - contrast // 2 + pixels.float() * contrast / 256).to(torch.uint8)
    return Photos(pixels, "noise", ("a.png: damaged",))


@pytest.fixture(scope="module")
def plain() -> Manifest:
    naming = Naming(name="tiny", version="7", dataset="some images")
    return make_manifest(checkpoint(), export(), naming, "max_softmax")


@pytest.fixture(scope="module")
def folder(plain: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = add_reject(plain, export(), held_out().pixels, noise(), RATE, log=lambda _: None)
    path = tmp_path_factory.mktemp("bundles") / "rejecting"
    write_bundle(path, *found)
    return path


def record_of(manifest: Manifest) -> Reject:
    assert manifest.reject is not None
    return manifest.reject


def test_the_bundle_rejects_the_share_that_was_asked_for(folder: Path) -> None:
    manifest, graphs = read_bundle(folder)
    record = record_of(manifest)
    assert record.score == "energy"
    assert (record.false_reject, record.images, record.source) == (RATE, 60, "noise")
    limits = np.array(record.thresholds)[:, None]
    (inside,) = Chain(graphs).outputs(held_out().pixels, ["score"])
    (outside,) = Chain(graphs).outputs(noise().pixels, ["score"])
    assert ((inside < limits).mean(axis=1) <= RATE).all()
    caught = (outside < limits).mean(axis=1)
    assert [each.caught for each in record.exits] == pytest.approx(caught.tolist())
    assert all(each.false_reject <= 3 * RATE for each in record.exits)


def test_budgets_state_the_shares_at_the_exits_taken(folder: Path) -> None:
    manifest, _ = read_bundle(folder)
    record = record_of(manifest)
    assert set(record.budgets) == set(manifest.budgets)
    full = record.budgets["full"]
    assert (full.false_reject, full.caught) == (
        record.exits[-1].false_reject,
        record.exits[-1].caught,
    )


def test_only_the_graphs_and_the_record_differ(folder: Path, plain: Manifest) -> None:
    manifest, _ = read_bundle(folder)
    for new, old in zip(manifest.stages, plain.stages, strict=True):
        assert new.sha256 != old.sha256
        assert new.model_copy(update={"sha256": old.sha256}) == old
    assert manifest.budgets == plain.budgets
    assert "reject" not in plain.model_dump()


def test_other_temperatures_end_the_record_until_it_is_fitted_again(folder: Path) -> None:
    manifest, graphs = read_bundle(folder)
    new, measured = recalibrate(manifest, graphs, held_out(), "same", log=lambda _: None)
    assert new.reject is None
    assert all("score" not in [v.name for v in g.model.graph.output] for g in measured.graphs)
    again, _ = add_reject(new, measured, held_out().pixels, noise(), RATE, log=lambda _: None)
    assert record_of(again).thresholds == pytest.approx(record_of(manifest).thresholds, rel=1e-3)


def test_the_summary_has_a_line_for_each_exit_and_budget(folder: Path, plain: Manifest) -> None:
    manifest, _ = read_bundle(folder)
    lines = [line for line in summary(manifest) if line not in summary(plain)]
    assert len(lines) == 1 + manifest.exits + len(manifest.budgets)
    assert sum("AUROC" in line for line in lines) == manifest.exits


def test_if_the_confidence_is_the_best_score_the_graphs_stay_as_they_are(plain: Manifest) -> None:
    photos = noise(contrast=256)
    new, same = add_reject(plain, export(), held_out().pixels, photos, RATE, log=lambda _: None)
    record = record_of(new)
    assert record.score == "confidence"
    assert not record.in_graphs
    assert same is export()
    assert new.model_copy(update={"reject": None}) == plain
    (confidence,) = Chain(export().graphs).outputs(photos.pixels, ["confidence"])
    caught = (confidence < np.array(record.thresholds)[:, None]).mean(axis=1)
    assert [each.caught for each in record.exits] == pytest.approx(caught.tolist())


def test_photos_that_cannot_be_decoded_are_named(plain: Manifest) -> None:
    said: list[str] = []
    add_reject(plain, export(), held_out().pixels, noise(), RATE, log=said.append)
    assert "left out: a.png: damaged" in said
