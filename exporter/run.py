"""The commands `offramp export` and `offramp recalibrate`, after their options are read."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console
from torch import Tensor

from exporter.bundle import VERIFIED_IMAGES, Export, Naming, read_bundle, write_bundle
from exporter.errors import ExportError
from exporter.network.export import export_network, make_manifest
from exporter.network.verify import verify_scores
from exporter.options import ExportOptions, RecalibrateOptions
from exporter.output_folder import data_name
from exporter.promises.bundle import with_promises
from exporter.promises.wanted import calibration_rows, wanted_from
from exporter.recalibrate import held_out_of, images_for, recalibrate, report_left_out
from exporter.reject.add_scores import DROPPED, TORCH_SCORES, add_reject
from exporter.reject.photos import read_photos
from exporter.report import summary
from offramp.bundle.manifest import Manifest
from offramp.command_line.console import plain_console
from offramp.data.held_out import few_warnings
from training.data.images import Images
from training.evaluation.assessment import own_dataset
from training.fit.checkpoint import Checkpoint, Progress, load_checkpoint
from training.fit.early_stop import is_exhausted


def export_checkpoint(options: ExportOptions) -> None:
    """Export a checkpoint as a bundle, and print a summary of it.

    Raises:
        TrainingError: The checkpoint, the images or a name cannot be used.
        OSError: A file cannot be read or written.
    """
    # torch warns of each torchvision operator that it does not find. No network here has any.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    console = plain_console()
    checkpoint = load_checkpoint(options.checkpoint)
    progress = checkpoint.progress
    if line := unfinished(progress):
        console.print(line, highlight=False)
    source = options.data or progress.recipe.data
    naming = _naming(
        options.name or progress.recipe_name,
        options.version,
        options.dataset or data_name(source),
    )
    dataset = own_dataset(progress, source, strict=options.strict)
    report_left_out(dataset.found, console.print)
    _warn_of_few(len(dataset.held_out), console)
    images = dataset.held_out.decoded()
    wanted = wanted_from(options.promises, options.delta)
    rows = calibration_rows(wanted, len(images))
    export = export_network(checkpoint, images, options.confidence, console.print, rows)
    manifest = make_manifest(
        checkpoint, export, naming, options.confidence, options.solve_for, options.price
    )
    if options.reject:
        manifest, export = _with_reject(options, manifest, export, images, console)
        _verify(checkpoint, manifest, export, images.pixels[:VERIFIED_IMAGES])
    manifest, lines = with_promises(manifest, export, images, wanted)
    _write(options.out, manifest, export, console, lines)


def recalibrate_bundle(options: RecalibrateOptions) -> None:
    """Recalibrate a bundle on other images, write the new one, and print a summary of it.

    Raises:
        TrainingError: The bundle, the images or a name cannot be used.
        BundleError: The bundle cannot be read.
        OSError: A file cannot be read or written.
    """
    console = plain_console()
    manifest, graphs = read_bundle(options.bundle)
    naming = _naming(
        options.name or manifest.name,
        options.version or manifest.version,
        options.dataset or data_name(options.data),
    )
    images = _images(options, manifest, console)
    _warn_of_few(len(images), console)
    solved_for = options.solve_for or manifest.solved_for
    named = manifest.model_copy(
        update={"name": naming.name, "version": naming.version, "solved_for": solved_for}
    )
    source = f"{naming.dataset}, {options.split}"
    if options.held_out:
        source = manifest.held_out.source
    wanted = wanted_from(options.promises, options.delta)
    rows = calibration_rows(wanted, len(images))
    new, export = recalibrate(named, graphs, images, source, console.print, rows)
    if options.reject:
        new, export = _with_reject(options, new, export, images, console)
    elif manifest.reject:
        console.print(DROPPED)
    new, lines = with_promises(new, export, images, wanted)
    _write(options.out, new, export, console, lines)


def _images(options: RecalibrateOptions, manifest: Manifest, console: Console) -> Images:
    if not options.held_out:
        return images_for(
            manifest, options.data, options.split, strict=options.strict, log=console.print
        )
    images = held_out_of(manifest, options.data, strict=options.strict, log=console.print)
    if not images.labelled:
        raise ExportError("--held-out: the images that training held out have no labels")
    return images.decoded()


def unfinished(progress: Progress) -> str | None:
    """Return a warning if a run was stopped before its end.

    That is the last epoch of its recipe, or an earlier one in which its patience was exhausted.
    """
    epochs, planned = len(progress.epochs), progress.recipe.epochs
    if epochs >= planned or is_exhausted(progress.epochs, progress.recipe.patience):
        return None
    return (
        f"warning: this run was stopped after {epochs} of {planned} epochs, and is exported as it "
        "is; --resume finishes it"
    )


def _with_reject(
    options: ExportOptions | RecalibrateOptions,
    manifest: Manifest,
    export: Export,
    images: Images,
    console: Console,
) -> tuple[Manifest, Export]:
    assert options.reject
    photos = read_photos(options.reject, manifest.input, console.print)
    rate, log = options.reject_rate, console.print
    return add_reject(manifest, export, images.pixels, photos, rate, log)


def _verify(checkpoint: Checkpoint, manifest: Manifest, export: Export, pixels: Tensor) -> None:
    """Compare the scores of the graphs with the network's, if the graphs give scores."""
    if manifest.reject is not None and manifest.reject.score != "confidence":
        score, network = TORCH_SCORES[manifest.reject.score], checkpoint.network()
        verify_scores(network, export.temperatures, export.graphs, pixels, score)


def _write(
    out: Path, manifest: Manifest, export: Export, console: Console, more: Sequence[str]
) -> None:
    write_bundle(out, manifest, export)
    for line in [*summary(manifest), *more]:
        console.print(line, highlight=False)


def _warn_of_few(images: int, console: Console) -> None:
    for line in few_warnings(images):
        console.print(line, highlight=False)


def _naming(name: str, version: str, dataset: str) -> Naming:
    try:
        return Naming(name=name, version=version, dataset=dataset)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ExportError(f"--{first['loc'][0]}: {first['msg']}") from error
