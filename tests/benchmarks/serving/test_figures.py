"""Summaries of rows of several rounds."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from benchmarks.serving.figures import (
    FULL,
    MEDIUM,
    WHOLE,
    Rounds,
    aims,
    goals,
    plot,
    reachable,
    table,
    verdict,
)
from benchmarks.serving.rounds import LIMIT, OPEN, SATURATION, SINGLE, Row, write_rows
from benchmarks.serving.servers.commands import EQUAL


def rows_of(number: int, speed: float) -> list[Row]:
    """Return the rows of a round with known ratios, on a machine of relative speed `speed`."""
    servers = {"offramp": (80, 2.2, 4.0), "naive": (50, 2.4, 5.0)}
    rows = [
        Row(number, LIMIT, LIMIT, MEDIUM, rate=100 * speed, cpu=2 / speed),
        Row(number, LIMIT, LIMIT, EQUAL, rate=125 * speed, cpu=1.5 / speed),
        Row(number, LIMIT, LIMIT, WHOLE, rate=40 * speed, cpu=4 / speed),
        Row(number, "offramp", SATURATION, FULL, rate=36 * speed, cpu=4.4 / speed),
    ]
    for name, (rate, cpu, p50) in servers.items():
        rows += [
            Row(number, name, SATURATION, MEDIUM, rate=rate * speed, cpu=cpu / speed),
            Row(number, name, SATURATION, EQUAL, rate=1.2 * rate * speed, cpu=cpu / speed),
            Row(number, name, SINGLE, MEDIUM, p50=p50 / speed),
            Row(number, name, OPEN, MEDIUM, 0.7, rate=50, good=50 * speed, p50=5, p99=15),
        ]
    for name, rate in (("mosec", 30), ("litserve", 20)):
        rows += [
            Row(number, name, SATURATION, FULL, rate=rate * speed, cpu=5 / speed),
            Row(number, name, SINGLE, FULL, p50=10 / speed),
            Row(number, name, OPEN, FULL, 0.7, rate=30, good=20 * speed, p50=5, p99=25),
        ]
    return rows


@pytest.fixture
def rounds() -> Rounds:
    return Rounds(
        [row for number, speed in ((1, 1.0), (2, 3.0), (3, 0.5)) for row in rows_of(number, speed)]
    )


def test_goals_are_ratios_within_rounds_and_do_not_depend_on_the_machine(rounds: Rounds) -> None:
    found = {goal.text: goal for goal in goals(rounds)}
    expected = {
        "answers/s at saturation, medium / limit >= 0.85": (0.8, False),
        "CPU per answer, medium / limit <= 1.15": (1.1, True),
        "CPU per answer, full / trunk alone <= 1.1": (1.1, True),
        "answers/s, equal / best full-depth peer >= 2.5": (96 / 30, True),
        "answers/s, equal / naive early exit >= 1.8": (1.6, False),
        "answers/s, full / best full-depth peer >= 1.0": (1.2, True),
        "goodput, medium / best peer >= 2.0": (2.5, True),
        "latency of one client, medium / best peer <= 0.6": (0.4, True),
    }
    for text, (ratio, met) in expected.items():
        assert found[text].figure.startswith(f"{ratio:.3f} ["), text
        if ratio != 1.1 or "trunk" not in text:  # equal to the bound: rounding decides
            assert found[text].met == met, text
    assert found["p99 / p50 at 70 % of saturation, medium <= 4"].figure == "3.00"


def test_reachable_values_are_the_limit_plus_the_cost_of_http(rounds: Rounds) -> None:
    bare = [
        Row(number, "bare", SATURATION, EQUAL, cpu=0.4 / speed, generator=0.1 / speed)
        for number, speed in ((1, 1.0), (2, 3.0), (3, 0.5))
    ]
    assert [line.rpartition(": ")[2] for line in reachable(Rounds([*rounds.rows, *bare]))] == [
        "0.800",  # 2 of 2 + .4 + .1
        "1.200",
        "1.100",
        f"{0.75 * 125 / 30:.3f}",  # 1.5 of 1.5 + .4 + .1
    ]
    assert not list(reachable(rounds))


def test_without_other_servers_there_is_no_goal() -> None:
    alone = Rounds([row for row in rows_of(1, 1.0) if row.server == "offramp"])
    assert all(verdict(aim, alone) is None for aim in aims())


def test_the_table_has_a_line_for_each_server_and_budget(rounds: Rounds) -> None:
    lines = table(rounds)
    assert len({line.count("|") for line in lines}) == 1
    assert any(line.startswith("| offramp | medium | 80 |") for line in lines)
    assert any(line.startswith("| limit | medium | 100 | 2 |") for line in lines)


def test_rows_and_plot_are_written(rounds: Rounds, tmp_path: Path) -> None:
    write_rows(tmp_path / "new" / "rows.csv", rounds.rows)
    with (tmp_path / "new" / "rows.csv").open() as file:
        read = list(csv.DictReader(file))
    assert len(read) == len(rounds.rows)
    assert float(read[0]["rate"]) == 100
    assert np.isnan(float(read[0]["p50"]))
    plot(tmp_path / "plot.png", rounds, 0.02, {MEDIUM: 0.88, FULL: 0.887})
    assert (tmp_path / "plot.png").stat().st_size > 1000
