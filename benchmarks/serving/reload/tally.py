"""Count requests by model and version: as the clients saw them, and as the metrics have them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.serving.accounting import ENDS, outcome_names
from benchmarks.serving.mixture import Query
from benchmarks.serving.reload.answers import names_itself
from offramp.load.answers import read_answer
from offramp.load.outcomes import OK, Integers, Outcomes
from serving.engine.policy import MIN_CONFIDENCE

NAMES = ("cats", "dogs", "birds")
WRONG = -2.0  # an answer whose label is not of the model and version that it names
MANY = 10_000  # versions, and classes, at most
UNKNOWN = "404"  # outcome of a request for a version that is not loaded
Key = tuple[str, str, str, str]  # model, version, budget, outcome


def read_named(status: int, body: bytes) -> tuple[float, ...]:
    """Return the values of `read_answer`, the class together with the model and the version."""
    index, *others = read_answer(status, body)
    if status != OK:
        return index, *others
    document = json.loads(body)
    model = document["model"]
    named = NAMES.index(model["name"]) * MANY + int(model["version"])
    return (named * MANY + index if names_itself(document) else WRONG), *others


@dataclass(frozen=True, slots=True)
class Asked:
    """A path of a plan.

    Attributes:
        name: Name of the model.
        version: The version that it asks for, or an empty string.
        query: Its query.
    """

    name: str
    version: str
    query: Query

    def path(self) -> str:
        """Return the path with the query."""
        pinned = f"&version={self.version}" if self.version else ""
        return f"/models/{self.name}{self.query.path()}{pinned}"


@dataclass(frozen=True, slots=True)
class Named:
    """Outcomes with the model and the version that each answer names.

    Attributes:
        outcomes: The outcomes. The class is -1 without an answer.
        version: Version of each answer, or -1, [N].
        model: Index of the model in `NAMES` of each answer, or -1, [N].
    """

    outcomes: Outcomes
    version: Integers
    model: Integers


def named(outcomes: Outcomes) -> Named:
    """Take apart what `read_named` put together. A wrong answer keeps the class `WRONG`."""
    code = outcomes.index
    there = code >= 0
    both = np.where(there, code // MANY, -1)
    return Named(
        replace(outcomes, index=np.where(there, code % MANY, code)),
        np.where(there, both % MANY, -1),
        np.where(there, both // MANY, -1),
    )


def seen_by_clients(found: Named, asked: Sequence[Asked], budgets: Sequence[str]) -> Counter[Key]:
    """Count requests by model, version, budget and outcome. Without an answer the version is ''.

    An answer counts for the model and version that it names, not for those that were asked for.

    Args:
        found: The outcomes.
        asked: What each path asks for.
        budgets: The metrics' name of the budget of each path.
    """
    counts: Counter[Key] = Counter()
    rows = (found.outcomes.path, found.model, found.version)
    names = outcome_names(found.outcomes)
    for outcome, path, model, version in zip(names, *(row.tolist() for row in rows), strict=True):
        name = asked[path].name if model < 0 else NAMES[model]
        counts[name, "" if version < 0 else str(version), budgets[path], outcome] += 1
    return counts


def grown(before: Mapping[str, float], after: Mapping[str, float]) -> Counter[Key]:
    """Return the same counts of the metrics, between two scrapes.

    Outcomes without an answer have the version '', as on the side of the clients.
    """
    counts: Counter[Key] = Counter()
    for sample, value in after.items():
        name, labels = labels_of(sample)
        if name == "offramp_requests_total" and value > before.get(sample, 0):
            outcome = labels["outcome"]
            version = labels["version"] if outcome in ENDS.values() else ""
            key = labels["model"], version, labels["budget"], outcome
            counts[key] += int(value - before.get(sample, 0))
    return counts


def labels_of(sample: str) -> tuple[str, dict[str, str]]:
    """Return name and labels of a sample as `/metrics` writes it."""
    (family,) = text_string_to_metric_families(f"{sample} 0\n")
    (found,) = family.samples
    return found.name, found.labels


def total(samples: Mapping[str, float], name: str, **labels: str) -> float:
    """Return the sum of the samples with this name and these labels."""
    rows = ((labels_of(sample), value) for sample, value in samples.items())
    return sum(v for (seen, own), v in rows if seen == name and labels.items() <= own.items())


def patient(counts: Mapping[Key, int]) -> Counter[Key]:
    """Return the counts of clients that wait for their responses, of versions that are loaded."""
    return Counter(
        {key: n for key, n in counts.items() if key[2] != MIN_CONFIDENCE and key[3] != UNKNOWN}
    )


def hasty(counts: Mapping[Key, int]) -> int:
    """Return the number of requests of clients that can hang up."""
    return sum(n for key, n in counts.items() if key[2] == MIN_CONFIDENCE)
