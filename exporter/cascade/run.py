"""The command `offramp cascade`, after its options are read."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import accumulate
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from exporter.budgets import solve_budgets
from exporter.bundle import Export, score, stage_specs, write_bundle
from exporter.cascade.labels import Labels, common_labels, order_of, read_classes
from exporter.cascade.members import Part, Stages, prepare
from exporter.cascade.photos import HeldOutImages, decode, find_held_out
from exporter.cascade.settings import Member, image_of, read_members
from exporter.cascade.stage import ImageForm
from exporter.chain import Chain, ChainOutput
from exporter.graph import set_temperature
from exporter.promises.bundle import with_promises
from exporter.promises.certificate import calibration_rows, wanted_from
from exporter.report import summary
from exporter.temperatures import temperatures_for
from offramp.bundle.manifest import NEW_FORMAT, HeldOut, ImageInput, Manifest, Provenance
from offramp.data.held_out import few_warnings
from offramp.data.summary import left_out_lines

if TYPE_CHECKING:
    from exporter.cascade.__main__ import CascadeOptions

RECIPE = "cascade"
BATCH = 32  # images between two steps of the progress
Item = TypeVar("Item")
Log = Callable[[str], None]


def make_cascade(options: CascadeOptions) -> None:
    """Make a bundle of several networks, and print a summary of it.

    Raises:
        ExportError: A network, the images or an option cannot be used.
        VerificationError: A stage gives other answers than the file of its network.
        OSError: A file cannot be read or written.
    """
    console = Console(soft_wrap=True)

    def log(line: str) -> None:
        console.print(line, highlight=False, markup=False)

    members = read_members(options)
    image = image_of(members, options.filter, options.margin)
    found, split = find_held_out(options.data, options.split, strict=options.strict)
    labels, parts = _parts(options, members, found.classes)
    for line in left_out_lines(found.left_out, found.hidden):
        log(line)
    progress = _Progress(console)
    images = decode(found, split, labels, image, progress.of_images)
    for line in few_warnings(len(images)):
        log(line)
    made = [
        part.stages(images.pixels, ImageForm(image.height, image.filter), progress.of_batches)
        for part in parts
    ]
    for line in _described(made, images):
        log(line)
    wanted = wanted_from(options.promises, options.delta)
    log(f"fitting temperatures and budgets on {len(images):,} images")
    export = _measured(made, images, calibration_rows(wanted, len(images)), progress)
    source = f"{options.dataset or options.data.name}, {split}"
    manifest = _manifest(options, labels, image, export, source, made)
    manifest, lines = with_promises(manifest, export, images, wanted)
    write_bundle(options.out, manifest, export)
    for line in [*summary(manifest), *lines]:
        log(line)


def _parts(
    options: CascadeOptions, members: Sequence[Member], classes: Labels
) -> tuple[Labels, list[Part]]:
    """Return the labels of the cascade, and its networks, ready to become stages."""
    stated = read_classes(options.classes) if options.classes else None
    labels = common_labels([each.given.labels for each in members], stated, classes)
    parts = []
    for number, member in enumerate(members, 1):
        order = order_of(member.given.name, member.given.labels, labels)
        parts.append(prepare(member, number, order, options.confidence))
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


def _described(made: Sequence[Stages], images: HeldOutImages) -> Iterator[str]:
    """Yield a line about each network, and warnings."""
    before = 0
    for each in made:
        flops = sum(graph.flops for graph in each.graphs)
        right = float((each.probabilities[-1].argmax(axis=1) == images.targets).mean())
        yield (
            f"{each.name}: {each.size} pixels, {flops / 1e6:.1f} M flops, right on {right:.1%} of "
            f"the images, equal to its file within {each.difference:.0e}"
        )
        chance = 1 / each.probabilities.shape[2]
        if right < chance + 3 * math.sqrt(chance / len(images)):
            yield (
                f"warning: {each.name} is right as rarely as by chance. Does it have another order "
                "of the labels (--classes), or another --mean and --std?"
            )
        if flops < before:
            yield f"warning: {each.name} is cheaper than the one before; give the cheapest first"
        before = flops


def _measured(
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
    chain = Chain(graphs)
    outputs = [chain.run(part) for part in progress.of_batches(images.pixels, "running all stages")]
    output = ChainOutput(
        np.concatenate([each.probabilities for each in outputs], axis=1),
        np.concatenate([each.confidence for each in outputs], axis=1),
    )
    blockwise = list(accumulate(graph.flops for graph in graphs))
    return Export(graphs, blockwise, temperatures, score(output, images, graphs), output.classes)


def _manifest(
    options: CascadeOptions,
    labels: Labels,
    image: ImageInput,
    export: Export,
    source: str,
    made: Sequence[Stages],
) -> Manifest:
    budgets, curve = solve_budgets(export.scored, export.agrees, options.solve_for)
    precisions = {each.precision for each in made}
    return Manifest(
        format=NEW_FORMAT,
        solved_for=options.solve_for,
        name=options.name,
        version=options.version,
        created=datetime.now(UTC).replace(microsecond=0),
        labels=labels,
        input=image,
        precision=next(each for each in ("int8", "fp16", "fp32") if each in precisions),
        confidence=options.confidence,
        stages=stage_specs(export),
        budgets=budgets,
        curve=curve,
        held_out=HeldOut(images=export.scored.images, source=source),
        provenance=Provenance(
            recipe=RECIPE,
            dataset=options.dataset or options.data.name,
            train_images=0,
            epochs=0,
            seed=0,
            commit="none",
            config={"networks": [each.record for each in made]},
        ),
    )
