"""Check that every request ends once, and that every answer is correct for the bundle.

Requests have random budgets, some have deadlines, and some clients hang up. They come in bursts
that the server must partly refuse. Clients that hang up use `min_confidence`, which the metrics
count separately. The outcomes that patient clients saw must equal the metrics exactly. Answers
that no deadline shortened must equal an evaluation of the bundle without a server.

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
from benchmarks.serving.mixture import Query, all_queries, random_plan
from benchmarks.serving.offline import ExitOutputs, evaluate, pixels
from benchmarks.serving.rounds import CLIENTS, CONNECTIONS, MANY
from benchmarks.serving.servers.commands import ours
from benchmarks.serving.servers.processes import started
from benchmarks.serving.servers.subject import parser, read_subject
from offramp.bundle.manifest import Manifest, read_manifest
from offramp.cores import cores
from offramp.load.connection import HOST
from offramp.load.outcomes import (
    BUDGET,
    DEADLINE,
    DEGRADED,
    HUNG_UP,
    NO_ANSWER,
    OK,
    REFUSED,
    Outcomes,
    Plan,
    closed,
    completed,
)
from offramp.load.process import generator
from offramp.load.sender import Load, Report
from serving.engine.policy import MIN_CONFIDENCE, Policy

TOLERANCE = 1e-5  # of probabilities, and of confidences that count as equal to a threshold
SLOTS = 128  # of all workers; fewer than the requests of a burst
WARM_UP = 3.0  # seconds
PATIENCE = 30.0  # seconds, longest wait for the last slots to become free
EXPIRED = 504
TOO_SHORT = 422  # a deadline that an idle server misses too
Send = Callable[[Plan, Load], Report]
ENDS = {BUDGET: "answered", DEADLINE: "deadline", DEGRADED: "degraded"}
EXPECTED = {"answered", "deadline", "expired", "refused", "hung up"}  # outcomes that must occur


def outcome_names(outcomes: Outcomes) -> list[str]:
    """Return the name that the metrics give to the outcome of each request."""
    names = {
        REFUSED: "refused",
        EXPIRED: "expired",
        TOO_SHORT: "expired",
        HUNG_UP: "hung up",
        NO_ANSWER: "lost",
    }
    pairs = zip(outcomes.status.tolist(), outcomes.ended_by.tolist(), strict=True)
    return [ENDS[by] if status == OK else names.get(status, f"{status}") for status, by in pairs]


def seen_by_clients(outcomes: Outcomes, policies: list[Policy]) -> Counter[tuple[str, str]]:
    """Count requests by the metrics' names of budget and outcome."""
    budgets = [policies[path].name for path in outcomes.path.tolist()]
    return Counter(zip(budgets, outcome_names(outcomes), strict=True))


def seen_by_server(samples: Mapping[str, float]) -> Counter[tuple[str, str]]:
    """Return the same counts, read from the metrics."""
    found: Counter[tuple[str, str]] = Counter()
    for name, value in samples.items():
        if name.startswith("offramp_requests_total{") and value:
            _, budget, _, outcome, _ = name.split('"')
            found[budget, outcome] = int(value)
    return found


@dataclass(frozen=True, slots=True)
class Checked:
    """Answers compared with an evaluation without a server.

    Attributes:
        compared: Number of answers.
        ties: Answers with a confidence so near to a threshold that both exits are correct.
        wrong: Answers with another class, exit, flops or probability.
    """

    compared: int
    ties: int
    wrong: int


def flops_of(manifest: Manifest, policy: Policy, stage: int) -> int:
    """Return the flops to leave at the exit of `stage` (from 0) under a policy."""
    return manifest.flops_of(stage + 1, policy.asks)


def check_answers(
    outcomes: Outcomes, policies: list[Policy], expected: ExitOutputs, manifest: Manifest
) -> Checked:
    """Compare all answers that neither a deadline nor overload shortened."""
    compared = ties = wrong = 0
    unshortened = outcomes.where(outcomes.answered & (outcomes.ended_by == BUDGET))
    for number, policy in enumerate(policies):
        part = unshortened.where(unshortened.path == number)
        exits = expected.exits(policy.thresholds)[part.image]
        near = expected.margin(policy.thresholds)[part.image] <= TOLERANCE
        flops = np.array([flops_of(manifest, policy, k) for k in range(manifest.exits)])
        same = (
            (part.exit == exits + 1)
            & (part.index == expected.index[exits, part.image])
            & (part.flops == flops[exits])
            & (np.abs(part.probability - expected.probability[exits, part.image]) <= TOLERANCE)
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
    """Compare what clients saw with the metrics and the evaluation."""
    clients, server = seen_by_clients(outcomes, policies), seen_by_server(samples)
    patient = {key: n for key, n in clients.items() if key[0] != MIN_CONFIDENCE}
    counted = {key: n for key, n in server.items() if key[0] != MIN_CONFIDENCE}
    hung_up = sum(n for key, n in clients.items() if key[0] == MIN_CONFIDENCE)
    seen = sum(n for key, n in server.items() if key[0] == MIN_CONFIDENCE)
    held = [samples["offramp_slots_in_use"], samples["offramp_queue_depth"]]
    counts = Counter(outcome for _, outcome in clients.elements())
    missing = EXPECTED - counts.keys()
    return [
        Goal(
            "every outcome occurred", f"missing: {', '.join(sorted(missing)) or '-'}", not missing
        ),
        Goal(
            "patient clients and metrics count the same outcomes",
            ", ".join(f"{n} {name}" for name, n in sorted(counts.items())),
            patient == counted,
        ),
        Goal(
            "requests of clients that hung up are counted at most once, and never as failed",
            f"{seen} of {hung_up} had taken a slot",
            seen <= hung_up and not server[MIN_CONFIDENCE, "failed"],
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
    """Return the metrics once no slot is in use, or after PATIENCE."""
    until = time.monotonic() + PATIENCE
    while True:
        samples = counters(f"http://{HOST}:{port}")
        if not samples["offramp_slots_in_use"] or time.monotonic() > until:
            return samples
        time.sleep(0.2)


def account(
    bundle: Path, files: Sequence[bytes], send: Send, port: int, plan: Plan, queries: list[Query]
) -> list[Goal]:
    """Send a plan to a server without other clients, and return the goals."""
    manifest, before = read_manifest(bundle), settled(port)
    policies = [query.policy(manifest) for query in queries]
    report = send(plan, Load(port, CONNECTIONS))
    counted = {k: v for k, v in before.items() if k.startswith("offramp_requests_total")}
    grown = {k: v - counted.get(k, 0.0) for k, v in settled(port).items()}
    expected = evaluate(bundle, manifest, pixels(files, manifest))
    checked = check_answers(report.outcomes, policies, expected, manifest)
    return goals(report.outcomes, policies, grown, checked)


def main() -> int:
    """Run the benchmark and return 1 if a goal is missed."""
    made = parser("Check that every request ends once, and that every answer is correct.")
    made.add_argument("-n", "--calls", type=int, default=100_000, help="number of requests")
    arguments = made.parse_args()
    subject, rng = read_subject(arguments), np.random.default_rng(0)
    server = ours(subject.target, f"--slots={SLOTS // cores()}", *subject.options)
    files, queries = subject.sent.files, all_queries(subject.manifest)
    with (
        generator(files) as load,
        started(server, files[0], subject.out / "logs") as running,
    ):
        warm = closed(server.paths["full"], MANY, len(files), rng)
        report = load.send(warm, Load(running.port, CLIENTS, WARM_UP))
        rate = completed(report.outcomes, WARM_UP / 2, WARM_UP)
        plan = random_plan(queries, arguments.calls, len(files), rate, rng)
        return print_goals(
            account(subject.target.bundle, files, load.send, running.port, plan, queries)
        )


if __name__ == "__main__":
    sys.exit(main())
