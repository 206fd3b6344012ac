"""A bundle with new exits on a frozen network answers at full depth as that network does."""

from pathlib import Path

import numpy as np
import torch

from exporter.bundle import Naming, export_network, make_manifest, write_bundle
from exporter.verify import Chain
from offramp import Classifier
from offramp.bundle.manifest import read_manifest
from tests.training.pretrained import original, retrofit, write_weights
from tests.training.samples import LABELS, tiny_dataset
from training.fit.trainer import Trainer
from training.networks.predict import predict

NAMING = Naming(name="retrofit", version="1", dataset="cifar10-500")


def test_full_answers_are_those_of_the_original_network(tmp_path: Path) -> None:
    progress, pretrained = retrofit(write_weights(tmp_path / "w.safetensors"), keep_head=True)
    trainer = Trainer(progress, tiny_dataset(), torch.device("cpu"), pretrained=pretrained)
    trainer.run_epoch(lambda batches, _: batches)
    checkpoint, held_out = trainer.checkpoint(), tiny_dataset().held_out
    export = export_network(checkpoint, held_out, "max_softmax", lambda _: None)
    bundle = tmp_path / "bundle"
    write_bundle(bundle, make_manifest(checkpoint, export, NAMING, "max_softmax"), export)

    with Classifier.open(bundle, threads=1) as classifier:
        answers = classifier.classify(held_out.pixels.numpy(), "full", top_k=len(LABELS))
    probabilities = np.zeros((len(answers), len(LABELS)))
    for row, answer in zip(probabilities, answers, strict=True):
        assert answer.exit == answer.exits
        for ranked in answer.top_k:
            row[ranked.index] = ranked.probability
    temperature = read_manifest(bundle).stages[-1].temperature
    expected = predict(original(), held_out.pixels)[-1].double()
    assert float(expected.std(dim=0).min()) > 0.1, "the predictions differ among images"
    softmax = (expected / temperature).softmax(dim=1).numpy()
    np.testing.assert_allclose(probabilities, softmax, atol=2e-6)  # answers are rounded

    # logits are known up to a constant for each image
    found = temperature * np.log(Chain(export.graphs).run(held_out.pixels).probabilities[-1])
    centred = [each - each.mean(axis=1, keepdims=True) for each in (found, expected.numpy())]
    np.testing.assert_allclose(*centred, atol=1e-4)
