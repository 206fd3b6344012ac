"""Subject of a benchmark of serving: the bundle, the images and the folder of the results."""

from __future__ import annotations

import argparse
import math
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving.servers.commands import Target
from benchmarks.serving.servers.graphs import write_full_depth
from benchmarks.serving.servers.images import Sent, load_images
from benchmarks.serving.servers.isolation import isolate
from offramp.bundle.manifest import Manifest, read_manifest

POINTS = 0.005  # of accuracy; a smaller loss counts as equal
SHIPPED = Path("deploy/bundles/cifar10-msdnet")


@dataclass(frozen=True, slots=True)
class Subject:
    """Bundle under test, images to send, and folder of results and logs.

    Attributes:
        manifest: Manifest of the bundle.
        target: Model to serve, for the commands of the servers.
        sent: Images to send.
        out: Folder of the results, one for each bundle.
        isolated: True if loopback is the only network.
        options: Options of our server, on top of its defaults.
    """

    manifest: Manifest
    target: Target
    sent: Sent
    out: Path
    isolated: bool
    options: tuple[str, ...]


def parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with the options that all benchmarks of serving have."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--bundle", type=Path, default=SHIPPED, help="folder of the bundle")
    made.add_argument(
        "--paper",
        action="store_true",
        help="serve the papers' MSDNet instead: 7 exits, random weights, thresholds for fixed "
        "shares of the exits (needs torch)",
    )
    made.add_argument("--data", default="cifar10", help="hub name, parquet or folder of images")
    made.add_argument(
        "--out", type=Path, default=Path("results"), help="folder for tables and plots"
    )
    made.add_argument(
        "--option",
        action="append",
        default=[],
        help="option of our server, for example --option=--threads=1",
    )
    return made


def equal_budget(manifest: Manifest) -> str:
    """Return the cheapest budget, in flops, that loses at most POINTS on held-out images."""
    enough = manifest.budgets["full"].accuracy.value - POINTS
    points = [p for p in manifest.curve if p.accuracy.value >= enough]
    if not points:
        return "full"
    return str(math.ceil(min(point.mean_flops.value for point in points)))


def read_subject(arguments: argparse.Namespace) -> Subject:
    """Read bundle and images, then restrict the process to loopback where possible.

    Raises:
        DataError: There are no such images.
        BundleError: There is no such bundle.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # an exit stops the started servers
    folder: Path = arguments.bundle
    if arguments.paper:
        from benchmarks.serving.servers.random_bundle import (  # imports torch, which is slow
            NAME,
            write_random_bundle,
        )

        folder = arguments.out / NAME
        if not folder.exists():
            write_random_bundle(folder, arguments.data)
    manifest = read_manifest(folder)
    out = arguments.out / folder.resolve().name  # the model has the same name in all precisions
    sent = load_images(arguments.data, manifest)
    graph = write_full_depth(folder, manifest, out / "full_depth.onnx")
    equal = (
        "medium" if arguments.paper else equal_budget(manifest)
    )  # random weights have no accuracy
    target = Target(folder, graph, tuple(manifest.budgets), equal)
    return Subject(manifest, target, sent, out, isolate(), tuple(arguments.option))
