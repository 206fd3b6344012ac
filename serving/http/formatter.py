"""Formats answers as the records of `schemas` say, in plain dictionaries.

They are not validated at run time. A test compares them with the records.
"""

from __future__ import annotations

from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offramp.bundle.manifest import Manifest
from serving.engine.policy import Promised
from serving.engine.request import Answer
from serving.http.query import ClassifyQuery

DECIMALS = 6  # of a probability
FEW_CLASSES = 64  # so many are sorted faster without NumPy


class AnswerFormatter:
    """Formats the answers of a manifest's model."""

    def __init__(self, manifest: Manifest) -> None:
        self._labels = manifest.labels
        self._exits = manifest.exits
        self._full_flops = manifest.full_flops

    def format(self, answer: Answer, query: ClassifyQuery, decode: float) -> dict[str, Any]:
        """Return an `ImageAnswer` as JSON data. `decode` is the decoding time in seconds."""
        outcome = answer.opinion
        ranked = top_k(outcome.probabilities, self._labels, query.top_k)
        body: dict[str, Any] = {
            **ranked[0],
            "confidence": round(outcome.confidence, DECIMALS),
            "top_k": ranked,
            "exit": answer.exit,
            "exits": self._exits,
            "flops": answer.flops,
            "flops_share": round(answer.flops / self._full_flops, DECIMALS),
            "deadline_hit": answer.deadline_hit,
            "degraded": answer.degraded,
            "timings_ms": {
                "decode": round(decode * 1e3, 3),
                "queue": round(answer.queue * 1e3, 3),
                "compute": round(answer.compute * 1e3, 3),
                "total": round(answer.total * 1e3, 3),
            },
        }
        return body if answer.policy.plain else body | _further(answer, query, self._labels)


def top_k(
    probabilities: NDArray[np.float32], labels: tuple[str, ...], k: int
) -> list[dict[str, Any]]:
    """Return the k most probable classes as `RankedClass` data, in order.

    Of classes with equal probability the first comes first.
    """
    if len(labels) <= FEW_CLASSES:
        values = probabilities.tolist()
        ranked = sorted(enumerate(values), key=itemgetter(1), reverse=True)[:k]
    else:
        order = np.argsort(-probabilities, kind="stable")[:k]
        ranked = [*zip(order.tolist(), probabilities[order].tolist(), strict=True)]
    return [
        {"label": labels[index], "index": index, "probability": round(probability, DECIMALS)}
        for index, probability in ranked
    ]


def _further(answer: Answer, query: ClassifyQuery, labels: tuple[str, ...]) -> dict[str, Any]:
    """Return the fields of an answer that only some requests ask for."""
    fields: dict[str, Any] = {}
    if query.reject:
        fields["reject"] = answer.rejected
    if (promise := answer.policy.promise) is not None:
        fields["promise"] = _promised(promise, kept=answer.by_policy)
    if (timed := answer.policy.timed) is not None:
        mean_ms, mean_flops = round(timed.milliseconds, 4), round(timed.flops)
        fields["operating_point"] = {"mean_ms": mean_ms, "mean_flops": mean_flops}
    if query.explain:
        fields["explain"] = opinions_of(answer, labels)
    return fields


def _promised(promise: Promised, *, kept: bool) -> dict[str, Any]:
    """Return the fields of a promise. If audits found it broken, they name what answers instead."""
    level = promise.level
    fields = {"kind": level.kind, "epsilon": level.epsilon, "delta": promise.delta, "kept": kept}
    broken = {"broken": True, "answered_by": promise.answered_by}
    return fields | broken if promise.broken else fields


def opinions_of(answer: Answer, labels: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return `ExitOpinion` data of each exit on the way. Of an answer with `explain` only."""
    opinions = []
    for stage, outcome in enumerate(answer.opinions):
        if outcome is None:  # never: with `explain` every exit on the way is evaluated
            continue
        index = int(outcome.probabilities.argmax())
        opinions.append(
            {
                "exit": stage + 1,
                "label": labels[index],
                "index": index,
                "confidence": round(outcome.confidence, DECIMALS),
                "threshold": answer.policy.thresholds[stage],
            }
        )
    return opinions
