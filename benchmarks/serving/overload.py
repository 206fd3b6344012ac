"""Measure goodput and memory at 150 % of saturation, for minutes.

First the peak: goodput at rates up to saturation, each for a few seconds. Then Poisson arrivals
at 150 % of saturation, with a `deadline_ms`. Plots goodput and memory over time. Every request
must get a response, which can be an error. With `--hostile`, in every second part of the time a
share of the requests wants to stop the server. Goodput is that of the others.

    python -m benchmarks.serving.overload --data cifar10 --out results --seconds 300 --hostile 0.05
"""

from __future__ import annotations

import argparse
import csv
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.goals import Goal, print_goals
from benchmarks.serving.attacks.hostile import hostile_images, is_hostile, with_hostile
from benchmarks.serving.compare import SLO_FACTOR
from benchmarks.serving.figures import MEDIUM
from benchmarks.serving.limit import single
from benchmarks.serving.offline import pixels
from benchmarks.serving.rounds import CLIENTS, CONNECTIONS, MANY, RATES
from benchmarks.serving.servers.commands import ours
from benchmarks.serving.servers.processes import Running, started
from benchmarks.serving.servers.subject import Subject, parser, read_subject
from offramp.load.outcomes import (
    NO_ANSWER,
    Floats,
    Outcomes,
    closed,
    completed,
    open_loop,
    poisson,
)
from offramp.load.process import Generator, generator
from offramp.load.sender import Load

OVERLOAD = 1.5
LEAST = 0.9  # least goodput, as a share of the peak
GROWTH = 1.05  # most growth of memory from the first third to the last
MARGIN = 0.8  # deadline as a share of the SLO; the rest is for the network
SAMPLES = 1.0  # seconds between two samples of memory


@contextmanager
def memory_of(running: Running) -> Iterator[list[int]]:
    """Sample a server's resident bytes every SAMPLES seconds, from a thread of its own."""
    samples, over = [running.usage().memory], threading.Event()

    def sample() -> None:
        while not over.wait(SAMPLES):
            samples.append(running.usage().memory)

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        over.set()
        thread.join()


def growth(memory: Floats) -> float:
    """Return the median of the last third over that of the first."""
    third = max(len(memory) // 3, 1)
    return float(np.median(memory[-third:]) / np.median(memory[:third]))


def parts_of(seconds: float, step: float) -> int:
    """Return the number of equal parts of the time, of about `step` seconds: three at least."""
    return max(int(seconds / step), 3)


def goodput_over_time(outcomes: Outcomes, slo: float, seconds: float, bins: int) -> Floats:
    """Return goodput per second of the requests due in each part of the time, [bins]."""
    edges = np.linspace(0, seconds, bins + 1)
    parts = (outcomes.between(start, end) for start, end in pairwise(edges))
    return np.array([part.goodput(slo, seconds / bins) for part in parts])


@dataclass(frozen=True, slots=True)
class Overload:
    """Results of the overload. Rates are per second.

    Attributes:
        saturation: Answers of a closed loop.
        peak: Best goodput at rates up to saturation, without hostile requests.
        outcomes: Outcomes of the usual requests of the overload.
        hostile: Outcomes of the hostile ones.
        good: Goodput over time, [bins].
        memory: Resident megabytes over time, one sample every SAMPLES seconds.
    """

    saturation: float
    peak: float
    outcomes: Outcomes
    hostile: Outcomes
    good: Floats
    memory: Floats


def overload(
    subject: Subject,
    load: Generator,
    slo: float,
    seconds: float,
    step: float,
    share: float,
    rng: np.random.Generator,
) -> Overload:
    """Start our server, measure saturation and peak, then overload it.

    A share of the requests of the overload is hostile, in every second of its parts. Their images
    follow the usual ones in the generator.
    """
    images, bins = len(subject.sent), parts_of(seconds, step)
    deadline = f"&deadline_ms={1e3 * slo * MARGIN:.3f}"
    server = ours(subject.target, *subject.options)
    with started(server, subject.sent.files[0], subject.out / "logs") as running:
        path = running.server.paths[MEDIUM]
        for _ in range(2):  # the first warms up
            report = load.send(closed(path, MANY, images, rng), Load(running.port, CLIENTS, step))
        saturation = completed(report.outcomes, step * 0.2, step)

        def arrive(rate: float, duration: float, share: float = 0.0) -> Outcomes:
            plan = open_loop(path + deadline, poisson(rate, duration, rng), images, rng)
            if share:
                part = duration / bins  # as goodput is measured
                plan = with_hostile(plan, share, part, images, len(hostile_images()), rng)
            return load.send(plan, Load(running.port, CONNECTIONS)).outcomes

        peak = max(arrive(part * saturation, step).goodput(slo, step) for part in RATES)
        with memory_of(running) as samples:
            all_outcomes = arrive(OVERLOAD * saturation, seconds, share)
    hostile = is_hostile(all_outcomes)
    usual = all_outcomes.where(~hostile)
    good = goodput_over_time(usual, slo, seconds, bins)
    memory = np.array(samples) / 1e6
    return Overload(saturation, peak, usual, all_outcomes.where(hostile), good, memory)


def beside_hostile(found: Overload) -> Goal:
    """Compare the goodput beside hostile requests with its peak."""
    parts = found.good[: 2 * (len(found.good) // 2)].reshape(-1, 2)  # without and with hostile ones
    under_attack = float(np.median(parts[:, 1])) / found.peak
    paired = float(np.median(parts[:, 1] / np.maximum(parts[:, 0], 1e-9)))
    return Goal(
        f"goodput beside hostile requests >= {LEAST} x its peak",
        f"{under_attack:.3f}, and {paired:.3f} of the part before each",
        under_attack >= LEAST,
    )


def goals(found: Overload) -> list[Goal]:
    """Compare the results with the goals."""
    typical, grown = float(np.median(found.good)) / found.peak, growth(found.memory)
    worst = float(found.good.min()) / found.peak
    everything = (found.outcomes, found.hostile)
    lost = sum(int((outcomes.status == NO_ANSWER).sum()) for outcomes in everything)
    sent = sum(len(outcomes) for outcomes in everything)
    return [
        *([beside_hostile(found)] if len(found.hostile) else []),
        Goal(
            f"goodput at 150 % of saturation >= {LEAST} x its peak",
            f"{typical:.3f} (worst part {worst:.3f}); peak {found.peak:.0f}/s",
            typical >= LEAST,
        ),
        Goal(f"memory at 150 % grows <= {GROWTH}", f"{grown:.3f}", grown <= GROWTH),
        Goal("requests without a response = 0", f"{lost} of {sent}", lost == 0),
    ]


def write(out: Path, found: Overload, slo: float, seconds: float) -> None:
    """Write goodput and memory over time, as CSV and as a plot."""
    out.mkdir(parents=True, exist_ok=True)
    times = np.linspace(0, seconds, len(found.good) + 1)[1:]
    with (out / "overload.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["seconds", "goodput", "memory_mb"])
        at = np.linspace(0, len(found.memory) - 1, len(times)).astype(int)
        writer.writerows(zip(times, found.good, found.memory[at], strict=True))
    plot(out / "overload.png", found, times, slo)


def plot(path: Path, found: Overload, times: NDArray[np.float64], slo: float) -> None:
    """Plot goodput and memory over time."""
    import matplotlib as mpl  # slow to import

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (upper, lower) = plt.subplots(2, sharex=True, figsize=(7, 4.5), layout="constrained")
    upper.plot(times, found.good)
    upper.axhline(found.peak, linestyle=":", color="grey")
    upper.set(ylabel=f"answers/s within {1e3 * slo:.0f} ms", ylim=(0, None))
    lower.plot(np.arange(1, len(found.memory) + 1) * SAMPLES, found.memory)
    lower.set(xlabel="seconds at 150 % of saturation", ylabel="resident, MB", ylim=(0, None))
    figure.savefig(path, dpi=150)
    plt.close(figure)


def build_parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    made = parser("Measure goodput and memory at 150 % of saturation.")
    made.add_argument("--seconds", type=float, default=300.0, help="seconds of overload")
    made.add_argument(
        "--step", type=float, default=8.0, help="seconds at each rate before the overload"
    )
    made.add_argument(
        "--hostile", type=float, default=0.0, help="share of hostile requests in the overload"
    )
    return made


def main() -> int:
    """Run the benchmark and return 1 if a goal is missed."""
    arguments = build_parser().parse_args()
    subject = read_subject(arguments)
    share: float = arguments.hostile
    hostile = hostile_images() if share else ()
    with generator((*subject.sent.files, *hostile)) as load:
        images = pixels(subject.sent.files, subject.manifest)
        slo = SLO_FACTOR * single(subject.target.bundle, subject.manifest, images)
        rng = np.random.default_rng(0)
        found = overload(subject, load, slo, arguments.seconds, arguments.step, share, rng)
    write(subject.out, found, slo, arguments.seconds)
    print(f"SLO {1e3 * slo:.1f} ms, saturation {found.saturation:.1f}/s")
    for name, outcomes in (("usual", found.outcomes), ("hostile", found.hostile)):
        counts = dict(zip(*np.unique(outcomes.status, return_counts=True), strict=True))
        print(f"status codes, {name}:", ", ".join(f"{status}: {n}" for status, n in counts.items()))
    print(f"accuracy of the answers {100 * found.outcomes.accuracy(subject.sent.labels):.2f} %")
    return print_goals(goals(found))


if __name__ == "__main__":
    sys.exit(main())
