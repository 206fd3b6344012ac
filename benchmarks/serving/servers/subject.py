"""What a benchmark of serving is of: a bundle, images, and where results go."""

from __future__ import annotations

import argparse
import math
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving.generator.images import Sent, load_images
from benchmarks.serving.servers.commands import Target
from benchmarks.serving.servers.graphs import write_full_depth
from benchmarks.serving.servers.isolation import isolate
from offramp.bundle.manifest import Manifest, read_manifest

POINTS = 0.005  # of accuracy, that count as equal
SHIPPED = Path("deploy/bundles/cifar10-msdnet")


@dataclass(frozen=True, slots=True)
class Subject:
    """The bundle under test, what is sent to it, and where results and logs go.

    Args:
        manifest: of the bundle.
        target: the same, as servers are told of it.
        sent: the images.
        out: folder of the results, one for each bundle.
        isolated: whether there is no network but loopback.
        options: of our server, on top of its defaults.
    """

    manifest: Manifest
    target: Target
    sent: Sent
    out: Path
    isolated: bool
    options: tuple[str, ...]


def parser(description: str) -> argparse.ArgumentParser:
    """The options that all share."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--bundle", type=Path, default=SHIPPED)
    made.add_argument(
        "--paper",
        action="store_true",
        help="instead: the papers' MSDNet, 7 exits, random weights, thresholds for a fixed mix of "
        "exits (needs torch)",
    )
    made.add_argument("--data", default="cifar10", help="hub name, parquet or folder of images")
    made.add_argument("--out", type=Path, default=Path("results"), help="for tables and plots")
    made.add_argument(
        "--option", action="append", default=[], help="of our server, as in --option=--threads=1"
    )
    return made


def equal_budget(manifest: Manifest) -> str:
    """The least flops, as a budget, that on held-out images lose no more than POINTS."""
    enough = manifest.budgets["full"].accuracy.value - POINTS
    points = [p for p in manifest.curve if p.accuracy.value >= enough]
    if not points:
        return "full"
    return str(math.ceil(min(point.mean_flops.value for point in points)))


def subject(arguments: argparse.Namespace) -> Subject:
    """Read bundle and images, then leave the network but for loopback, where that can be done.

    Raises:
        DataError: there are no such images.
        BundleError: there is no such bundle.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # and so stop what was started
    folder: Path = arguments.bundle
    if arguments.paper:
        from benchmarks.serving.servers.random_bundle import (  # torch is slow
            NAME,
            write_random_bundle,
        )

        folder = arguments.out / NAME
        if not folder.exists():
            write_random_bundle(folder, arguments.data)
    manifest = read_manifest(folder)
    out = arguments.out / folder.resolve().name  # a model's name is that of all its precisions
    sent = load_images(arguments.data, manifest)
    graph = write_full_depth(folder, manifest, out / "full_depth.onnx")
    equal = "medium" if arguments.paper else equal_budget(manifest)  # random weights know nothing
    target = Target(folder, graph, tuple(manifest.budgets), equal)
    return Subject(manifest, target, sent, out, isolate(), tuple(arguments.option))
