"""Which threads of a server get the cores first."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys

NICENESS = 5  # added for threads that compute: a third of the weight of the event loop's thread
MAKING = 9  # added for a process that makes graphs: less than two loading threads, more than one
LOADING = 10  # added for a thread that loads models: a third of the weight of those

SLICE = 100_000  # nanoseconds, the shortest that Linux grants
_SET_ATTRIBUTES = {"x86_64": 314, "aarch64": 274}  # number of the system call sched_setattr
_ATTRIBUTES = struct.Struct("IIQiIQQQII")  # its argument


def lower_priority(niceness: int = NICENESS) -> None:
    """Let the threads of this process that answer run before the calling one, which computes.

    With more busy threads than cores, the event loop would else wait milliseconds for a core, and
    every answer and refusal with it. Only Linux has a niceness for each thread.
    """
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0) + niceness)


def yield_to_answers(niceness: int) -> None:
    """Lower the priority of the calling thread, and let it hold a core for SLICE at a time at most.

    A thread that answers wakes up many times for a request. Beside a busy thread it would else wait
    for the end of a slice of milliseconds each time. Before Linux 6.12 the slice stays as it is.
    """
    lower_priority(niceness)
    number = _SET_ATTRIBUTES.get(platform.machine())
    if sys.platform == "linux" and number is not None:
        nice = os.getpriority(os.PRIO_PROCESS, 0)
        attributes = _ATTRIBUTES.pack(_ATTRIBUTES.size, 0, 0, nice, 0, SLICE, 0, 0, 0, 0)
        ctypes.CDLL(None).syscall(number, 0, attributes, 0)  # if refused, nothing changes
