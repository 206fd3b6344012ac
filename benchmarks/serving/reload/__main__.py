"""Change the models of a server under load, and print one line for each goal.

    python -m benchmarks.serving.reload --bundle deploy/bundles/cifar10-msdnet

Eight clients ask all the time. In a second run of the same length, new versions are loaded, some
of them corrupt, and rolled back. Both runs are made for versions with the same graphs, which
differ in their manifest only, and for versions with other weights in their graphs (`--changes`
makes one of them). `--kill` also kills workers in the middle of loads. Exit status 1 if a goal is
missed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.goals import Goal, print_goals
from benchmarks.serving.reload.answers import read_version
from benchmarks.serving.reload.changes import Change, Changer, script
from benchmarks.serving.reload.models import NAME, WHAT, Versions
from benchmarks.serving.reload.subject import KEY, images_of, server_of
from benchmarks.serving.servers.processes import Running, started
from offramp.load.outcomes import closed
from offramp.load.sender import Load, Report, send
from serving.priorities import lower_priority

PATH = f"/models/{NAME}/classify"
MOST_PER_SECOND = 20_000  # answers; a plan has that many requests
SETTLE = 3.0  # seconds after the changes, in which the last version retires
NICENESS = 10  # of the thread that writes versions: parsing graphs takes longer than loading them
P99_RATIO, MEMORY_RATIO = 1.5, 1.1


@dataclass(frozen=True, slots=True)
class Result:
    """A load, and the memory of the server after it in bytes."""

    report: Report
    memory: int
    changes: Sequence[Change] = ()

    @property
    def failed(self) -> int:
        """Return the number of requests without an answer."""
        return int((~self.report.outcomes.answered).sum())

    @property
    def wrong(self) -> int:
        """Return the number of answers whose label is not of the version that they name."""
        outcomes = self.report.outcomes
        return int((outcomes.ended_by[outcomes.answered] != 1).sum())

    @property
    def p99(self) -> float:
        """Return the 99th percentile of the latency, in seconds."""
        return self.report.outcomes.percentile(99)


def measure(
    running: Running,
    images: Sequence[bytes],
    arguments: argparse.Namespace,
    changer: Changer | None,
) -> Result:
    """Load a server, and change its models meanwhile if there is a changer."""
    rng = np.random.default_rng(1)
    plan = closed(PATH, int(arguments.seconds * MOST_PER_SECOND), len(images), rng)
    load = Load(running.port, arguments.clients, arguments.seconds)
    with (
        ProcessPoolExecutor(1, get_context("spawn")) as pool,
        ThreadPoolExecutor(1, initializer=lower_priority, initargs=(NICENESS,)) as other,
    ):
        sending = pool.submit(send, images, plan, load, read_version)
        changes = []
        if changer is not None:
            changes = other.submit(make_changes, changer, arguments, sending).result()
        report = sending.result()
    time.sleep(SETTLE)
    return Result(report, running.usage().memory, changes)


def make_changes(
    changer: Changer, arguments: argparse.Namespace, sending: Future[Report]
) -> list[Change]:
    """Make the changes, spread evenly over the time of the load."""
    kinds = list(script(arguments.reloads, arguments.rollbacks, kill=arguments.kill))
    start, made = time.monotonic(), list[Change]()
    for number, kind in enumerate(kinds):
        due = start + arguments.seconds * (number + 1) / (len(kinds) + 1)
        time.sleep(max(0.0, due - time.monotonic()))
        if sending.done():
            break
        made.append(changer.make(kind))
    return made


def goals(before: Result, during: Result, arguments: argparse.Namespace) -> list[Goal]:
    """Return the goals: nothing fails, and nothing grows."""
    answers = int(during.report.outcomes.answered.sum())
    counts = Counter(change.kind for change in during.changes)
    made = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
    wrong_changes = sum(not change.right for change in during.changes)
    ratio, memory = during.p99 / before.p99, during.memory / before.memory
    expected = len(list(script(arguments.reloads, arguments.rollbacks, kill=arguments.kill)))
    return [
        Goal("all changes are made in time", f"{len(during.changes)} of {expected}: {made}",
             len(during.changes) == expected),
        Goal("loads succeed, and those of corrupt versions do not", f"{wrong_changes} wrong",
             wrong_changes == 0),
        Goal("no request fails", f"{during.failed} of {answers}", during.failed == 0),
        Goal("every answer is of the version that it names", f"{during.wrong} wrong",
             during.wrong == 0),
        Goal(f"p99 at most {P99_RATIO} x that without changes",
             f"{1e3 * during.p99:.2f} ms, {ratio:.2f} x", ratio <= P99_RATIO),
        Goal(f"memory afterwards at most {MEMORY_RATIO} x that before",
             f"{during.memory / 1e6:.0f} MB, {memory:.3f} x", memory <= MEMORY_RATIO),
    ]  # fmt: skip


def report(before: Result, during: Result, arguments: argparse.Namespace) -> int:
    """Print the goals, and return 1 if one is missed."""
    answers = before.report.outcomes.answered.sum() / arguments.seconds
    print(f"without changes: {answers:.0f} answers/s, p99 {1e3 * before.p99:.2f} ms, "
          f"{before.memory / 1e6:.0f} MB")  # fmt: skip
    loads = [change.seconds for change in during.changes if change.kind == "reload"]
    if loads:
        print(f"a load takes {np.median(loads):.2f} s, at most {max(loads):.2f} s")
    return print_goals(goals(before, during, arguments))


def build_parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    parser = argparse.ArgumentParser(description="Change models under load.")
    parser.add_argument("--bundle", type=Path, required=True, help="bundle to serve")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of each load")
    parser.add_argument("--clients", type=int, default=8, help="clients of the closed loop")
    parser.add_argument("--reloads", type=int, default=50, help="new versions that are loaded")
    parser.add_argument("--rollbacks", type=int, default=10, help="loads of the version before")
    parser.add_argument("--workers", type=int, default=2, help="worker processes")
    parser.add_argument("--threads", type=int, default=1, help="threads of each worker")
    parser.add_argument("--changes", nargs="+", choices=WHAT, default=WHAT,
                        help="what differs between versions (default: %(default)s)")  # fmt: skip
    parser.add_argument("--kill", action="store_true", help="kill workers in the middle of loads")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all loads, and return 1 if a goal is missed."""
    given = build_parser().parse_args(arguments)
    images = images_of(given.bundle)
    with TemporaryDirectory() as name:
        folder = Path(name)
        models = folder / "models"
        versions = Versions(models, given.bundle)
        versions.write(1)
        threads = ("--workers", str(given.workers), "--threads", str(given.threads))
        server = server_of(models, folder / "key", PATH, *threads)
        with started(server, images[0], folder) as running:
            changer = Changer(running.port, running.pid, KEY, versions)
            missed = 0
            for versions.changes in given.changes:
                print(f"versions differ in: {versions.changes}")
                versions.prepare()
                changer.make("reload")  # so that the version before is loaded in both runs
                before = measure(running, images, given, None)
                missed |= report(before, measure(running, images, given, changer), given)
    return missed


if __name__ == "__main__":
    sys.exit(main())
