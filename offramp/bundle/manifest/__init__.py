"""The bundle's contract: `manifest.json`, written by the exporter, read by the server.

A bundle is a folder with `manifest.json` and one ONNX file for each stage. The manifest has the
numbers, the graphs have the mathematics. Flops are multiply-adds for one image, the convention
of the MSDNet and DFS papers.
"""

from offramp.bundle.manifest.images import HeldOut, ImageInput
from offramp.bundle.manifest.manifest import NEW_FORMAT, Manifest
from offramp.bundle.manifest.points import OperatingPoint
from offramp.bundle.manifest.provenance import PretrainedWeights, PretrainingImages, Provenance
from offramp.bundle.manifest.read import MANIFEST, MAX_MANIFEST_BYTES, read_manifest
from offramp.bundle.manifest.stages import StageSpec, TensorSpec, first_stages, stages_run

__all__ = [
    "MANIFEST",
    "MAX_MANIFEST_BYTES",
    "NEW_FORMAT",
    "HeldOut",
    "ImageInput",
    "Manifest",
    "OperatingPoint",
    "PretrainedWeights",
    "PretrainingImages",
    "Provenance",
    "StageSpec",
    "TensorSpec",
    "first_stages",
    "read_manifest",
    "stages_run",
]
