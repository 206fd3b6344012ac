"""Memory of the process: one arena for all sessions, and free memory given back."""

from __future__ import annotations

import ctypes
import gc
import os
from functools import cache

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper

SHARED_ARENA = "session.use_env_allocators"  # entry of a session's configuration
_AS_REQUESTED = 1  # the arena does not double in size when it grows
_PROVIDER, _OPSET, _IR_VERSION = "CPUExecutionProvider", 17, 8  # of a graph of one node
_ARENA_MAX, _ARENA_MAX_OF_USER = -8, "MALLOC_ARENA_MAX"  # most heaps, as in mallopt(3)
_LARGE_BLOCKS, _FREE_AT_END = (-3, 32 << 20), (-1, 1 << 30)  # bytes that go back, as above
_malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
_mallopt = getattr(ctypes.CDLL(None), "mallopt", None)


def use_one_heap() -> None:
    """Let all threads share a heap, where the C library can do it (glibc).

    Call it before the first thread starts. Otherwise threads have heaps of their own, and `trim`
    does not give back what was freed at the end of these. `MALLOC_ARENA_MAX` in the environment
    sets another number of heaps.
    """
    if _mallopt is not None and _malloc_trim is not None and _ARENA_MAX_OF_USER not in os.environ:
        _mallopt(_ARENA_MAX, 1)


def keep_freed() -> None:
    """Keep what is freed for what is allocated next, in a process that soon ends (glibc).

    Otherwise large blocks go back to the system at once, which has to clear the next ones.
    """
    if _mallopt is not None:
        for option, size in (_LARGE_BLOCKS, _FREE_AT_END):
            _mallopt(option, size)


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


@cache
def _smallest_session() -> ort.InferenceSession:
    """Return a session that uses the arena and computes nothing."""
    make_arena()
    given, made = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "x", [given], [made])
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION
    )
    options = ort.SessionOptions()
    options.add_session_config_entry(SHARED_ARENA, "1")
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return ort.InferenceSession(model.SerializeToString(), options, providers=[_PROVIDER])


def shrink_arena() -> None:
    """Give the blocks of the arena that no session uses back to the heap.

    The arena keeps the memory of sessions that ended, and of the most sessions at one time. Only
    the end of a run can shrink it.
    """
    options = ort.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    _smallest_session().run(None, {"x": np.zeros(1, np.float32)}, options)


def give_back(*, arena: bool = False) -> None:
    """Collect garbage and give free memory back to the system.

    Loading a bundle parses and joins its graphs, which leaves the heap larger than what is in use.

    Args:
        arena: Shrink the arena too. The next batches have to take their memory anew.
    """
    gc.collect()
    if arena:
        shrink_arena()
    trim()


def trim() -> None:
    """Give free memory back to the system, where the C library can do it (glibc)."""
    if _malloc_trim is not None:
        _malloc_trim(0)
