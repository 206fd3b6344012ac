"""The run of a batch, from its slots to its slots, and the time that it is expected to take."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from time import perf_counter

from serving.engine.batch import Batch, Decision
from serving.engine.latency import Latency
from serving.runtime.base import Runtime, Slots

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ran:
    """A batch that was run. Times are by `time.perf_counter`.

    Attributes:
        batch: The batch.
        decision: Its decision. `None`: a stage failed.
        started: Time at which it began.
        ended: Time at which it ended.
        seconds: Time between them.
    """

    batch: Batch
    decision: Decision | None
    started: float
    ended: float
    seconds: float


def predicted_seconds(batch: Batch, latency: Latency) -> float:
    """Return the seconds that a batch is expected to take."""
    stage = batch.stage
    if batch.whole_network and latency.whole_network is not None:
        latency, stage = latency.whole_network, 0
    return latency.time(stage, len(batch.requests), head=batch.head)


def run_batch(batch: Batch, runtime: Runtime, pool: Slots) -> Ran:
    """Run a batch through one stage or through all, and decide which of its requests leave.

    The features of the others go to their slots. An exception of a stage is logged, and fails the
    batch.
    """
    started = perf_counter()
    stage, slots = batch.stage, batch.slots
    decision = None
    try:
        inputs = pool.gather(stage, slots)
        if batch.whole_network:
            output = runtime.run_whole(inputs)
        else:
            output = runtime.run(stage, inputs, head=batch.head)
        decision = batch.decide(output.confidence, output.probabilities, output.score)
        if rows := decision.kept if decision.audited else decision.continuing:
            pool.scatter(stage, [slots[row] for row in rows], rows, output.features)
        if decision.audited:
            pool.isolate([slots[row] for row in decision.audited])
    except Exception:
        decision = None  # requests that went on would read other requests' features
        log.exception("%s failed", "all stages" if batch.whole_network else f"stage {stage + 1}")
    ended = perf_counter()
    return Ran(batch, decision, started, ended, ended - started)
