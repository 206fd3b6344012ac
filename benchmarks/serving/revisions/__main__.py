"""Compare two checkouts of this project: responses to 500 requests, then throughput.

    python -m benchmarks.serving.revisions --old ../before --new .

Both servers run with this interpreter and the same bundle. First both get the same requests, valid
and invalid, one at a time. Statuses, header fields and bodies of the responses must be equal.
Timings vary and are ignored. Texts of `detail` can change and are listed separately. Then 64
clients in a closed loop measure answers/s of each server alone, in random order in each round.
This needs a machine that does nothing else. Exit status 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack, closing
from pathlib import Path

from benchmarks.goals import Goal, print_goals
from benchmarks.serving.revisions.checkouts import server_of
from benchmarks.serving.revisions.differences import Comparison, compare, report
from benchmarks.serving.revisions.request import CLASSIFY, Client
from benchmarks.serving.revisions.requests import KEY, all_requests
from benchmarks.serving.revisions.throughput import NEW, OLD, goal, line, measure
from benchmarks.serving.rounds import write_rows
from benchmarks.serving.servers.images import Sent, load_images
from benchmarks.serving.servers.processes import started
from benchmarks.serving.servers.subject import SHIPPED
from offramp.bundle.manifest import read_manifest
from offramp.cores import cores
from offramp.load.process import generator

IMAGES = Path("tests/data/cifar10-500.parquet")


def arguments_of(command_line: list[str] | None = None) -> argparse.Namespace:
    """Parse the options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving.revisions",
        description="Compare responses and throughput of two checkouts of this project.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--old",
        type=Path,
        required=True,
        default=argparse.SUPPRESS,
        help="folder of the old checkout",
    )
    parser.add_argument(
        "--new",
        type=Path,
        required=True,
        default=argparse.SUPPRESS,
        help="folder of the new checkout",
    )
    parser.add_argument("--bundle", type=Path, default=SHIPPED, help="bundle that both serve")
    parser.add_argument("--data", default=str(IMAGES), help="hub name, parquet or folder of images")
    parser.add_argument("--split", default="train", help="split of the data")
    parser.add_argument(
        "--requests", type=int, default=500, help="number of compared requests, 0 to skip them"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the requests")
    parser.add_argument(
        "--rounds", type=int, default=7, help="rounds of the throughput, 0 to skip it"
    )
    parser.add_argument("--seconds", type=float, default=8.0, help="seconds of one measurement")
    parser.add_argument("--budget", default="medium", help="budget of the measured throughput")
    parser.add_argument(
        "--out", type=Path, default=Path("results/revisions"), help="folder for results and logs"
    )
    return parser.parse_args(command_line)


def compare_responses(arguments: argparse.Namespace, sent: Sent) -> list[Comparison]:
    """Send the same requests to both servers, one at a time.

    Raises:
        RuntimeError: A server does not start.
    """
    manifest = read_manifest(arguments.bundle)
    requests = all_requests(sent.files, manifest, arguments.requests, arguments.seed)
    clients = []
    with ExitStack() as stack:
        for name, checkout in ((OLD, arguments.old), (NEW, arguments.new)):
            server = server_of(name, checkout, arguments.bundle, (), {"": CLASSIFY}, KEY)
            running = stack.enter_context(started(server, sent.files[0], arguments.out / "logs"))
            client = Client(running.port, server.headers)
            clients.append(stack.enter_context(closing(client)))
        old, new = clients
        return [compare(each, old.send(each), new.send(each)) for each in requests]


def compare_throughput(arguments: argparse.Namespace, sent: Sent) -> Goal:
    """Measure both servers at saturation, print and write the rows, and return the goal.

    Raises:
        RuntimeError: A server does not start.
    """
    paths = {arguments.budget: f"{CLASSIFY}?budget={arguments.budget}"}
    servers = [
        server_of(name, checkout, arguments.bundle, (f"--workers={cores()}",), paths)
        for name, checkout in ((OLD, arguments.old), (NEW, arguments.new))
    ]
    rows, logs = [], arguments.out / "logs"
    with generator(sent.files) as load:
        for row in measure(servers, sent, load, arguments.rounds, arguments.seconds, logs):
            rows.append(row)
            print(line(row), flush=True)
    write_rows(arguments.out / "throughput.csv", rows)
    return goal(rows)


def main() -> int:
    """Run both parts and return 1 if a goal is missed."""
    arguments, goals = arguments_of(), []
    sent = load_images(arguments.data, read_manifest(arguments.bundle), arguments.split)
    if arguments.requests:
        comparisons = compare_responses(arguments, sent)
        print(*report(comparisons), sep="\n", flush=True)
        equal = sum(each.equal for each in comparisons)
        figure = f"{equal} of {len(comparisons)}"
        goals.append(Goal("responses of both servers are equal", figure, equal == len(comparisons)))
    if arguments.rounds:
        goals.append(compare_throughput(arguments, sent))
    return print_goals(goals)


if __name__ == "__main__":
    sys.exit(main())
