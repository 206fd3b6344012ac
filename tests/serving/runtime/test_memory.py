"""Memory of sessions, and of a heap that shrinks."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.engine.classifier import resident_bytes
from offramp.bundle.manifest import Manifest
from serving.runtime.cpu import CpuRuntime
from serving.runtime.memory import give_back, make_arena

BLOCK = 100_000  # bytes, which malloc takes from its heap


def test_memory_that_is_free_is_given_back() -> None:
    blocks = [np.ones(BLOCK, np.uint8) for _ in range(1000)]
    last = blocks.pop()  # the heap cannot shrink from its end
    blocks.clear()
    before = resident_bytes()
    give_back()
    assert resident_bytes() < before - 500 * BLOCK
    assert last.sum() == BLOCK


def test_sessions_share_the_memory_of_their_batches(bundle: Path, manifest: Manifest) -> None:
    make_arena()
    runtimes = [CpuRuntime(bundle, manifest) for _ in range(2)]
    runtimes[0].warm_up(256)
    give_back()
    before = resident_bytes()
    runtimes[1].warm_up(256)
    assert resident_bytes() - before < 5_000_000


def test_the_memory_of_batches_and_of_sessions_that_ended_is_given_back(
    bundle: Path, manifest: Manifest
) -> None:
    make_arena()
    runtime = CpuRuntime(bundle, manifest)
    give_back(arena=True)
    before = resident_bytes()
    runtime.warm_up(256)
    give_back()
    kept = resident_bytes() - before
    assert kept > 5_000_000
    give_back(arena=True)
    assert resident_bytes() - before < kept / 2
    runtime.warm_up(256)
