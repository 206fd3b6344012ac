"""Add promises to a manifest while its bundle is made."""

from __future__ import annotations

from exporter.bundle import Export
from exporter.promises.certificate import Outputs, certify
from exporter.promises.wanted import Wanted
from exporter.stages.runner import LabelledImages, right_classes
from offramp.bundle.manifest import Manifest

NONE_WANTED = "the new bundle promises nothing: offramp certify certifies promises"


def with_promises(
    manifest: Manifest, export: Export, images: LabelledImages, wanted: Wanted | None
) -> tuple[Manifest, tuple[str, ...]]:
    """Certify promises on the images that an export was measured on.

    Args:
        manifest: Manifest of the export, complete but for its promises.
        export: Graphs with their predictions for the images.
        images: These images. Where they have no labels, the class of full depth is the right one.
        wanted: Promises to certify. `None`: no promise.

    Returns:
        The manifest with the promises that were certified, and lines of text about all of them.
    """
    if wanted is None:
        return manifest, (NONE_WANTED,)
    targets = right_classes(images.targets, export.classes)
    outputs = Outputs(export.scored.confidence, export.classes, targets)
    found = certify(manifest, outputs, wanted, manifest.held_out.source)
    return manifest.with_promises(found.promises), found.lines
