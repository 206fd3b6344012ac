"""Memory of sessions, and of a heap that shrinks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.engine.classifier import resident_bytes
from offramp.bundle.manifest import Manifest
from serving.runtime.cpu import CpuRuntime
from serving.runtime.memory import give_back, make_arena

BLOCK = 100_000  # bytes, which malloc takes from its heap
HEAPS = "MALLOC_ARENA_MAX"
THREADS_BYTES = 25_000_000
# Prints the bytes that stay after a thread, which goes on, freed its memory. The first array makes
# the C library take later ones from a heap, and keep as much at its end.
A_THREAD = f"""
import threading
from pathlib import Path
import numpy as np
from serving.runtime.memory import give_back, use_one_heap
resident = lambda: int(Path("/proc/self/statm").read_text().split()[1]) * 4096
use_one_heap()
np.ones({THREADS_BYTES} + 1_000_000, np.uint8)
freed, end = threading.Event(), threading.Event()
work = lambda: (np.ones({THREADS_BYTES}, np.uint8) is None, freed.set(), end.wait())
give_back()
before = resident()
thread = threading.Thread(target=work)
thread.start()
freed.wait()
give_back()
print(resident() - before)
end.set()
"""


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


@pytest.mark.parametrize(("environment", "gives_back"), [({}, True), ({HEAPS: "8"}, False)])
def test_memory_that_a_thread_freed_is_given_back(
    environment: dict[str, str], *, gives_back: bool
) -> None:
    others = {name: value for name, value in os.environ.items() if name != HEAPS}
    run = [sys.executable, "-c", A_THREAD]
    kept = subprocess.run(run, env=others | environment, capture_output=True, check=True).stdout
    assert (int(kept) < THREADS_BYTES / 10) == gives_back
