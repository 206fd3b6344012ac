"""Compare our server with mosec on photos of several sizes, and split the CPU time of an answer.

Each round measures every server alone, in random order, with 64 clients and with one, for every
size of photos. The limit decodes and runs the stages on all cores, without a server. `shrunk` is
our server with the pixels that the client library sends. Shrinking took the client CPU time before,
which the table of parts states. Ratios are within rounds.

    python -m benchmarks.serving.photos --bundle deploy/bundles/clothing-lite0 --data my/clothing \
        --out results
    python -m benchmarks.serving.photos --bundle deploy/bundles/clothing-lite0-int8 \
        --against deploy/bundles/clothing-lite0 --data my/clothing --out results

The photos of `--data` are brought to each size. Enlarged ones get noise, so that a JPEG has about
as many bytes as a camera's. `--photos` sends real ones instead. `equal` is the cheapest operating
point that agrees with full depth on 99 % of the held-out images. With `--against` the peers run
the network of another bundle, such as the one in float32.

`photos-SIZE.csv` has every measurement, and `photos.md` the tables. Exit status 1 if a goal is
missed. `make bench-peers` installs mosec.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.goals import print_goals
from benchmarks.serving.figures import FULL, Rounds
from benchmarks.serving.limit import measure
from benchmarks.serving.photos.images import Size, photo_of, real_photos, size_named
from benchmarks.serving.photos.parts import Alone, Parts, shrunk_bodies
from benchmarks.serving.photos.tables import MOSEC, SHRUNK, Result, goals, lines
from benchmarks.serving.rounds import LIMIT, Effort, Round, Row, write_rows
from benchmarks.serving.servers.commands import EQUAL, OURS, ours, peers
from benchmarks.serving.servers.graphs import write_full_depth
from benchmarks.serving.servers.processes import Server, started
from benchmarks.serving.servers.subject import Subject, equal_budget, parser, read_subject
from offramp.bundle.manifest import Manifest, read_manifest
from offramp.cores import cores
from offramp.exchange.bodies import PIXELS
from offramp.load.outcomes import Integers
from offramp.load.process import Generator, generator

AGREEMENT = 0.99  # with full depth, on the held-out images
SIZES = ("400px", "2MP", "12MP")
SLO = 60.0  # seconds; every answer is good here


@dataclass(frozen=True, slots=True)
class Photos:
    """Photos of one size, and the parts of an answer.

    Attributes:
        size: Their size.
        files: JPEG files.
        bodies: Pixels as the client library sends them. `None`: it would send the files.
        labels: Classes, int64 [N].
        alone: The bundle with these photos, without a server.
        parts: CPU time of an answer by its parts.
    """

    size: Size
    files: Sequence[bytes]
    bodies: Sequence[bytes] | None
    labels: Integers
    alone: Alone
    parts: Parts


def agreeing_budget(manifest: Manifest) -> str:
    """Return the cheapest budget, in flops, that agrees with full depth on AGREEMENT of images.

    A bundle that states no agreement gets the one with about the accuracy of full depth.
    """
    known = [p for p in manifest.curve if p.agreement is not None]
    if not known:
        return equal_budget(manifest)
    good = [p for p in known if p.agreement and p.agreement.value >= AGREEMENT]
    if not good:
        return "full"
    return str(math.ceil(min(point.mean_flops.value for point in good)))


def photos_of(subject: Subject, given: argparse.Namespace, size: Size) -> Photos:
    """Make the photos of one size, and measure the parts of an answer."""
    chosen = np.linspace(0, len(subject.sent) - 1, min(given.count, len(subject.sent))).astype(int)
    files, labels = [subject.sent.files[i] for i in chosen], subject.sent.labels[chosen]
    if given.photos is not None:
        files = real_photos(given.photos)[: given.count]
        labels = np.full(len(files), -1)  # not known
    files = [photo_of(file, size, seed) for seed, file in enumerate(files)]
    budgets = {name: subject.target.budget_values[name] for name in (EQUAL, FULL)}
    alone = Alone(subject.target.bundle, subject.manifest, budgets, files)
    bodies = shrunk_bodies(files, subject.manifest.input)
    parts = alone.parts(given.seconds / 4)
    return Photos(size, files, bodies, labels, alone, parts)


def measure_server(
    server: Server, photos: Photos, number: int, effort: Effort, logs: Path
) -> Iterator[Row]:
    """Start a server, and yield its rows for photos of one size.

    A server that does not start is reported and skipped.
    """
    with ExitStack() as stack:
        load = stack.enter_context(generator(photos.files))
        try:
            running = stack.enter_context(started(server, photos.files[0], logs))
        except RuntimeError as error:
            print(f"round {number}, {photos.size.name}: {error}", flush=True)
            return
        yield from _round(number, load, photos, effort).measure(running, (EQUAL, FULL), ())
        if server.name == OURS and photos.bodies is not None:
            raw = stack.enter_context(generator(photos.bodies))
            named = replace(server, name=SHRUNK, headers={"Content-Type": PIXELS})
            sending = _round(number, raw, photos, effort)
            yield from sending.measure(replace(running, server=named), (EQUAL,), ())


def _round(number: int, load: Generator, photos: Photos, effort: Effort) -> Round:
    return Round(number, load, photos.labels, SLO, effort)


def measure_limit(photos: Photos, number: int, seconds: float) -> Row:
    """Decode the photos and run the stages of the equal budget on all cores, without a server."""
    limit = measure(photos.alone.with_decoding(EQUAL), cores(), seconds)
    return Row(number, LIMIT, LIMIT, EQUAL, rate=limit.rate, cpu=limit.cpu)


def one_round(
    servers: Sequence[Server], photos: Photos, number: int, effort: Effort, logs: Path
) -> Iterator[Row]:
    """Measure every server and the limit once, in random order."""
    order: list[Server | None] = [*servers, None]
    random.Random(number).shuffle(order)
    for server in order:
        if server is None:
            yield measure_limit(photos, number, effort.saturation)
        else:
            yield from measure_server(server, photos, number, effort, logs)


def servers_of(subject: Subject, given: argparse.Namespace) -> list[Server]:
    """Return our server and the wanted peers that are installed."""
    target = subject.target
    if given.against is not None:
        manifest = read_manifest(given.against)
        graph = write_full_depth(given.against, manifest, subject.out / "against.onnx")
        target = replace(target, bundle=given.against, graph=graph)
    others = peers(target, isolated=subject.isolated)
    known = [ours(subject.target, *subject.options), *others]
    found = [server for server in known if server.name in given.servers]
    for name in set(given.servers) - {server.name for server in found}:
        print(f"{name} is not installed; see make bench-peers", flush=True)
    return found


def measure_size(
    photos: Photos, servers: Sequence[Server], given: argparse.Namespace, out: Path
) -> Result:
    """Run all rounds for photos of one size, and write the rows after each round."""
    effort = Effort(given.seconds / 4, given.seconds, given.seconds / 2, 0.0)
    rows: list[Row] = []
    for number in range(1, given.rounds + 1):
        for row in one_round(servers, photos, number, effort, out / "logs"):
            rows.append(row)
            print(
                f"{photos.size.name:6} {row.round:2} {row.server:9} {row.measure:10} "
                f"{row.budget:6} {row.rate:8.1f}/s {row.cpu:7.2f} CPU ms   p50 {row.p50:8.2f}   "
                f"p99 {row.p99:8.2f} ms",
                flush=True,
            )
        write_rows(out / f"photos-{photos.size.name}.csv", rows)
    kilobytes = float(np.mean([len(file) for file in photos.files])) / 1000
    return Result(photos.size.name, kilobytes, photos.parts, Rounds(rows))


def build_parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    made = parser("Compare our server with mosec on photos of several sizes.")
    option = made.add_argument
    made.set_defaults(bundle=Path("deploy/bundles/clothing-lite0"))
    option("--against", type=Path, help="bundle of the peers' network (default: --bundle)")
    option("--photos", type=Path, help="folder of real JPEGs to send (default: those of --data)")
    sizes = [size_named(name) for name in SIZES]
    text = "400px: longer side; 12MP: megapixels"
    option("--sizes", type=size_named, nargs="+", default=sizes, help=text)
    option("--count", type=int, default=32, help="photos of each size")
    option("--servers", nargs="+", default=[OURS, MOSEC], help="servers to measure")
    option("--rounds", type=int, default=3, help="number of rounds")
    option("--seconds", type=float, default=6.0, help="seconds at saturation")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and return 1 if a goal is missed."""
    given = build_parser().parse_args(argv)
    read = read_subject(given)
    subject = replace(read, target=replace(read.target, equal=agreeing_budget(read.manifest)))
    servers = servers_of(subject, given)
    results = [
        measure_size(photos_of(subject, given, size), servers, given, subject.out)
        for size in given.sizes
    ]
    equal = f"equal: budget={subject.target.equal}; at most {given.count} photos a size"
    text = [*lines(results), equal]
    (subject.out / "photos.md").write_text("\n".join(text) + "\n", encoding="utf-8")
    print("", *text, "", sep="\n")
    return print_goals(goals(results, subject.manifest.precision))


if __name__ == "__main__":
    sys.exit(main())
