"""Memory of the process: one arena for all sessions, and free memory given back."""

from __future__ import annotations

import ctypes
import gc
from functools import cache

import onnxruntime as ort

SHARED_ARENA = "session.use_env_allocators"  # entry of a session's configuration
_AS_REQUESTED = 1  # the arena does not double in size when it grows
_malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)


@cache
def make_arena() -> None:
    """Make the CPU arena that all sessions with `SHARED_ARENA` take their memory from.

    Otherwise each session has its own and keeps the activations of its largest batch for good. A
    bundle has two sessions for each stage, of which few run at the same time.
    """
    cpu = ort.OrtMemoryInfo(
        "Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT
    )
    sizes = {"max_mem": 0, "initial_chunk_size_bytes": -1, "max_dead_bytes_per_chunk": -1}
    arena = ort.OrtArenaCfg({**sizes, "arena_extend_strategy": _AS_REQUESTED})
    ort.create_and_register_allocator(cpu, arena)


def give_back() -> None:
    """Collect garbage and give free memory back to the system.

    Loading a bundle parses and joins its graphs, which leaves the heap larger than what is in use.
    """
    gc.collect()
    trim()


def trim() -> None:
    """Give free memory back to the system, where the C library can do it (glibc)."""
    if _malloc_trim is not None:
        _malloc_trim(0)
