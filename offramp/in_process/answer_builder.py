"""Answers of a classifier, built from those of its engine without JSON in between."""

from __future__ import annotations

from offramp.answers import Answer, RankedClass, Timings, answer_from
from offramp.bundle.manifest import Manifest
from serving.engine.request import Answer as EngineAnswer
from serving.http.formatter import DECIMALS, FEW_CLASSES, AnswerFormatter
from serving.http.query import ClassifyQuery

_SCALE: int = 10**DECIMALS  # below 2**29, as `rounded` needs


class AnswerBuilder:
    """Builds the answers that a client of the server would get.

    Args:
        manifest: Manifest of the model.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._formatter = AnswerFormatter(manifest)
        self._labels = manifest.labels
        self._exits = manifest.exits
        self._full_flops = manifest.full_flops

    def build(self, answer: EngineAnswer, query: ClassifyQuery, decode: float) -> Answer:
        """Return the answer to one image. `decode` is the decoding time in seconds."""
        labels = self._labels
        if not answer.policy.plain or len(labels) > FEW_CLASSES:
            return answer_from(self._formatter.format(answer, query, decode))
        last = answer.opinion
        values = last.probabilities.tolist()
        order = sorted(range(len(values)), key=values.__getitem__, reverse=True)[: query.top_k]
        top = tuple([RankedClass(labels[i], i, rounded(values[i])) for i in order])
        first = top[0]
        return Answer(
            first.label,
            first.index,
            first.probability,
            rounded(last.confidence),
            top,
            len(answer.opinions),
            self._exits,
            answer.flops,
            round(answer.flops / self._full_flops, DECIMALS),
            answer.deadline_hit,
            answer.degraded,
            Timings(
                _milliseconds(decode),
                _milliseconds(answer.queue),
                _milliseconds(answer.compute),
                _milliseconds(answer.total),
            ),
        )


def rounded(value: float) -> float:
    """Return `round(value, DECIMALS)` of a float32 in a third of the time.

    Its 24 bits times 10**6 are exact in a float64, so that only the division rounds.
    """
    return round(value * _SCALE) / _SCALE


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1e6) / 1e3
