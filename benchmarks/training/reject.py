"""Measure how well a bundle tells pictures of its classes from photos of other things.

    python -m benchmarks.training.reject --data cifar10 --others my/other/photos

Prints the area under the ROC curve of each exit by each score, and what the
thresholds that `offramp export --reject` would fit do at each exit and budget. Images of the
classes are those that the bundle was calibrated on. Nothing is written.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from exporter.bundle import read_bundle
from exporter.recalibrate import own_files
from exporter.reject import RATE
from exporter.reject.add_scores import Measured, fit_record, measure
from exporter.reject.fit import auroc_interval
from exporter.reject.graphs import without_score
from exporter.reject.photos import read_photos
from exporter.report import reject_lines

SHIPPED = Path("deploy/bundles/cifar10-msdnet")


def auroc_lines(measured: Measured) -> Iterator[str]:
    """Yield a line for each score, with the areas of all exits."""
    counts = measured.inside.shape[1], measured.outside.shape[1]
    for name, scores in measured.scores.items():
        intervals = [auroc_interval(area, *counts) for area in scores.aurocs.tolist()]
        shown = "   ".join(f"{i.value:.3f} [{i.low:.3f}, {i.high:.3f}]" for i in intervals)
        yield f"  {name:12}{shown}"


def main(words: Sequence[str] | None = None) -> None:
    """Measure one bundle."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, default=SHIPPED, help=f"the bundle ({SHIPPED})")
    parser.add_argument("--data", required=True, help="images that the bundle was made with")
    parser.add_argument("--others", required=True, help="photos of other things")
    parser.add_argument("--rate", type=float, default=RATE, help=f"share rejected wrongly ({RATE})")
    arguments = parser.parse_args(words)
    manifest, graphs = read_bundle(arguments.bundle)
    held_out = own_files(manifest, arguments.data).held_out.decoded()
    photos = read_photos(arguments.others, manifest.input)
    measured = measure([without_score(graph) for graph in graphs], held_out.pixels, photos.pixels)
    print(
        f"{manifest.name} {manifest.version}: AUROC of exits 1 to {manifest.exits}, 95 % interval,"
    )
    print(f"  {len(held_out):,} held-out images against {len(photos.pixels):,} other photos")
    print(*auroc_lines(measured), sep="\n")
    print(*reject_lines(fit_record(measured, manifest, photos, arguments.rate)), sep="\n")


if __name__ == "__main__":
    main()
