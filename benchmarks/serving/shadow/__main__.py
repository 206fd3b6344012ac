"""Measure what a shadow costs: at 70 % of saturation, where it copies, and at saturation.

    python -m benchmarks.serving.shadow --bundle deploy/bundles/cifar10-msdnet --data cifar10

Two servers of the same bundle run alone and in random order in each round, one of them with a
second version as a shadow. Both get 64 clients in a closed loop, then an open loop at 70 % of the
rate that the other one had at saturation. Exit status 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.client import counters
from benchmarks.goals import print_goals
from benchmarks.serving.figures import AT
from benchmarks.serving.reload.subject import images_of
from benchmarks.serving.revisions.throughput import NEW, OLD, line, orders
from benchmarks.serving.rounds import Effort, Round, write_rows
from benchmarks.serving.servers.images import Sent, load_images
from benchmarks.serving.servers.processes import PORT, Running, Server, started
from benchmarks.serving.shadow.goals import Measured, goals
from offramp.bundle.manifest import read_manifest
from offramp.cores import cores
from offramp.load.connection import HOST
from offramp.load.process import Generator, generator

NAME = "model"


def servers_of(models: Path, bundle: Path, share: str, workers: int, budget: str) -> list[Server]:
    """Return the server without a shadow, and that with one. Their folders are made."""
    servers = []
    for name, versions, options in (
        (OLD, ("1",), ()),
        (NEW, ("1", "2"), (f"--shadow={NAME}@2={share}",)),
    ):
        for version in versions:
            shutil.copytree(bundle, models / name / NAME / version)
        command = [sys.executable, "-m", "serving", "--models", str(models / name)]
        command += ["--port", PORT, f"--workers={workers}", "--log-level", "warning", *options]
        servers.append(Server(name, command, {budget: f"/classify?budget={budget}"}))
    return servers


def counted(running: Running) -> tuple[float, float]:
    """Return the answers and the compared copies of a server so far."""
    found = counters(f"http://{HOST}:{running.port}").items()
    answers = sum(v for key, v in found if key.startswith("offramp_exits_total{"))
    return answers, sum(v for key, v in found if key.startswith("offramp_shadow_total{"))


def measure_both(running: Running, round_: Round, budget: str, rate: float) -> Iterator[Measured]:
    """Measure a server at saturation, then at a share of a rate."""
    before = counted(running)
    for row in round_.measure_saturation(running, budget):
        after = counted(running)
        yield Measured(row, after[0] - before[0], after[1] - before[1])
        at_load = round_.measure_open(running, budget, rate, AT)
        end = counted(running)
        yield Measured(at_load, end[0] - after[0], end[1] - after[1])


def measure(
    servers: Sequence[Server],
    sent: Sent,
    load: Generator,
    arguments: argparse.Namespace,
    logs: Path,
) -> Iterator[Measured]:
    """Measure each server once a round, after a first measurement that gives the rate."""
    seconds, budget = arguments.seconds, arguments.budget
    effort = Effort(seconds / 4, seconds, seconds, seconds)
    with started(servers[0], sent.files[0], logs) as running:
        (first,) = Round(0, load, sent.labels, np.inf, effort).measure_saturation(running, budget)
    for number, order in enumerate(orders(servers, arguments.rounds), 1):
        round_ = Round(number, load, sent.labels, np.inf, effort)
        for server in order:
            with started(server, sent.files[0], logs) as running:
                yield from measure_both(running, round_, budget, first.rate)


def build_parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, required=True, help="the bundle of both versions")
    parser.add_argument("--data", help="images to send (default: noise)")
    parser.add_argument("--share", default="5%", help="share of the requests that are copied")
    parser.add_argument("--budget", default="medium", help="budget of the requests")
    parser.add_argument("--workers", type=int, default=cores(), help="worker processes")
    parser.add_argument("--rounds", type=int, default=7, help="rounds, at least 5 for a figure")
    parser.add_argument("--seconds", type=float, default=8.0, help="seconds of one measurement")
    parser.add_argument("--out", type=Path, help="CSV for all measurements")
    return parser


def main(words: Sequence[str] | None = None) -> int:
    """Run the rounds and return 1 if a goal is missed."""
    arguments = build_parser().parse_args(words)
    if arguments.data is None:
        files = images_of(arguments.bundle)
        sent = Sent(tuple(files), np.zeros(len(files), np.int64))
    else:
        sent = load_images(arguments.data, read_manifest(arguments.bundle))
    measured = []
    with TemporaryDirectory() as name, generator(sent.files) as load:
        servers = servers_of(
            Path(name), arguments.bundle, arguments.share, arguments.workers, arguments.budget
        )
        for each in measure(servers, sent, load, arguments, Path(name)):
            measured.append(each)
            print(f"{each.row.measure:10} {line(each.row)}  {each.copies:.0f} copies", flush=True)
    if arguments.out is not None:
        write_rows(arguments.out, [each.row for each in measured])
    return print_goals(goals(measured, arguments.workers))


if __name__ == "__main__":
    sys.exit(main())
