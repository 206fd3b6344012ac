"""Pseudo-labels are the predictions of the kept head, and exits learn to agree with it."""

from pathlib import Path

import torch
from rich.console import Console

from tests.training.pretrained import LITE, original, retrofit, write_weights
from tests.training.samples import LABELS
from training.data.reopen import open_for
from training.fit.features.cache import Place, cached_features
from training.fit.trainer import Trainer
from training.networks.predict import predict
from training.recipes import Recipe

CPU = torch.device("cpu")
CACHED: dict[str, object] = {"cache_features": True, "shift": 0, "pseudo_labels": True}


def test_pseudo_labels_are_the_predictions_at_full_depth(tmp_path: Path) -> None:
    recipe = Recipe.model_validate(LITE.model_dump() | {"freeze": "trunk"} | CACHED)
    dataset = open_for(recipe, recipe.data, LABELS)
    assert not dataset.labelled
    sets = cached_features(recipe, original(), dataset, Place(tmp_path, CPU, Console(quiet=True)))
    for stored, images in ((sets.train, dataset.train), (sets.held_out, dataset.held_out)):
        predicted = predict(original(), images.decoded().pixels)[-1].argmax(dim=1)
        same = (stored.targets == predicted).float().mean()
        assert same > 0.98, "float16 changes next to no prediction"


def test_exits_learn_to_agree_with_full_depth(tmp_path: Path) -> None:
    options = {"share": 1.0, "hint": 0.0, "scaled": True}
    distilled = {"objective": "distillation", "objective_options": options}
    quick = {"epochs": 12, "batch_size": 50, "lr": 5e-3}
    path = write_weights(tmp_path / "w.safetensors")
    progress, pretrained = retrofit(path, keep_head=True, **CACHED, **distilled, **quick)
    dataset = open_for(progress.recipe, progress.recipe.data, LABELS)
    place = Place(tmp_path, CPU, Console(quiet=True))
    features = cached_features(progress.recipe, original(), dataset, place)
    trainer = Trainer(progress, dataset, CPU, pretrained=pretrained, features=features)
    epochs = [trainer.run_epoch(lambda batches, _: batches) for _ in range(12)]
    first, last = epochs[0].accuracies, epochs[-1].accuracies
    assert first[-1] == last[-1] == 1, "full depth agrees with itself"
    assert last[-2] > first[-2] + 0.1
    assert epochs[-1].loss < epochs[0].loss
    assert torch.equal(
        trainer.network.heads[-1].state_dict()["3.weight"],
        original().heads[-1].state_dict()["3.weight"],
    )
