"""Does every request end once, and is every answer the one that the bundle gives?

Calls with random budgets, some with deadlines, some whose client hangs up, in bursts that the
server must partly refuse. Clients that hang up ask by `min_confidence`, which the metrics count
apart: what clients that stayed saw must equal the metrics exactly, outcome by outcome. Answers
that no deadline cut short must equal an evaluation of the bundle without a server.

    python -m benchmarks.serving.accounting --data cifar10 --calls 100000
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.client import counters
from benchmarks.goals import Goal, print_goals
from benchmarks.serving.generator.connection import HOST
from benchmarks.serving.generator.load import Load, Report
from benchmarks.serving.generator.outcomes import (
    DEADLINE,
    DEGRADED,
    HUNG_UP,
    NO_ANSWER,
    OK,
    REFUSED,
    WHOLE,
    Outcomes,
    Plan,
    closed,
    completed,
)
from benchmarks.serving.generator.process import generator
from benchmarks.serving.mixture import Ask, asks, random_plan
from benchmarks.serving.offline import Opinions, evaluate, pixels
from benchmarks.serving.rounds import CLIENTS, CONNECTIONS, MANY
from benchmarks.serving.servers.commands import cores, ours
from benchmarks.serving.servers.processes import started
from benchmarks.serving.servers.subject import parser, subject
from offramp.bundle.manifest import Manifest, read_manifest
from serving.engine.policy import MIN_CONFIDENCE, Policy

TOLERANCE = 1e-5  # of probabilities, and of what counts as a tie with a threshold
SLOTS = 128  # of all workers; fewer than the calls of a burst that have time to wait
WARM_UP = 3.0  # seconds
PATIENCE = 30.0  # seconds for the last slots to come back
EXPIRED = 504
TOO_SHORT = 422  # a deadline that an idle server misses too
Send = Callable[[Plan, Load], Report]
ENDS = {WHOLE: "answered", DEADLINE: "deadline", DEGRADED: "degraded"}
KINDS = {"answered", "deadline", "expired", "refused", "hung up"}  # that must come about


def outcome_names(outcomes: Outcomes) -> list[str]:
    """What the metrics call the end of each call."""
    names = {
        REFUSED: "refused",
        EXPIRED: "expired",
        TOO_SHORT: "expired",
        HUNG_UP: "hung up",
        NO_ANSWER: "lost",
    }
    pairs = zip(outcomes.status.tolist(), outcomes.cut.tolist(), strict=True)
    return [ENDS[cut] if status == OK else names.get(status, f"{status}") for status, cut in pairs]


def seen_by_clients(outcomes: Outcomes, policies: list[Policy]) -> Counter[tuple[str, str]]:
    """Calls by what the metrics call budget and outcome."""
    budgets = [policies[path].name for path in outcomes.path.tolist()]
    return Counter(zip(budgets, outcome_names(outcomes), strict=True))


def seen_by_server(samples: Mapping[str, float]) -> Counter[tuple[str, str]]:
    """The same, as the metrics say it."""
    found: Counter[tuple[str, str]] = Counter()
    for name, value in samples.items():
        if name.startswith("offramp_requests_total{") and value:
            _, budget, _, outcome, _ = name.split('"')
            found[budget, outcome] = int(value)
    return found


@dataclass(frozen=True, slots=True)
class Checked:
    """Answers against an evaluation without a server.

    Args:
        compared: how many.
        ties: of them, so near to a threshold that either exit is right.
        wrong: differ in class, exit, flops or probability.
    """

    compared: int
    ties: int
    wrong: int


def flops_of(manifest: Manifest, policy: Policy, stage: int) -> int:
    """What leaving at the exit of `stage` (from 0) costs under a policy."""
    return manifest.flops_of(stage + 1, policy.asks)


def check_answers(
    outcomes: Outcomes, policies: list[Policy], opinions: Opinions, manifest: Manifest
) -> Checked:
    """Compare all answers that nothing cut short."""
    compared = ties = wrong = 0
    whole = outcomes.where(outcomes.answered & (outcomes.cut == WHOLE))
    for number, policy in enumerate(policies):
        part = whole.where(whole.path == number)
        exits = opinions.exits(policy.thresholds)[part.image]
        near = opinions.margin(policy.thresholds)[part.image] <= TOLERANCE
        flops = np.array([flops_of(manifest, policy, k) for k in range(manifest.exits)])
        same = (
            (part.exit == exits + 1)
            & (part.index == opinions.index[exits, part.image])
            & (part.flops == flops[exits])
            & (np.abs(part.probability - opinions.probability[exits, part.image]) <= TOLERANCE)
        )
        compared, ties, wrong = (
            compared + len(part),
            ties + int(near.sum()),
            wrong + int((~same & ~near).sum()),
        )
    return Checked(compared, ties, wrong)


def goals(
    outcomes: Outcomes, policies: list[Policy], samples: Mapping[str, float], checked: Checked
) -> list[Goal]:
    """The verdict."""
    clients, server = seen_by_clients(outcomes, policies), seen_by_server(samples)
    stayed = {key: n for key, n in clients.items() if key[0] != MIN_CONFIDENCE}
    counted = {key: n for key, n in server.items() if key[0] != MIN_CONFIDENCE}
    left = sum(n for key, n in clients.items() if key[0] == MIN_CONFIDENCE)
    noticed = sum(n for key, n in server.items() if key[0] == MIN_CONFIDENCE)
    held = [samples["offramp_slots_in_use"], samples["offramp_queue_depth"]]
    kinds = Counter(outcome for _, outcome in clients.elements())
    missing = KINDS - kinds.keys()
    return [
        Goal("every kind of end came about", f"but for {missing or 'none'}", not missing),
        Goal(
            "clients that stayed and metrics count the same ends",
            ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items())),
            stayed == counted,
        ),
        Goal(
            "who hung up is counted once at most, and none failed",
            f"{noticed} of {left} had come to a slot",
            noticed <= left and not server[MIN_CONFIDENCE, "failed"],
        ),
        Goal(
            "slots in use, queue: 0",
            ", ".join(f"{value:.0f}" for value in held),
            not any(held),
        ),
        Goal(
            "answers equal the offline evaluation",
            f"{checked.wrong} of {checked.compared} differ, {checked.ties} at a threshold",
            not checked.wrong and checked.compared > 0,
        ),
    ]


def settled(port: int) -> dict[str, float]:
    """The metrics, once nothing is under way, or as they are after PATIENCE."""
    until = time.monotonic() + PATIENCE
    while True:
        samples = counters(f"http://{HOST}:{port}")
        if not samples["offramp_slots_in_use"] or time.monotonic() > until:
            return samples
        time.sleep(0.2)


def account(
    bundle: Path, sent: Sequence[bytes], send: Send, port: int, plan: Plan, ways: list[Ask]
) -> list[Goal]:
    """Send everything to a server that nobody else asks, and compare."""
    manifest, before = read_manifest(bundle), settled(port)
    policies = [ask.policy(manifest) for ask in ways]
    report = send(plan, Load(port, CONNECTIONS))
    ended = {k: v for k, v in before.items() if k.startswith("offramp_requests_total")}
    grown = {k: v - ended.get(k, 0.0) for k, v in settled(port).items()}
    opinions = evaluate(bundle, manifest, pixels(sent, manifest))
    checked = check_answers(report.outcomes, policies, opinions, manifest)
    return goals(report.outcomes, policies, grown, checked)


def main() -> int:
    """Entry point; the exit status is 1 where a goal is missed."""
    made = parser("Does every request end once, with the answer that the bundle gives?")
    made.add_argument("-n", "--calls", type=int, default=100_000)
    arguments = made.parse_args()
    of, rng = subject(arguments), np.random.default_rng(0)
    server = ours(of.target, f"--slots={SLOTS // cores()}", *of.options)
    files, ways = of.sent.files, asks(of.manifest)
    with (
        generator(files) as load,
        started(server, files[0], of.out / "logs") as running,
    ):
        warm = closed(server.paths["full"], MANY, len(files), rng)
        report = load.send(warm, Load(running.port, CLIENTS, WARM_UP))
        rate = completed(report.outcomes, WARM_UP / 2, WARM_UP)
        plan = random_plan(ways, arguments.calls, len(files), rate, rng)
        return print_goals(account(of.target.bundle, files, load.send, running.port, plan, ways))


if __name__ == "__main__":
    sys.exit(main())
