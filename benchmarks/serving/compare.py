"""Compare our server with its peers and with the limit of the stages alone.

Each round measures every server alone, in random order: 64 clients in a closed loop, one client,
and Poisson arrivals at shares of its own saturation. It measures the limit too. Goals are on the
median of the ratios within rounds. The servers and the load generator run on the same cores. The
SLO is SLO_FACTOR times the latency of one image at full depth without a server.

    python -m benchmarks.serving.compare --data cifar10 --out results
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.goals import Goal, print_goals
from benchmarks.serving.figures import FULL, MEDIUM, Rounds, goals, plot, reachable, table
from benchmarks.serving.limit import Limits, single
from benchmarks.serving.offline import ExitOutputs, evaluate, pixels
from benchmarks.serving.rounds import LIMIT, Effort, Round, Row, write_rows
from benchmarks.serving.servers.commands import EQUAL, OURS, ours, peers
from benchmarks.serving.servers.processes import Server, started
from benchmarks.serving.servers.subject import POINTS, Subject, parser, read_subject
from offramp.load.process import Generator, generator
from serving.engine.policy import resolve

SLO_FACTOR = 5.0


def accuracies(subject: Subject, outputs: ExitOutputs) -> dict[str, float]:
    """Return the accuracy of each budget on the sent images, without a server."""
    numbers, found = np.arange(len(subject.sent)), {}
    for name, budget in subject.target.budget_values.items():
        thresholds = resolve(subject.manifest, budget).thresholds
        predicted = outputs.index[outputs.exits(thresholds), numbers]
        found[name] = float((predicted == subject.sent.labels).mean())
    return found


def limit_rows(limits: Limits, number: int, seconds: float) -> Iterator[Row]:
    """Measure the stages alone in this round."""
    for name, limit in limits.measure(seconds).items():
        yield Row(number, LIMIT, LIMIT, name, rate=limit.rate, cpu=limit.cpu)


def one_round(
    subject: Subject,
    servers: list[Server],
    limits: Limits,
    round_: Round,
    number: int,
    seconds: float,
) -> Iterator[Row]:
    """Measure every server and the limit once, in random order.

    A server that does not start is reported and skipped.
    """
    order: list[Server | None] = [*servers, None]  # without a server: the limit
    random.Random(number).shuffle(order)
    for server in order:
        if server is None:
            yield from limit_rows(limits, number, seconds)
            continue
        try:
            with started(server, subject.sent.files[0], subject.out / "logs") as running:
                yield from round_.measure(running, (MEDIUM, FULL))
                yield from round_.measure_saturation(running, EQUAL)
        except RuntimeError as error:
            print(f"round {number}: {error}", flush=True)


def measure(
    subject: Subject, arguments: argparse.Namespace, load: Generator, slo: float, limits: Limits
) -> list[Row]:
    """Run all rounds, and write the rows after each."""
    known = [
        ours(subject.target, *subject.options),
        *peers(subject.target, isolated=subject.isolated),
    ]
    wanted = arguments.servers
    servers = [server for server in known if wanted is None or server.name in wanted]
    effort = Effort(arguments.seconds / 4, arguments.seconds, arguments.seconds / 2, arguments.open)
    rows: list[Row] = []
    for number in range(1, arguments.rounds + 1):
        round_ = Round(number, load, subject.sent.labels, slo, effort)
        for row in one_round(subject, servers, limits, round_, number, arguments.seconds / 2):
            rows.append(row)
            print_row(row)
        write_rows(subject.out / "compare.csv", rows)
    return rows


def equal_accuracy(found: dict[str, float]) -> Goal:
    """Check on the sent images that the budget `EQUAL` is as accurate as full depth."""
    gap = found[FULL] - found[EQUAL]
    figure = f"{100 * found[EQUAL]:.2f} % against {100 * found[FULL]:.2f} %"
    return Goal(
        "accuracy of the equal budget is within .5 points of full depth's", figure, gap <= POINTS
    )


def print_row(row: Row) -> None:
    """Print a measurement."""
    print(
        f"{row.round:2} {row.server:9} {row.measure:10} {row.budget:10} "
        f"{row.offered:8.1f} offered {row.rate:8.1f}/s {row.good:8.1f} good "
        f"{row.cpu:7.2f} CPU ms   p50 {row.p50:8.2f}   p99 {row.p99:8.2f} ms",
        flush=True,
    )


def build_parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    made = parser("Compare our server with its peers and with the limit.")
    made.add_argument("--rounds", type=int, default=5, help="number of rounds")
    made.add_argument("--seconds", type=float, default=8.0, help="seconds at saturation")
    made.add_argument("--open", type=float, default=6.0, help="seconds at each rate")
    made.add_argument(
        "--servers", nargs="+", help=f"servers to measure; {OURS} is ours (default: all)"
    )
    return made


def main() -> int:
    """Run the benchmark and return 1 if a goal is missed."""
    arguments = build_parser().parse_args()
    subject = read_subject(arguments)
    bundle, manifest = subject.target.bundle, subject.manifest
    images = pixels(subject.sent.files, manifest)
    outputs = evaluate(bundle, manifest, images)
    found = accuracies(subject, outputs)
    budgets = {name: subject.target.budget_values[name] for name in (MEDIUM, EQUAL, FULL)}
    limits = Limits(bundle, budgets, images, outputs)
    with generator(subject.sent.files) as load:
        alone = single(bundle, manifest, images)
        slo = SLO_FACTOR * alone
        print(f"one image at full depth {1e3 * alone:.2f} ms, SLO {1e3 * slo:.1f} ms", flush=True)
        rounds = Rounds(measure(subject, arguments, load, slo, limits))
    report(subject.out, rounds, slo, found)
    return print_goals([*goals(rounds), equal_accuracy(found)])


def report(out: Path, rounds: Rounds, slo: float, found: dict[str, float]) -> None:
    """Write table and plot to files, and print the table."""
    lines = [
        *table(rounds),
        "",
        *reachable(rounds),
        "",
        f"{len(rounds.rounds)} rounds, medians; SLO {1e3 * slo:.1f} ms; accuracy "
        + ", ".join(f"{name} {100 * share:.2f} %" for name, share in found.items()),
    ]
    (out / "compare.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    plot(out / "compare.png", rounds, slo, found)
    print("", *lines, "", sep="\n")


if __name__ == "__main__":
    sys.exit(main())
