"""`--weights hub`: weights from timm's hub, through the cache of its client, without a network."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.training.samples import PARQUET
from training.__main__ import main
from training.errors import RecipeError
from training.fit.checkpoint import load_checkpoint
from training.networks.backbones import build_network, pretrained_weights
from training.networks.pretrained import load_pretrained

pytestmark = pytest.mark.timm

NAME, REPOSITORY = "resnet10t", "timm/resnet10t.c3_in1k"


@pytest.fixture(scope="module")
def model() -> Any:
    """Build the network with random weights, with timm."""
    torch.manual_seed(3)
    return import_module("timm").create_model(NAME).eval()


@pytest.fixture
def cached(model: Any) -> Iterator[Path]:
    """Put the weights into the cache of this process, as the hub's client stores them."""
    cache = Path(import_module("huggingface_hub").constants.HF_HUB_CACHE)
    folder, commit = cache / f"models--{REPOSITORY.replace('/', '--')}", "0" * 40
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit)
    path = folder / "snapshots" / commit / "model.safetensors"
    path.parent.mkdir(parents=True)
    save_file(model.state_dict(), path)
    yield path
    shutil.rmtree(folder)


@torch.no_grad()
@pytest.mark.usefixtures("cached")
def test_cached_weights_give_the_logits_of_timm(model: Any) -> None:
    weights = pretrained_weights(f"timm:{NAME}", {}, "hub", keep_head=True)
    network = build_network(f"timm:{NAME}", {}, classes=1000).eval()
    load_pretrained(network, weights)
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(network(images)[-1], model(images), rtol=0, atol=1e-5)
    record, cfg = weights.record, model.pretrained_cfg
    assert record.source == f"timm, {REPOSITORY}"
    assert record.licence == cfg["license"]
    assert (record.mean, record.std) == (cfg["mean"], cfg["std"])
    assert (record.filter, record.margin) == (cfg["interpolation"], cfg["crop_pct"])
    assert record.sha256 is not None


def test_the_hash_is_that_of_the_tensors(cached: Path, model: Any) -> None:
    def found() -> str | None:
        return pretrained_weights(f"timm:{NAME}", {}, "hub", keep_head=False).record.sha256

    first = found()
    assert found() == first
    tensors: dict[str, Tensor] = model.state_dict()
    name = next(iter(tensors))
    save_file({**tensors, name: tensors[name] + 1}, cached)
    assert found() != first


@pytest.mark.usefixtures("cached")
def test_a_run_starts_from_the_weights_in_the_cache(tmp_path: Path) -> None:
    """The recipe names weights, and with a network of timm they come from the hub."""
    options = [
        *("photos", f"--backbone=timm:{NAME}", f"--data={PARQUET}", "--size=32", "--device=cpu"),
        *("--held-out=460", "--batch-size=20", "--epochs=1", "--crop=shifted", "--shrink=false"),
        *("--shape.hidden=16", "--shape.exits=[0.5]"),
    ]
    assert main([*options, f"--out={tmp_path / 'run'}"]) == 0
    recipe = load_checkpoint(tmp_path / "run" / "checkpoint.safetensors").progress.recipe
    assert recipe.weights is not None
    assert recipe.weights.source == f"timm, {REPOSITORY}"
    assert recipe.weights.sha256 is not None


def test_without_network_and_cache_the_error_says_what_to_do() -> None:
    says = (
        r"^--weights: timm cannot load resnet10t from its hub, and the cache .*hub does not have "
        r"it \(.+\); connect to a network once, copy the cache .*HF_HOME .*, or give the path"
    )
    with pytest.raises(RecipeError, match=says) as error:
        pretrained_weights(f"timm:{NAME}", {}, "hub", keep_head=False)
    assert "\n" not in str(error.value)


def test_a_network_without_published_weights_is_named() -> None:
    with pytest.raises(RecipeError, match=r"^--weights: timm cannot load botnet50ts_256"):
        pretrained_weights("timm:botnet50ts_256", {}, "hub", keep_head=False)
