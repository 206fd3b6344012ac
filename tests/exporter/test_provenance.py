"""A server says which pretrained weights its model started from, and how they were trained."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from exporter.bundle import Naming, write_bundle
from exporter.network.export import make_manifest
from offramp.bundle.manifest import read_manifest
from tests.exporter.exported import export
from tests.serving.servers import serving
from tests.training.families import SMALL
from tests.training.samples import TINY, tiny_dataset, tiny_progress
from training.fit.checkpoint import Checkpoint
from training.fit.initial import with_weights
from training.fit.trainer import Trainer
from training.networks.backbones import build_network

LITE, SHAPE = "efficientnet_lite", SMALL["efficientnet_lite"]


def bundle_of(checkpoint: Checkpoint, folder: Path) -> Path:
    """Write a bundle with the record of a checkpoint, and the graphs of another network."""
    naming = Naming(name="small", version="1", dataset="cifar10")
    write_bundle(folder, make_manifest(checkpoint, export(), naming, "max_softmax"), export())
    return folder


def trained_from_weights(folder: Path) -> Checkpoint:
    """Return the start of a run from a file of weights."""
    torch.manual_seed(7)
    network = build_network(LITE, SHAPE, 10)
    own, path = network.state_dict(), folder / "mine.safetensors"
    save_file({there: own[name] for name, there in network.pretraining.names.items()}, path)
    changes: dict[str, object] = {"backbone": LITE, "shape": SHAPE}
    recipe, pretrained = with_weights(TINY.model_copy(update=changes), str(path), keep_head=True)
    progress = tiny_progress().model_copy(update={"recipe": recipe})
    trainer = Trainer(progress, tiny_dataset(), torch.device("cpu"), pretrained=pretrained)
    return trainer.checkpoint()


def test_the_model_says_which_weights_it_started_from(tmp_path: Path) -> None:
    checkpoint = trained_from_weights(tmp_path)
    folder = bundle_of(checkpoint, tmp_path / "bundle")
    record = checkpoint.progress.recipe.weights
    assert record is not None
    with serving(folder) as server, server.client as client:
        model = client.get("/model").json()
    assert model["weights"] == {
        "source": "mine.safetensors",
        "licence": "not stated",
        "sha256": record.sha256,
        "images": {
            "size": 224,
            "mean": [127 / 255] * 3,
            "std": [128 / 255] * 3,
            "filter": "bicubic",
            "margin": 0.875,
        },
    }
    assert (model["input"]["filter"], model["input"]["margin"]) == ("bicubic", 0.875)
    weights = read_manifest(folder).provenance.weights
    assert weights is not None
    assert weights.model_dump(mode="json") == model["weights"]
