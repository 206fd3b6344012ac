"""The networks of a cascade as stages, each compared with its file."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from exporter.cascade.network_options import Member
from exporter.cascade.networks.bundles import Bundle, stages_of
from exporter.cascade.networks.network import Network
from exporter.cascade.networks.original import (
    ROUNDING,
    TOLERANCE,
    Kind,
    Original,
    check_alone,
    check_equal,
    kind_of,
    probabilities,
)
from exporter.cascade.networks.reduction import reduce_images
from exporter.cascade.networks.stage import ImageForm, Reading, stage_of
from exporter.errors import ExportError, VerificationError, in_short
from exporter.reject.graphs import without_score
from exporter.stages.graph import StageGraph
from exporter.stages.runner import Chain
from offramp.bundle.values import Confidence

Pixels = NDArray[np.uint8]
Array = NDArray[np.float32]
Batches = Callable[[Pixels, str], Iterator[Pixels]]
Precision = Literal["fp32", "fp16", "int8"]
ALONE = 4  # images that are run alone too


@dataclass(frozen=True, slots=True)
class Stages:
    """The stages of a network, verified.

    Attributes:
        name: Name of the network.
        size: Height and width of the images that it reads.
        graphs: Its stages.
        temperatures: Temperature of each of its exits.
        probabilities: Of each of its exits for all images, float32 [exits, N, labels].
        difference: Largest difference of a probability from the file's.
        precision: Number format of its weights.
        record: Description for the manifest.
    """

    name: str
    size: int
    graphs: list[StageGraph]
    temperatures: list[float]
    probabilities: Array
    difference: float
    precision: Precision
    record: dict[str, object]


class Part(Protocol):
    """A network that is ready to become stages."""

    def stages(self, pixels: Pixels, image: ImageForm, batches: Batches) -> Stages:
        """Return its stages.

        Args:
            pixels: Held-out images at the size of the cascade, uint8 [N, H, W, 3].
            image: Image of the cascade.
            batches: Function that divides images into batches and shows the progress.
        """


def prepare(member: Member, number: int, order: Sequence[int], confidence: Confidence) -> Part:
    """Open the files of a network.

    Args:
        member: The network.
        number: Its number in the cascade, from 1.
        order: Its output for each label of the cascade.
        confidence: Function of the probabilities that thresholds apply to.

    Raises:
        ExportError: ONNX Runtime cannot run it, or it has another number of labels.
    """
    if isinstance(member.given, Bundle):
        return _BundlePart(member.given, number, order, confidence)
    original = Original(member.given, member.size, member.normalisation, len(order))
    image = replace(member.given.image, batch=original.batch)
    network = replace(member.given, image=image)
    return _NetworkPart(member, network, original, order, confidence)


@dataclass(frozen=True, slots=True)
class _NetworkPart:
    member: Member
    network: Network
    original: Original
    order: Sequence[int]
    confidence: Confidence

    def stages(self, pixels: Pixels, image: ImageForm, batches: Batches) -> Stages:
        name, size = self.network.name, self.member.size
        small = reduce_images(pixels, size, image.filter)
        outputs = _joined(self.original.outputs(each) for each in batches(small, f"running {name}"))
        kind = kind_of(name, outputs, self.member.kind)
        reading = Reading(
            size, self.member.normalisation, self.original.output, kind, self.order, self.confidence
        )
        expected = probabilities(outputs, kind, self.order)
        graph, found = self._stage(reading, image, expected, batches(pixels, f"comparing {name}"))
        difference = check_equal(name, found, expected, _tolerance(self.network))
        precision, record = _precision(self.network), self._record(kind)
        return Stages(name, size, [graph], [1.0], found[None], difference, precision, record)

    def _record(self, kind: Kind) -> dict[str, object]:
        network, normalisation = self.network, self.member.normalisation
        record: dict[str, object] = {"file": Path(network.name).name, "sha256": network.sha256}
        record |= {"size": self.member.size, "outputs": kind}
        return record if normalisation is None else record | asdict(normalisation)

    def _stage(
        self, reading: Reading, image: ImageForm, expected: Array, parts: Iterator[Pixels]
    ) -> tuple[StageGraph, Array]:
        """Return the stage, and its probabilities [N, labels]."""
        name, fixed = self.network.name, self.network.image.batch
        try:
            graph = stage_of(self.network, reading, image)
            chain, found = Chain([graph]), []
            for part in parts:
                found.append(chain.run(part).probabilities[0])
                if fixed is None and len(found) == 1:
                    check_alone(name, found[0], chain.run(part[:ALONE], 1).probabilities[0])
            actual = _joined(iter(found))
            if fixed is not None:
                check_equal(name, actual, expected, _tolerance(self.network))
            return graph, actual
        except Exception as error:
            if isinstance(error, MemoryError) or (fixed is None and isinstance(error, ExportError)):
                raise
            if fixed is None:
                raise ExportError(
                    f"{name}: cannot be run as a stage by ONNX Runtime: {in_short(error, 400)}"
                ) from error
            raise VerificationError(
                f"{name}: was exported for batches of {fixed}, and cannot be made to take others; "
                f"export it again with a dynamic batch axis ({in_short(error)})"
            ) from error


@dataclass(frozen=True, slots=True)
class _BundlePart:
    bundle: Bundle
    number: int
    order: Sequence[int]
    confidence: Confidence

    def stages(self, pixels: Pixels, image: ImageForm, batches: Batches) -> Stages:
        self._check_confidence()
        bundle = self.bundle
        name, manifest = bundle.name, bundle.manifest
        graphs = stages_of(bundle, self.number, self.order, image)
        small = reduce_images(pixels, bundle.size, image.filter)
        originals, chain = Chain([without_score(each) for each in bundle.graphs]), Chain(graphs)
        expected = _joined(
            (originals.run(each).probabilities for each in batches(small, f"running {name}")),
            axis=1,
        )[:, :, list(self.order)]
        actual = _joined(
            (chain.run(each).probabilities for each in batches(pixels, f"comparing {name}")), axis=1
        )
        difference = check_equal(name, actual, expected)
        hashes = [stage.sha256 for stage in manifest.stages]
        record: dict[str, object] = {"bundle": manifest.name, "sha256": hashes, "size": bundle.size}
        temperatures = [stage.temperature for stage in manifest.stages]
        precision = manifest.precision
        return Stages(
            name, bundle.size, graphs, temperatures, actual, difference, precision, record
        )

    def _check_confidence(self) -> None:
        own = self.bundle.manifest.confidence
        if own != self.confidence:
            raise ExportError(
                f"--confidence: {self.bundle.name} has {own}, and the cascade {self.confidence}; "
                "it is part of the graphs"
            )


def describe(made: Sequence[Stages], targets: NDArray[np.int64]) -> Iterator[str]:
    """Yield a line about each network, and warnings. `targets`: labels of the images, int64 [N]."""
    before = 0
    for each in made:
        flops = sum(graph.flops for graph in each.graphs)
        right = float((each.probabilities[-1].argmax(axis=1) == targets).mean())
        yield (
            f"{each.name}: {each.size} pixels, {flops / 1e6:.1f} M flops, right on {right:.1%} of "
            f"the images, equal to its file within {each.difference:.0e}"
        )
        chance = 1 / each.probabilities.shape[2]
        if right < chance + 3 * math.sqrt(chance / len(targets)):
            yield (
                f"warning: {each.name} is right as rarely as by chance. Does it have another order "
                "of the labels (--classes), or another --mean and --std?"
            )
        if flops < before:
            yield f"warning: {each.name} is cheaper than the one before; give the cheapest first"
        before = flops


def _joined(parts: Iterator[Array], axis: int = 0) -> Array:
    return np.concatenate(list(parts), axis=axis)


def _precision(network: Network) -> Precision:
    graph = network.model.graph
    if any("QuantizeLinear" in node.op_type or "QLinear" in node.op_type for node in graph.node):
        return "int8"
    half = any(tensor.data_type == TensorProto.FLOAT16 for tensor in graph.initializer)
    return "fp16" if half or network.image.dtype == "float16" else "fp32"


def _tolerance(network: Network) -> float:
    """Return the largest difference of a probability. ONNX Runtime moves roundings to 16 bits."""
    return ROUNDING if _precision(network) == "fp16" else TOLERANCE
