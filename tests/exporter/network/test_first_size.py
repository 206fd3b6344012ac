"""A network on a smaller image first: trained, exported, verified and served like torch."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from exporter.bundle import Export, Naming, write_bundle
from exporter.network.export import export_network, make_manifest
from exporter.quantize.convert import quantize
from exporter.quantize.to_int8 import convert_to_int8
from offramp.bundle.graphs import join
from offramp.bundle.manifest import Manifest, read_manifest
from offramp.images.reduction import REDUCTION
from serving.engine.policy import Policy, resolve
from tests.serving.engines import classify, engine_of
from tests.serving.servers import GatedRuntime
from tests.training.samples import tiny_dataset, tiny_progress
from tests.training.two_sizes import two_sizes
from training.data.datasets import Dataset
from training.data.images import Images
from training.fit.checkpoint import Checkpoint
from training.fit.trainer import Trainer
from training.networks.flops import flop_costs
from training.networks.predict import predict

SMALLER = 1  # exits on the smaller image
SHAPE = {"convolutions": (1, 1), "channels": 8}


@dataclass(frozen=True)
class Made:
    """A checkpoint, its export, and the folder of the bundle."""

    checkpoint: Checkpoint
    export: Export
    bundle: Path

    @property
    def manifest(self) -> Manifest:
        return read_manifest(self.bundle)

    @property
    def pixels(self) -> NDArray[np.uint8]:
        return tiny_dataset().held_out.pixels[:12].numpy()

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """The probabilities of each exit by torch, [exits, N, labels]."""
        logits = predict(self.checkpoint.network(), torch.from_numpy(self.pixels))
        scale = torch.tensor(self.export.temperatures)[:, None, None]
        return np.asarray(torch.softmax(logits / scale, dim=2))


def dataset() -> Dataset[Images]:
    whole = tiny_dataset()
    return Dataset(whole.train.select(torch.arange(100)), whole.held_out, whole.labels)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    fields = {"shape": SHAPE, "first_weights": "shared", "first_exit": SMALLER}
    recipe = two_sizes("vgg", **fields, epochs=1, batch_size=50, cutout=0)
    progress = tiny_progress().model_copy(update={"recipe": recipe})
    trainer = Trainer(progress, dataset(), torch.device("cpu"))
    trainer.run_epoch(lambda batches, _: batches)
    checkpoint = trainer.checkpoint()
    export = export_network(checkpoint, dataset().held_out, "max_softmax", lambda _: None)
    naming = Naming(name="small", version="1", dataset="cifar10")
    bundle = tmp_path_factory.mktemp("two-sizes") / "bundle"
    write_bundle(bundle, make_manifest(checkpoint, export, naming, "max_softmax"), export)
    return Made(checkpoint, export, bundle)


def test_the_network_at_full_size_reads_the_image_again(made: Made) -> None:
    manifest = made.manifest
    assert manifest.firsts == (0, SMALLER)
    assert manifest.stages[SMALLER].inputs == manifest.stages[0].inputs
    assert [spec.shape for spec in manifest.stages[0].inputs] == [(32, 32, 3)]
    assert not manifest.stages[SMALLER - 1].features
    config = manifest.provenance.config
    assert (config["size"], config["first_size"], config["first_exit"]) == (32, 16, SMALLER)


def test_flops_of_full_depth_are_those_of_the_stages_at_full_size(made: Made) -> None:
    manifest, costs = made.manifest, flop_costs(made.checkpoint.network(), 32)
    assert manifest.full_flops == sum(costs.stages[SMALLER:]) + costs.heads[-1]
    assert manifest.stages[-1].flops_to_exit == costs.cumulative[-1]
    small = sum(costs.stages[:SMALLER]) + costs.heads[SMALLER - 1]
    assert manifest.flops_of(SMALLER, [False] * manifest.exits) == small


def test_answers_of_the_engine_are_those_of_torch_at_every_exit(made: Made) -> None:
    manifest, expected = made.manifest, made.probabilities
    runtime = GatedRuntime(made.bundle, manifest)

    async def run(policy: Policy) -> tuple[list[Any], list[int]]:
        async with engine_of(runtime, manifest) as engine:
            runtime.batches.clear()
            answers = await classify(engine, made.pixels, policy)
            return answers, sorted({stage for stage, _ in runtime.batches})

    answers, stages = asyncio.run(run(resolve(manifest, "full", explain=True)))
    assert stages == list(range(manifest.exits))
    for image, answer in enumerate(answers):
        for k, opinion in enumerate(answer.opinions):
            assert np.abs(opinion.probabilities - expected[k, image]).max() < 1e-4
    answers, stages = asyncio.run(run(resolve(manifest, "full")))
    assert stages == list(range(SMALLER, manifest.exits))
    assert {(each.exit, each.flops) for each in answers} == {(manifest.exits, manifest.full_flops)}
    for image, answer in enumerate(answers):
        assert np.abs(answer.opinions[-1].probabilities - expected[-1, image]).max() < 1e-4


def test_in_8_bits_the_image_is_reduced_in_floats(made: Made) -> None:
    whole = join([graph.model for graph in made.export.graphs])
    converted = convert_to_int8(whole, dataset().train.pixels[:32].numpy())
    products = [
        node
        for node in converted.graph.node
        if any(name.endswith(REDUCTION) for name in node.input)
    ]
    assert len(products) == 12
    assert {node.op_type for node in products} == {"MatMul"}


def test_in_8_bits_flops_and_most_classes_stay(made: Made) -> None:
    int8 = quantize(made.manifest, made.export.graphs, dataset(), "int8").export
    assert [graph.flops for graph in int8.graphs] == [graph.flops for graph in made.export.graphs]
    assert ((int8.classes == made.export.classes).mean(axis=1) > 0.8).all()
