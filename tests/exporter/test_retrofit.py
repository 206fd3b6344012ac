"""Exits for a network that one has, from images without labels: full depth answers as before."""

from pathlib import Path

import numpy as np
import pytest

from exporter.__main__ import export
from exporter.quantize.convert import own_images
from exporter.report import summary
from offramp import Classifier
from offramp.bundle.manifest import read_manifest
from tests.training.pretrained import original, write_weights
from tests.training.samples import LABELS, PARQUET, tiny_dataset
from training.__main__ import main
from training.networks.predict import predict

OPTIONS = [
    *("photos-unlabelled", "--keep-head", "--device=cpu", "--epochs=1", "--held-out=100"),
    *("--size=32", "--shape.width=0.25", "--shape.hidden=16", "--shape.exits=[0.5]"),
]


def test_a_retrofit_without_labels_is_exported_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, run, bundle = tmp_path / "w.safetensors", tmp_path / "run", tmp_path / "bundle"
    (tmp_path / "names.txt").write_text("\n".join(LABELS), encoding="utf-8")
    options = [f"--weights={write_weights(weights)}", f"--class-names={tmp_path / 'names.txt'}"]
    assert main([*OPTIONS, *options, f"--data={PARQUET}", f"--out={run}"]) == 0
    shown = capsys.readouterr().out
    assert f"data: {PARQUET}: 400 training and 100 held-out images without labels" in shown
    assert "held-out agreement with full depth by exit, %" in shown
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "The images have no labels" in page

    checkpoint = run / "checkpoint.safetensors"
    assert export(["--checkpoint", str(checkpoint), "--out", str(bundle)]) == 0
    manifest = read_manifest(bundle)
    assert manifest.held_out.labels == "pseudo"
    assert manifest.labels == LABELS
    assert manifest.stages[-1].accuracy.value == manifest.budgets["full"].accuracy.value == 1
    assert manifest.stages[-1].temperature == 1
    assert "agreement 100.00 %" in "\n".join(summary(manifest))
    assert len(own_images(manifest, str(PARQUET)).held_out) == 100

    pixels = tiny_dataset().held_out.pixels
    with Classifier.open(bundle, threads=1) as classifier:
        answers = classifier.classify(pixels.numpy(), "full", top_k=len(LABELS))
    probabilities = np.zeros((len(answers), len(LABELS)))
    for row, answer in zip(probabilities, answers, strict=True):
        assert answer.exit == answer.exits
        for ranked in answer.top_k:
            row[ranked.index] = ranked.probability
    expected = predict(original(), pixels)[-1]
    assert expected.std(dim=0).min() > 0.1, "the predictions differ among images"
    # rounded to 6 decimals; the export itself allows 1e-4
    np.testing.assert_allclose(probabilities, expected.softmax(dim=1).numpy(), atol=1e-4)
