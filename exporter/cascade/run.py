"""The command `offramp cascade`, after its options are read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from exporter.budgets import solve_budgets
from exporter.bundle import Export, measured, stage_specs, write_bundle
from exporter.cascade.labels import Labels, common_labels, distinct, order_of, read_classes
from exporter.cascade.members import Part, Stages, describe, prepare
from exporter.cascade.network_options import Member, image_of
from exporter.cascade.networks.bundles import replace_size
from exporter.cascade.networks.stage import ImageForm
from exporter.cascade.options import NetworkOptions
from exporter.cascade.photos import HeldOutImages, decode, find_held_out
from exporter.output_folder import data_name
from exporter.promises.bundle import with_promises
from exporter.promises.wanted import calibration_rows, wanted_from
from exporter.report import summary
from exporter.stages.graph import set_temperature
from exporter.stages.runner import Chain, ChainOutput
from exporter.stages.temperatures import temperatures_for
from offramp.bundle.manifest import NEW_FORMAT, HeldOut, ImageInput, Manifest, Provenance
from offramp.bundle.values import Confidence, Price
from offramp.command_line.console import plain_console
from offramp.data.held_out import few_warnings
from offramp.data.summary import left_out_lines

RECIPE = "cascade"
BATCH = 32  # images between two steps of the progress
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Goal:
    """A bundle to make.

    Attributes:
        out: Its folder.
        confidence: Function of the probabilities that thresholds apply to.
        price: Cost of going on along its path.
    """

    out: Path
    confidence: Confidence
    price: Price


@dataclass(frozen=True, slots=True)
class Networks:
    """Networks as stages, each compared with its file, and what they share.

    Attributes:
        labels: Labels of all of them.
        image: Image at the largest size, which all stages read.
        images: Held-out images.
        split: Split of the data set that these are.
        made: Stages of each network.
    """

    labels: Labels
    image: ImageInput
    images: HeldOutImages
    split: str
    made: list[Stages]


class Output:
    """Lines of text and progress on the console."""

    def __init__(self) -> None:
        self._console = plain_console()
        self.progress = _Progress(self._console)

    def log(self, line: str) -> None:
        """Print a line."""
        self._console.print(line, highlight=False)


def run_networks(
    options: NetworkOptions,
    members: Sequence[Member],
    confidence: Confidence,
    output: Output,
    among: Networks | None = None,
) -> Networks:
    """Turn networks into stages and run them on the held-out images.

    If they were chosen `among` others, they keep the labels and the form of images of all.

    Raises:
        ExportError: A network, the images or an option cannot be used.
        VerificationError: A stage gives other answers than the file of its network.
        OSError: A file cannot be read.
    """
    if among is None:
        image = image_of(members, options.filter, options.margin)
        given = read_classes(options.classes) if options.classes else None
    else:  # a network that was left out can have decided them
        image = replace_size(among.image, max(each.size for each in members))
        given = among.labels
    found, split = find_held_out(options.data, options.split, strict=options.strict)
    labels, parts = _parts(members, given, found.classes, confidence)
    for line in left_out_lines(found.left_out, found.hidden):
        output.log(line)
    images = decode(found, split, labels, image, output.progress.of_images)
    for line in few_warnings(len(images)):
        output.log(line)
    form, batches = ImageForm(image.height, image.filter), output.progress.of_batches
    made = [part.stages(images.pixels, form, batches) for part in parts]
    return Networks(labels, image, images, split, made)


def make_cascade(
    options: NetworkOptions,
    members: Sequence[Member],
    goal: Goal,
    output: Output,
    among: Networks | None = None,
) -> None:
    """Make a bundle of networks, and print a summary of it. `among`: see `run_networks`.

    Raises:
        ExportError: A network, the images or an option cannot be used.
        VerificationError: A stage gives other answers than the file of its network.
        OSError: A file cannot be read or written.
    """
    networks = run_networks(options, members, goal.confidence, output, among)
    made, images, log = networks.made, networks.images, output.log
    for line in describe(made, images.targets):
        log(line)
    wanted = wanted_from(options.promises, options.delta)
    log(f"fitting temperatures and budgets on {len(images):,} images")
    export = _fit(made, images, calibration_rows(wanted, len(images)), output.progress)
    manifest = _manifest(options, networks, export, goal)
    manifest, lines = with_promises(manifest, export, images, wanted)
    write_bundle(goal.out, manifest, export)
    for line in [*summary(manifest), *lines]:
        log(line)


def _parts(
    members: Sequence[Member], given: Labels | None, classes: Labels, confidence: Confidence
) -> tuple[Labels, list[Part]]:
    """Return the labels of the cascade, and its networks, ready to become stages."""
    stated = [distinct(each.given.name, each.given.labels, given) for each in members]
    labels = common_labels(stated, given, classes)
    parts = []
    for number, (member, own) in enumerate(zip(members, stated, strict=True), 1):
        order = order_of(member.given.name, own, labels)
        parts.append(prepare(member, number, order, confidence))
    return labels, parts


class _Progress:
    """Bars on the console, each of which vanishes at its end."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def of_images(self, images: Iterable[Item], total: int) -> Iterator[Item]:
        """Show the progress of decoding."""
        return iter(self._track(images, f"decoding {total:,} images", total))

    def of_batches(self, pixels: NDArray[np.uint8], title: str) -> Iterator[NDArray[np.uint8]]:
        """Yield images BATCH by BATCH."""
        parts = (pixels[at : at + BATCH] for at in range(0, len(pixels), BATCH))
        return iter(self._track(parts, title, math.ceil(len(pixels) / BATCH)))

    def _track(self, items: Iterable[Item], title: str, total: int) -> Iterable[Item]:
        if not self._console.is_terminal:
            return items
        return track(items, title, total=total, console=self._console, transient=True)


def _fit(
    made: Sequence[Stages],
    images: HeldOutImages,
    rows: NDArray[np.int64] | None,
    progress: _Progress,
) -> Export:
    """Fit the temperatures on some of the images, and run the stages on all."""
    graphs = [graph for each in made for graph in each.graphs]
    some = slice(None) if rows is None else rows
    probabilities = np.concatenate([each.probabilities for each in made])[:, some]
    fitted = temperatures_for(probabilities, images.targets[some])
    own = [temperature for each in made for temperature in each.temperatures]
    # rounded to the graph's float32
    temperatures = [float(np.float32(a * b)) for a, b in zip(own, fitted, strict=True)]
    for graph, temperature in zip(graphs, temperatures, strict=True):
        set_temperature(graph.model, temperature)
    output = _run(Chain(graphs), images, progress)
    blockwise = list(accumulate(graph.flops for graph in graphs))
    return measured(graphs, blockwise, temperatures, output, images)


def _run(chain: Chain, images: HeldOutImages, progress: _Progress) -> ChainOutput:
    outputs = [chain.run(part) for part in progress.of_batches(images.pixels, "running all stages")]
    return ChainOutput(
        np.concatenate([each.probabilities for each in outputs], axis=1),
        np.concatenate([each.confidence for each in outputs], axis=1),
    )


def _manifest(options: NetworkOptions, networks: Networks, export: Export, goal: Goal) -> Manifest:
    budgets, curve = solve_budgets(export.priced(goal.price), export.agrees, options.solve_for)
    dataset = options.dataset or data_name(options.data)
    precisions = {each.precision for each in networks.made}
    return Manifest(
        format=NEW_FORMAT,
        solved_for=options.solve_for,
        name=options.name,
        version=options.version,
        created=datetime.now(UTC).replace(microsecond=0),
        labels=networks.labels,
        input=networks.image,
        precision=next(each for each in ("int8", "fp16", "fp32") if each in precisions),
        confidence=goal.confidence,
        stages=stage_specs(export),
        budgets=budgets,
        curve=curve,
        times=export.times,
        priced_in=goal.price,
        held_out=HeldOut(images=export.scored.images, source=f"{dataset}, {networks.split}"),
        provenance=_provenance(dataset, networks.made),
    )


def _provenance(dataset: str, made: Sequence[Stages]) -> Provenance:
    """Return the origin of weights that were trained elsewhere."""
    return Provenance(
        recipe=RECIPE,
        dataset=dataset,
        train_images=0,
        epochs=0,
        seed=0,
        commit="none",
        config={"networks": [each.record for each in made]},
    )
