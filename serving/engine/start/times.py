"""The times of the stages at the start: those of a model with the same structure, or measured."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from time import perf_counter, thread_time

from serving.engine.latency import Latency, Measured
from serving.engine.start.warm_up import measure, useful_batch
from serving.runtime.base import Runtime, Slots, sizes_up_to
from serving.settings import Settings

log = logging.getLogger(__name__)


def largest_batch(settings: Settings) -> int:
    """Return the size of the largest possible batch."""
    return min(settings.max_batch, settings.slots)


def warm(
    settings: Settings,
    runtime: Runtime,
    pool: Slots,
    times: MutableMapping[str, Measured],
    *,
    on_device: bool,
) -> Latency:
    """Warm up what no other model has, and return the times of the stages.

    Stages with known times can run the largest batch. Memory for it is in the arena that all
    sessions share.

    Args:
        settings: All settings.
        runtime: The stages.
        pool: The slots, all of them free.
        times: Known times by the structure of the stages. Measured ones are added.
        on_device: The stages run on a device.
    """
    known = None if runtime.structure is None else times.get(runtime.structure)
    if known is not None:
        if not runtime.warm:
            runtime.warm_up(1)
        return known.latency()
    latency = _measured(settings, runtime, pool, on_device=on_device)
    if runtime.structure is not None:
        times[runtime.structure] = latency.measured
    return latency


def _measured(settings: Settings, runtime: Runtime, pool: Slots, *, on_device: bool) -> Latency:
    """Warm the stages up, and measure them."""
    runtime.warm_up(1)
    largest = largest_batch(settings)
    if not on_device and "max_batch" not in settings.model_fields_set:
        largest = useful_batch(runtime, pool, largest, thread_time)
        log.info("a batch has at most %d images (max_batch sets another number)", largest)
    runtime.warm_up(largest)
    clock = thread_time if settings.provider == "cpu" else perf_counter
    return measure(runtime, pool, sizes_up_to(largest), clock)
