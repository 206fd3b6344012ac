"""Does what the stages save reach the client? Ours, the peers and the limit, side by side.

Every round starts each server in random order by itself and measures it: 64 clients in a
closed loop, one client, and Poisson arrivals at shares of its own saturation; and the limit.
Goals are ratios within rounds; their medians count. All run on the same cores, the load
generator too. The SLO is SLO_FACTOR times one image at full depth without a server.

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
from benchmarks.serving.generator.process import Generator, generator
from benchmarks.serving.limit import Limits, single
from benchmarks.serving.offline import Opinions, evaluate, pixels
from benchmarks.serving.rounds import LIMIT, Effort, Round, Row, write_rows
from benchmarks.serving.servers.commands import EQUAL, OURS, ours, peers
from benchmarks.serving.servers.processes import Server, started
from benchmarks.serving.servers.subject import POINTS, Subject, parser, subject
from serving.engine.policy import resolve

SLO_FACTOR = 5.0


def accuracies(of: Subject, opinions: Opinions) -> dict[str, float]:
    """Of each budget on the images sent, without a server."""
    everyone, found = np.arange(len(of.sent)), {}
    for name, asked in of.target.asked.items():
        thresholds = resolve(of.manifest, asked).thresholds
        right = opinions.index[opinions.exits(thresholds), everyone] == of.sent.labels
        found[name] = float(right.mean())
    return found


def limit_rows(limits: Limits, number: int, seconds: float) -> Iterator[Row]:
    """What the model alone does, in this round."""
    for name, limit in limits.measure(seconds).items():
        yield Row(number, LIMIT, LIMIT, name, rate=limit.rate, cpu=limit.cpu)


def one_round(
    of: Subject, servers: list[Server], limits: Limits, round_: Round, number: int, seconds: float
) -> Iterator[Row]:
    """Everyone once, in random order; who does not start is left out, and said so."""
    order: list[Server | None] = [*servers, None]  # None: the limit
    random.Random(number).shuffle(order)
    for server in order:
        if server is None:
            yield from limit_rows(limits, number, seconds)
            continue
        try:
            with started(server, of.sent.files[0], of.out / "logs") as running:
                yield from round_.measure(running, (MEDIUM, FULL))
                yield from round_.measure_saturation(running, EQUAL)
        except RuntimeError as error:
            print(f"round {number}: {error}", flush=True)


def measure(
    of: Subject, arguments: argparse.Namespace, load: Generator, slo: float, limits: Limits
) -> list[Row]:
    """All rounds; the rows so far are written after each."""
    known = [ours(of.target, *of.options), *peers(of.target, isolated=of.isolated)]
    wanted = arguments.servers
    servers = [server for server in known if wanted is None or server.name in wanted]
    effort = Effort(arguments.seconds / 4, arguments.seconds, arguments.seconds / 2, arguments.open)
    rows: list[Row] = []
    for number in range(1, arguments.rounds + 1):
        round_ = Round(number, load, of.sent.labels, slo, effort)
        for row in one_round(of, servers, limits, round_, number, arguments.seconds / 2):
            rows.append(row)
            print(
                f"{row.round:2} {row.server:9} {row.measure:10} {row.budget:10} "
                f"{row.offered:8.1f} offered {row.rate:8.1f}/s {row.good:8.1f} good "
                f"{row.cpu:7.2f} CPU ms   p50 {row.p50:8.2f}   p99 {row.p99:8.2f} ms",
                flush=True,
            )
        write_rows(of.out / "compare.csv", rows)
    return rows


def equal_accuracy(found: dict[str, float]) -> Goal:
    """Whether what counts as equal is so on the images sent."""
    gap = found[FULL] - found[EQUAL]
    figure = f"{100 * found[EQUAL]:.2f} % against {100 * found[FULL]:.2f} %"
    return Goal("equal accuracy is within .5 points of full depth's", figure, gap <= POINTS)


def main() -> int:
    """Entry point; the exit status is 1 where a goal is missed."""
    made = parser("Ours, the peers and the limit, side by side.")
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--seconds", type=float, default=8.0, help="of a saturated measurement")
    made.add_argument("--open", type=float, default=6.0, help="seconds at each rate")
    made.add_argument("--servers", nargs="+", help=f"which; {OURS} is ours (default: all)")
    arguments = made.parse_args()
    of = subject(arguments)
    images = pixels(of.sent.files, of.manifest)
    opinions = evaluate(of.target.bundle, of.manifest, images)
    found = accuracies(of, opinions)
    asked = {name: of.target.asked[name] for name in (MEDIUM, EQUAL, FULL)}
    limits = Limits(of.target.bundle, asked, images, opinions)
    with generator(of.sent.files) as load:
        alone = single(of.target.bundle, of.manifest, images)
        slo = SLO_FACTOR * alone
        print(f"one image at full depth {1e3 * alone:.2f} ms, SLO {1e3 * slo:.1f} ms", flush=True)
        rounds = Rounds(measure(of, arguments, load, slo, limits))
    report(of.out, rounds, slo, found)
    return print_goals([*goals(rounds), equal_accuracy(found)])


def report(out: Path, rounds: Rounds, slo: float, found: dict[str, float]) -> None:
    """Table and plot, to files and the table to the terminal too."""
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
