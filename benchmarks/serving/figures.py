"""Summarise rows of several rounds: medians, ratios within rounds, goals, table, plot."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Literal

import numpy as np

from benchmarks.goals import Goal, spread_over_rounds
from benchmarks.serving.rounds import LIMIT, OPEN, SATURATION, SINGLE, Row
from benchmarks.serving.servers.commands import BARE, EQUAL, FULL_DEPTH_NAMES, NAIVE, OURS

MEDIUM, FULL, WHOLE = "medium", "full", "full depth"
COLUMNS = (
    "| server | budget | answers/s | CPU ms per answer | p50 / p99 ms, 64 clients | "
    "p50 / p99 ms, 1 client | goodput/s | p50 / p99 / p99.9 ms at 70 % |"
)
NAMED = "blue", "orange", "green", "red", "purple", "brown", "pink", "gray", "olive", "cyan"
COLOURS = [*(f"tab:{name}" for name in NAMED), "black", "gold"]
AT = 0.7  # share of saturation at which tail latencies are compared
Value = Callable[[Row], float]
rate: Value = attrgetter("rate")
cpu: Value = attrgetter("cpu")
offered: Value = attrgetter("offered")
good: Value = attrgetter("good")
p50: Value = attrgetter("p50")
p99: Value = attrgetter("p99")
p999: Value = attrgetter("p999")


@dataclass(frozen=True, slots=True)
class Choice:
    """Selection of rows. Without a `share` it selects all of them."""

    measure: str
    budget: str
    share: float | None = None

    def __contains__(self, row: Row) -> bool:
        same = (row.measure, row.budget) == (self.measure, self.budget)
        return same and (self.share is None or abs(row.share - self.share) < 1e-9)


class Rounds:
    """Rows of all rounds."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows
        self.rounds = sorted({row.round for row in rows})

    def value(self, round_: int, server: str, choice: Choice, value: Value) -> float:
        """Return the largest value of a server's selected rows, or NaN without one."""
        found = [
            value(r) for r in self.rows if (r.round, r.server) == (round_, server) and r in choice
        ]
        return max(found, default=np.nan)

    def median(self, server: str, choice: Choice, value: Value) -> float:
        """Return the median over the rounds."""
        found = [self.value(n, server, choice, value) for n in self.rounds]
        known = [x for x in found if not np.isnan(x)]
        return float(np.median(known)) if known else np.nan

    def ratio(
        self, choice: Choice, others: Sequence[str], other: Choice, value: Value, *, best: str
    ) -> list[float]:
        """Return our value over the best of others, for each round.

        `best` is `max` or `min`.
        """
        pick = max if best == "max" else min
        ratios = []
        for number in self.rounds:
            our_value = self.value(number, OURS, choice, value)
            best_value = self.best(number, others, other, value, pick)
            if not np.isnan(best_value) and not np.isnan(our_value):
                ratios.append(our_value / best_value if best_value else np.inf)
        return ratios

    def best(
        self,
        round_: int,
        servers: Sequence[str],
        choice: Choice,
        value: Value,
        pick: Callable[..., float] = max,
    ) -> float:
        """Return the best of several servers, or NaN without one."""
        found = [self.value(round_, name, choice, value) for name in servers]
        return pick((x for x in found if not np.isnan(x)), default=np.nan)


def tail(row: Row) -> float:
    """Return the 99th percentile of latency over the median."""
    return row.p99 / row.p50


@dataclass(frozen=True, slots=True)
class Aim:
    """Goal on a ratio: our value over the best of others."""

    text: str
    choice: Choice
    others: tuple[str, ...]
    other: Choice
    value: Value
    bound: float
    sign: Literal[">=", "<="]


def aims() -> list[Aim]:
    """Return all goals on ratios."""
    medium, full, equal = (Choice(SATURATION, budget) for budget in (MEDIUM, FULL, EQUAL))
    peers, limit = FULL_DEPTH_NAMES, (LIMIT,)
    single, sweep = Choice(SINGLE, MEDIUM), Choice(OPEN, MEDIUM)
    one, swept = Choice(SINGLE, FULL), Choice(OPEN, FULL)
    staged, whole = Choice(LIMIT, MEDIUM), Choice(LIMIT, WHOLE)
    return [
        Aim("answers/s at saturation, medium / limit", medium, limit, staged, rate, 0.85, ">="),
        Aim("CPU per answer, medium / limit", medium, limit, staged, cpu, 1.15, "<="),
        Aim("CPU per answer, full / trunk alone", full, limit, whole, cpu, 1.10, "<="),
        Aim("answers/s, equal / best full-depth peer", equal, peers, full, rate, 2.5, ">="),
        Aim("answers/s, equal / naive early exit", equal, (NAIVE,), equal, rate, 1.8, ">="),
        Aim("answers/s, full / best full-depth peer", full, peers, full, rate, 1.0, ">="),
        Aim("goodput, medium / best peer", sweep, peers, swept, good, 2.0, ">="),
        Aim("latency of one client, medium / best peer", single, peers, one, p50, 0.6, "<="),
    ]


def verdict(aim: Aim, rounds: Rounds) -> Goal | None:
    """Compare the median ratio with its bound. Returns `None` without a server to compare with."""
    best = "max" if aim.sign == ">=" else "min"
    ratios = rounds.ratio(aim.choice, aim.others, aim.other, aim.value, best=best)
    if not ratios:
        return None
    median = float(np.median(ratios))
    met = median >= aim.bound if aim.sign == ">=" else median <= aim.bound
    return Goal(f"{aim.text} {aim.sign} {aim.bound}", spread_over_rounds(ratios), met)


def goals(rounds: Rounds) -> Iterator[Goal]:
    """Yield all goals, on ratios and on the tail latency."""
    yield from filter(None, (verdict(aim, rounds) for aim in aims()))
    tails = rounds.median(OURS, Choice(OPEN, MEDIUM, AT), tail)
    yield Goal("p99 / p50 at 70 % of saturation, medium <= 4", f"{tails:.2f}", tails <= 4)


def reachable(rounds: Rounds) -> Iterator[str]:
    """Yield the best reachable value of each goal that compares with the limit.

    That is the limit plus the cost of HTTP: the CPU time of `bare`, which is measured alone with
    warm caches, and of the generator, which runs on the same cores.
    """
    bare, full = Choice(SATURATION, EQUAL), Choice(SATURATION, FULL)
    staged, equal, whole = (Choice(LIMIT, budget) for budget in (MEDIUM, EQUAL, WHOLE))
    answers, costs, peers = [], [], []
    for number in rounds.rounds:
        http = rounds.value(number, BARE, bare, cpu)
        sent = rounds.value(number, BARE, bare, lambda row: row.generator)
        model, accurate, trunk = (
            rounds.value(number, LIMIT, each, cpu) for each in (staged, equal, whole)
        )
        answers.append(model / (model + http + sent))
        costs.append(((model + http) / model, (trunk + http) / trunk))
        best = rounds.best(number, FULL_DEPTH_NAMES, full, rate)
        share = accurate / (accurate + http + sent)
        peers.append(share * rounds.value(number, LIMIT, equal, rate) / best)
    if np.isnan(answers).all():
        return
    medium, trunk = np.nanmedian(costs, axis=0)
    yield f"limit with bare HTTP, answers/s, medium / limit: {np.nanmedian(answers):.3f}"
    yield f"limit with bare HTTP, CPU per answer, medium / limit: {medium:.3f}"
    yield f"limit with bare HTTP, CPU per answer, full / trunk alone: {trunk:.3f}"
    if not np.isnan(peers).all():
        yield f"limit with bare HTTP, answers/s, equal / best peer: {np.nanmedian(peers):.3f}"


def table(rounds: Rounds) -> list[str]:
    """Return a Markdown table of medians over the rounds, a line for each server and budget."""
    subjects = dict.fromkeys((r.server, r.budget) for r in rounds.rows)
    lines = [_line(rounds, server, budget) for server, budget in subjects]
    return [COLUMNS, "|---|---|---|---|---|---|---|---|", *lines]


def _line(rounds: Rounds, server: str, budget: str) -> str:
    """Return the line of a server and a budget."""

    def cell(choice: Choice, value: Value) -> str:
        median = rounds.median(server, choice, value)
        return "-" if np.isnan(median) else f"{median:.4g}"

    if server == LIMIT:
        at = Choice(LIMIT, budget)
        return f"| limit | {budget} | {cell(at, rate)} | {cell(at, cpu)} | | | | |"
    full, one, at = Choice(SATURATION, budget), Choice(SINGLE, budget), Choice(OPEN, budget, AT)
    return (
        f"| {server} | {budget} | {cell(full, rate)} | {cell(full, cpu)} | "
        f"{cell(full, p50)} / {cell(full, p99)} | {cell(one, p50)} / {cell(one, p99)} | "
        f"{cell(Choice(OPEN, budget), good)} | {cell(at, p50)} / "
        f"{cell(at, p99)} / {cell(at, p999)} |"
    )


def _sweeps(rounds: Rounds) -> Iterator[tuple[str, str, list[Choice]]]:
    """Yield each server and budget, with its measurements at rising rates."""
    sweeps = [row for row in rounds.rows if row.measure == OPEN]
    for server, budget in dict.fromkeys((row.server, row.budget) for row in sweeps):
        shares = sorted({r.share for r in sweeps if (r.server, r.budget) == (server, budget)})
        yield server, budget, [Choice(OPEN, budget, share) for share in shares]


def plot(path: Path, rounds: Rounds, slo: float, accuracies: dict[str, float]) -> None:
    """Plot goodput over the offered rate, a line for each server and budget."""
    import matplotlib as mpl  # slow to import

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    axes.set_prop_cycle(color=COLOURS)
    for server, budget, at in _sweeps(rounds):
        axes.plot(
            [rounds.median(server, each, offered) for each in at],
            [rounds.median(server, each, good) for each in at],
            "o-" if budget == MEDIUM else "s--",
            label=f"{server}, {budget} ({100 * accuracies[budget]:.1f} %)",
        )
    axes.set(
        xlabel="requests per second, at .4 to 1 of each server's own saturation",
        ylabel=f"answers per second within {1e3 * slo:.0f} ms",
        title=f"{len(rounds.rounds)} rounds, medians; in brackets: test accuracy",
    )
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=150)
    plt.close(figure)
