"""Networks of timm are trained, exported, verified and served as the other backbones are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from exporter.bundle import Naming, write_bundle
from exporter.network.export import export_network, make_manifest
from offramp import Classifier
from tests.serving.servers import serving
from tests.training.samples import LABELS, TINY, tiny_progress
from tests.training.timm_models import SMALL, Small
from training.data.datasets import load_dataset
from training.fit.trainer import Trainer
from training.networks.predict import predict

pytestmark = pytest.mark.timm


@pytest.mark.parametrize("small", SMALL, ids=[each.name for each in SMALL])
def test_a_network_is_trained_exported_and_served(small: Small, tmp_path: Path) -> None:
    dataset = load_dataset(TINY.data, small.size, TINY.held_out, TINY.seed)
    dataset = replace(dataset, train=dataset.train.select(torch.arange(20)))
    progress = tiny_progress(
        backbone=f"timm:{small.name}",
        shape=small.shape,
        size=small.size,
        batch_size=10,
        epochs=1,
        lr=1e-3,
        cutout=0,
    )
    trainer = Trainer(progress, dataset, torch.device("cpu"))
    before = [each.detach().clone() for each in trainer.network.parameters()]
    trainer.run_epoch(lambda batches, _: batches)
    assert any(
        not torch.equal(old, new)
        for old, new in zip(before, trainer.network.parameters(), strict=True)
    )
    checkpoint = trainer.checkpoint()
    held_out = dataset.held_out
    export = export_network(checkpoint, held_out, "max_softmax", lambda _: None)
    naming = Naming(name="small", version="1", dataset="cifar10")
    bundle = tmp_path / "bundle"
    write_bundle(bundle, make_manifest(checkpoint, export, naming, "max_softmax"), export)
    pixels = held_out.pixels[:5]
    expected = [LABELS[k] for k in predict(checkpoint.network(), pixels)[-1].argmax(1)]
    with Classifier.open(bundle) as classifier:
        answers = classifier.classify(pixels.numpy(), budget="full")
    assert [answer.label for answer in answers] == expected
    kind = {"content-type": "application/vnd.offramp.uint8"}
    with serving(bundle) as server, server.client as client:
        url = "/classify?budget=full"
        for image, label in zip(pixels.numpy(), expected, strict=True):
            answer = client.post(url, content=image.tobytes(), headers=kind).json()["answers"][0]
            assert (answer["label"], answer["exit"]) == (label, checkpoint.network().exits)
