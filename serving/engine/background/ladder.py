"""The operating points that can answer a promise in place of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from offramp.bundle.manifest import Manifest
from offramp.bundle.promises import Promise, Promises
from serving.audit.standing import FULL_DEPTH, AuditedPromise
from serving.settings import OnBroken

Thresholds = tuple[float, ...]


class Ladder(NamedTuple):
    """A promise as it is audited, with the thresholds of each point of its ladder."""

    promise: AuditedPromise
    thresholds: tuple[Thresholds, ...]


def ladders(manifest: Manifest, on_broken: OnBroken) -> Iterator[Ladder]:
    """Yield the ladder of each promise of a bundle.

    `keep` has the point of the promise only, `full` also full depth. `safer` has the certified
    points between them: the path has one order, so a lower risk and more flops are safer.

    Audits count the answers of all exits together. They can break a promise at each exit, and
    support no point for it. They can support a promise of harm or accuracy, because what is lost is
    also a disagreement, and not break it.
    """
    record = manifest.promises
    if record is None:
        return
    for promise in record.offered:
        points = [(str(promise.level), promise.thresholds)]
        if on_broken == "safer" and promise.kind != "exit":
            points += _safer(record, promise)
        if on_broken != "keep":
            points.append((FULL_DEPTH, (2.0,) * (manifest.exits - 1) + (0.0,)))
        audited = AuditedPromise(
            promise.label,
            promise.epsilon,
            record.delta / record.at_once,
            tuple(name for name, _ in points),
            judged=promise.kind in ("agreement", "exit"),
            supported=promise.kind != "exit",
        )
        yield Ladder(audited, tuple(thresholds for _, thresholds in points))


def _safer(record: Promises, promise: Promise) -> list[tuple[str, Thresholds]]:
    """Return the other points with a lower risk, from the next to the safest."""
    safer = [each for each in record.offered if each.risk < promise.risk]
    safer.sort(key=lambda each: -each.risk)
    return [(str(each.level), each.thresholds) for each in safer]
