"""A bundle's temperatures and budgets, solved anew on other images; its graphs stay."""

from __future__ import annotations

from collections.abc import Callable

from exporter.bundle import Export, fit_temperatures, score, with_new_measurements
from exporter.errors import ExportError
from exporter.graph import StageGraph, set_temperature
from exporter.verify import Chain
from offramp.bundle.manifest import HeldOut, Manifest
from training.data.datasets import load_split
from training.data.images import Images, image_input


def images_for(manifest: Manifest, source: str, split: str) -> Images:
    """One split of labelled images, at the size that the bundle takes.

    Raises:
        DataError: they cannot be loaded, or a label is none of the bundle's.
        ExportError: the bundle brings images to size as no training of ours does.
    """
    size = manifest.input.height
    if manifest.input != image_input(size):
        raise ExportError("--bundle: it brings images to size in a way that is not known here")
    return load_split(source, split, size, manifest.labels).decoded()


def recalibrate(
    manifest: Manifest,
    graphs: list[StageGraph],
    images: Images,
    source: str,
    say: Callable[[str], None],
) -> tuple[Manifest, Export]:
    """Fit temperatures and solve budgets on these images.

    Args:
        manifest: of a bundle.
        graphs: its graphs; their temperatures are set.
        images: that the network was not trained on.
        source: what they are called in the manifest.
        say: told what is being done.
    """
    say(f"fitting temperatures on {len(images):,} images")
    temperatures = fit_temperatures(graphs, images)
    for graph, temperature in zip(graphs, temperatures, strict=True):
        set_temperature(graph.model, temperature)
    say("solving budgets")
    scored = score(Chain(graphs).run(images.pixels), images, graphs)
    blockwise = [stage.blockwise_flops_to_exit for stage in manifest.stages]
    export = Export(graphs, blockwise, temperatures, scored)
    held_out = HeldOut(images=scored.images, source=source)
    return with_new_measurements(manifest, export, held_out=held_out), export
