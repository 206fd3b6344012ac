"""The options of a cascade, one value for each of its networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

from exporter.bundle import read_bundle
from exporter.cascade.networks.bundles import Bundle, check_input
from exporter.cascade.networks.network import Network, read_network
from exporter.cascade.networks.original import Kind, Normalisation
from exporter.cascade.options import NetworkOptions
from exporter.errors import ExportError
from offramp.bundle.manifest import ImageInput
from offramp.bundle.values import Filter

NETWORKS = "NETWORKS"  # as the help names them
CHANNELS = 3
MOST_PIXELS = 4096  # height and width, as in a manifest
KINDS: tuple[Kind, ...] = ("logits", "probabilities")
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Member:
    """A network of the cascade and its options.

    Attributes:
        given: The network.
        size: Height and width of the images that it reads.
        normalisation: Normalisation of the images. `None`: it reads pixels.
        kind: What the user says its outputs are. `None`: nothing.
    """

    given: Network | Bundle
    size: int
    normalisation: Normalisation | None
    kind: Kind | None


def read_members(paths: Sequence[Path], options: NetworkOptions) -> list[Member]:
    """Read the networks at these paths, and the options of each.

    Raises:
        ExportError: A file cannot be read, or an option does not fit the networks.
    """
    given = [_read(path) for path in paths]
    sizes = _sizes(given, options.size)
    floats = [each for each in given if isinstance(each, Network) and each.image.dtype != "uint8"]
    normalisations = iter(_normalisations(floats, options.mean, options.std))
    kinds = iter(_kinds([each for each in given if isinstance(each, Network)], options.outputs))
    return [
        Member(
            each,
            size,
            next(normalisations) if each in floats else None,
            next(kinds) if isinstance(each, Network) else None,
        )
        for each, size in zip(given, sizes, strict=True)
    ]


def image_of(members: Sequence[Member], kind: Filter | None, margin: float | None) -> ImageInput:
    """Return the image of the cascade, at the largest size, brought to it as bundles do.

    Args:
        members: The networks.
        kind: Filter of `--filter`. `None`: that of the bundles, or bilinear.
        margin: Share of `--margin`. `None`: that of the bundles, or 1.

    Raises:
        ExportError: A bundle brings images to its size in another way.
    """
    bundles = [each.given for each in members if isinstance(each.given, Bundle)]
    size = max(each.size for each in members)
    own = bundles[0].manifest.input if bundles else None
    image = ImageInput(
        height=size,
        width=size,
        fit=own.fit if own else "crop",
        filter=kind or (own.filter if own else "bilinear"),
        margin=margin or (own.margin if own else 1.0),
    )
    for bundle in bundles:
        check_input(bundle.name, bundle.manifest, image)
    return image


def _read(path: Path) -> Network | Bundle:
    if path.is_dir():
        return Bundle(str(path), *read_bundle(path, promises=False, option=NETWORKS))
    return read_network(path)


def _sizes(given: Sequence[Network | Bundle], text: str | None) -> list[int]:
    words = [] if text is None else text.split(",")
    if not all(word.strip().isdecimal() and 0 < int(word) <= MOST_PIXELS for word in words):
        raise ExportError(f"--size: {text} is not a list of pixels, such as 160,224")
    asked = _for_each([int(word) for word in words] or [None], len(given), "--size", "networks")
    sizes = []
    for each, size in zip(given, asked, strict=True):
        if each.size is None and size is None:
            raise ExportError(
                f"{each.name}: reads images of any height and width; --size states them, for each "
                "network: 160,224"
            )
        if each.size is not None and size not in (None, each.size):
            raise ExportError(
                f"--size: {each.name} reads images of {each.size} pixels only, not of {size}"
            )
        sizes.append(each.size or size or 0)
    return sizes


def _normalisations(
    floats: Sequence[Network], means: Sequence[str], stds: Sequence[str]
) -> list[Normalisation]:
    if not floats and (means or stds):
        raise ExportError(
            "--mean, --std: no network reads floats. Those that read uint8 pixels normalise them"
        )
    if floats and not (means and stds):
        image = floats[0].image
        axes = "[N, 3, H, W]" if image.layout == "nchw" else "[N, H, W, 3]"
        raise ExportError(
            f"{floats[0].name}: reads {image.dtype} {axes}, not uint8 pixels. State --mean and "
            "--std, which it was trained with (pixels in [0, 1]: --mean 0 --std 1; pixels in "
            "[0, 255]: --mean 0 --std 1/255)"
        )
    if not floats:
        return []
    what = "networks that read floats"
    mean = _for_each([_channels("--mean", text) for text in means], len(floats), "--mean", what)
    std = _for_each([_channels("--std", text) for text in stds], len(floats), "--std", what)
    if any(value <= 0 for values in std for value in values):
        raise ExportError("--std: must be above 0")
    return [Normalisation(*pair) for pair in zip(mean, std, strict=True)]


def _channels(option: str, text: str) -> tuple[float, float, float]:
    try:
        values = [float(Fraction(word.strip())) for word in text.split(",")]
    except (ValueError, ZeroDivisionError, OverflowError):
        values = []
    if len(values) not in (1, CHANNELS):
        raise ExportError(f"{option}: {text} is not one number or three, such as 0.485,0.456,0.406")
    red, green, blue = values * (CHANNELS if len(values) == 1 else 1)
    return red, green, blue


def _kinds(networks: Sequence[Network], text: str | None) -> list[Kind | None]:
    if text is None:
        return [None] * len(networks)
    found = [
        next((kind for kind in KINDS if kind == word.strip()), None) for word in text.split(",")
    ]
    if None in found:
        raise ExportError(f"--outputs: {text} is not logits or probabilities")
    return _for_each(found, len(networks), "--outputs", "ONNX files")


def _for_each(values: Sequence[Value], count: int, option: str, what: str) -> list[Value]:
    """Return one value for each of `count` networks."""
    if len(values) not in (1, count):
        raise ExportError(f"{option}: has {len(values)} values for {count} {what}; give one or all")
    return list(values) * (count if len(values) == 1 else 1)
