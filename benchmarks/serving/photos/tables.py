"""Tables, ratios within rounds and goals of the comparison on photos."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter

import numpy as np

from benchmarks.goals import Goal, spread_over_rounds
from benchmarks.serving.figures import FULL, Choice, Rounds, Value, cpu, p50, p99, rate
from benchmarks.serving.photos.parts import Parts
from benchmarks.serving.rounds import LIMIT, SATURATION, SINGLE
from benchmarks.serving.servers.commands import EQUAL, OURS

MOSEC, SHRUNK = "mosec", "shrunk"
GAIN = {"fp32": 1.8, "int8": 3.0}  # answers/s over mosec at equal accuracy, for the first size
NEAR = 0.95  # of the limit
COLUMNS = (
    "| photos | server | budget | answers/s, 64 clients | 1 client | CPU ms per answer | "
    "p50 / p99 ms, 64 clients | 1 client | answered, % |"
)
PARTS = (
    "| photos | kB | decode, CPU ms | resize | stages, equal | stages, full | the rest of an "
    "`equal` answer | client shrinks |"
)
answered: Value = attrgetter("answered")


@dataclass(frozen=True, slots=True)
class Result:
    """Results for photos of one size.

    Attributes:
        size: Name of the size.
        kilobytes: Mean size of a file.
        parts: CPU time of an answer by its parts.
        rounds: Rows of all rounds.
    """

    size: str
    kilobytes: float
    parts: Parts
    rounds: Rounds


def lines(results: Sequence[Result]) -> Iterator[str]:
    """Yield the tables in Markdown: medians over rounds, parts of an answer, ratios."""
    yield COLUMNS
    yield "|---|---|---|---|---|---|---|---|---|"
    for result in results:
        for server, budget in dict.fromkeys((r.server, r.budget) for r in result.rounds.rows):
            yield _row(result, server, budget)
    yield ""
    yield PARTS
    yield "|---|---|---|---|---|---|---|---|"
    yield from (_parts(result) for result in results)
    yield ""
    for result in results:
        yield from _ratios(result)


def _row(result: Result, server: str, budget: str) -> str:
    many, one = Choice(SATURATION, budget), Choice(SINGLE, budget)

    def cell(choice: Choice, value: Value, factor: float = 1) -> str:
        median = result.rounds.median(server, choice, value)
        return "-" if np.isnan(median) else f"{factor * median:.4g}"

    if server == LIMIT:
        at = Choice(LIMIT, budget)
        return f"| {result.size} | limit | {budget} | {cell(at, rate)} | | {cell(at, cpu)} | | | |"
    times = [f"{cell(each, p50)} / {cell(each, p99)}" for each in (many, one)]
    rates = f"{cell(many, rate)} | {cell(one, rate)}"
    share = cell(many, answered, 100)
    cells = [result.size, server, budget, rates, cell(many, cpu), *times, share]
    return f"| {' | '.join(cells)} |"


def _parts(result: Result) -> str:
    parts = result.parts
    whole = result.rounds.median(OURS, Choice(SATURATION, EQUAL), cpu)
    rest = whole - parts.decode - parts.resize - parts.model[EQUAL]
    numbers = [parts.decode, parts.resize, parts.model[EQUAL], parts.model[FULL], rest]
    client = "sends the file" if parts.client is None else f"{parts.client:.2f}"
    cells = [result.size, f"{result.kilobytes:.0f}", *(f"{each:.2f}" for each in numbers), client]
    return f"| {' | '.join(cells)} |"


def _ratios(result: Result) -> Iterator[str]:
    for clients, measure in ((64, SATURATION), (1, SINGLE)):
        for budget in (EQUAL, FULL):
            found = over_mosec(result.rounds, measure, budget)
            if found:
                text = f"{result.size}, {clients} clients, answers/s, {budget} / mosec"
                yield f"{text}: {spread_over_rounds(found)}"
    equal = Choice(SATURATION, EQUAL)
    values = [
        [result.rounds.value(number, server, equal, rate) for server in (SHRUNK, OURS)]
        for number in result.rounds.rounds
    ]
    shrunk = [float(small / whole) for small, whole in values if not np.isnan(small / whole)]
    if shrunk:
        text = f"{result.size}, 64 clients, answers/s, shrunk by the client / file"
        yield f"{text}: {spread_over_rounds(shrunk)}"


def over_mosec(rounds: Rounds, measure: str, budget: str) -> list[float]:
    """Return our answers per second over mosec's at full depth, for each round."""
    ours, other = Choice(measure, budget), Choice(measure, FULL)
    return rounds.ratio(ours, (MOSEC,), other, rate, best="max")


def goals(results: Sequence[Result], precision: str) -> Iterator[Goal]:
    """Yield the goals: the gain over mosec on the first size, and the limit on every size."""
    first, gain = results[0], GAIN.get(precision, GAIN["fp32"])
    if found := over_mosec(first.rounds, SATURATION, EQUAL):
        text = f"{first.size}: answers/s, equal / mosec >= {gain}"
        yield Goal(text, spread_over_rounds(found), float(np.median(found)) >= gain)
    for result in results:
        equal, limit = Choice(SATURATION, EQUAL), Choice(LIMIT, EQUAL)
        found = result.rounds.ratio(equal, (LIMIT,), limit, rate, best="max")
        if found:
            text = f"{result.size}: answers/s, equal / decoding and stages alone >= {NEAR}"
            yield Goal(text, spread_over_rounds(found), float(np.median(found)) >= NEAR)
