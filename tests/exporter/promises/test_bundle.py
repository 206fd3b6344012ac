from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from exporter.bundle import Naming, read_bundle, write_bundle
from exporter.errors import ExportError
from exporter.network.export import export_network, make_manifest
from exporter.promises import PROMISES, read_levels
from exporter.promises.bundle import with_promises
from exporter.promises.wanted import calibration_rows, divide, wanted_from
from exporter.recalibrate import recalibrate
from exporter.stages.runner import Chain
from offramp.bundle.manifest import Manifest, read_manifest
from tests.exporter.exported import checkpoint, export, held_out
from training.data.images import UNLABELLED, Images
from training.evaluation.evaluate import exits_taken
from training.evaluation.thresholds import fit_temperature

WANTED = wanted_from("70%,60%", 0.05)  # 100 images are held out
NAMING = Naming(name="tiny", version="1", dataset="some images")


@pytest.fixture(scope="module")
def promising() -> Manifest:
    manifest = make_manifest(checkpoint(), export(), NAMING, "max_softmax")
    return with_promises(manifest, export(), held_out(), WANTED)[0]


def test_an_export_with_promises_is_written_and_read(promising: Manifest, tmp_path: Path) -> None:
    write_bundle(tmp_path / "bundle", promising, export())
    manifest = read_manifest(tmp_path / "bundle")
    assert manifest == promising
    assert (manifest.format, manifest.promises and len(manifest.promises.offered)) == (3, 2)


def test_the_losses_are_those_of_the_graphs_that_ship(promising: Manifest, tmp_path: Path) -> None:
    write_bundle(tmp_path / "bundle", promising, export())
    _, graphs = read_bundle(tmp_path / "bundle")
    rows = divide(100, 0).certified
    output = Chain(graphs).run(held_out().pixels[rows])
    assert promising.promises is not None
    for promise in promising.promises.offered:
        taken = exits_taken(output.confidence, np.array(promise.thresholds))
        given = output.probabilities[taken, np.arange(50)].argmax(axis=1)
        assert promise.losses == (given != output.probabilities[-1].argmax(axis=1)).sum()


def test_temperatures_are_fitted_on_images_that_certify_nothing() -> None:
    rows = calibration_rows(WANTED, 100)
    assert rows is not None
    assert rows.tolist() == divide(100, 0).tuned.tolist()
    subject = checkpoint(smaller=True)
    made = export_network(subject, held_out(), "max_softmax", lambda _: None, rows)
    output = Chain(made.graphs).run(held_out().pixels[rows])
    targets = held_out().targets.numpy()[rows]
    for probabilities, temperature in zip(output.probabilities, made.temperatures, strict=True):
        again = fit_temperature(np.log(probabilities), targets)
        assert again == pytest.approx(1, abs=1e-3) or temperature == pytest.approx(20)


def test_all_images_are_calibrated_on_if_they_certify_nothing() -> None:
    assert calibration_rows(None, 5000) is None
    assert calibration_rows(wanted_from(PROMISES, 0.05), 100) is None
    assert calibration_rows(wanted_from(PROMISES, 0.05), 5000) is not None


def test_other_temperatures_drop_the_promises(promising: Manifest) -> None:
    new, _ = recalibrate(promising, export().graphs, held_out(), "same", log=lambda _: None)
    assert (new.format, new.promises) == (3, None)


def test_nothing_wanted_is_nothing_promised(promising: Manifest) -> None:
    new, lines = with_promises(promising.with_promises(None), export(), held_out(), None)
    assert new.promises is None
    assert lines == ("the new bundle promises nothing: offramp certify certifies promises",)


def test_levels_are_separated_by_commas() -> None:
    assert [str(level) for level in read_levels("99%, harm:1%", 0.05)] == ["99%", "harm:1%"]
    for text in ("", "99%,", "99%;98%", ",".join(f"{k}%" for k in range(1, 19))):
        with pytest.raises(ExportError, match="--promises"):
            read_levels(text, 0.05)


def test_without_labels_harm_is_a_disagreement_with_full_depth(promising: Manifest) -> None:
    """Else no answer would ever be wrong where full depth is right."""
    unlabelled = Images(held_out().pixels, torch.full((len(held_out()),), UNLABELLED))
    full_depth = Images(held_out().pixels, torch.from_numpy(export().classes[-1]))
    manifest, wanted = promising.with_promises(None), wanted_from("harm:90%,accuracy:95%", 0.05)
    found = [
        with_promises(manifest, export(), each, wanted)[0] for each in (unlabelled, full_depth)
    ]
    assert found[0].promises == found[1].promises
    assert found[0].promises is not None
    rows = divide(len(held_out()), 0).certified
    same = (export().classes == export().classes[-1])[:, rows]
    for promise in found[0].promises.offered:
        exits = exits_taken(export().scored.confidence[:, rows], np.array(promise.thresholds))
        assert promise.losses == np.count_nonzero(~same[exits, np.arange(len(rows))])


@pytest.mark.parametrize(
    "text", ["99.99999%", "harm:0.00001%", "exit:99.99999%", "accuracy:0.00001%"]
)
def test_a_level_that_takes_too_many_images_is_refused(text: str) -> None:
    says = f"^--promises: {text} takes more than 10,000,000 images at --delta 0.05; promise less$"
    with pytest.raises(ExportError, match=says):
        wanted_from(f"99%,{text}", 0.05)


def test_a_smaller_delta_takes_more_images() -> None:
    assert read_levels("99.9999%", 0.05)
    with pytest.raises(ExportError, match=r"takes more than .* at --delta 1e-05"):
        read_levels("99.9999%", 1e-5)
