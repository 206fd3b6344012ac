"""Which threads get the cores first."""

from __future__ import annotations

import os
import platform
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from serving.priorities import SLICE, yield_to_answers

SCHEDULE = Path("/proc/thread-self/sched")


def priority_and_slice() -> tuple[int, int]:
    """Return the niceness of the calling thread, and the nanoseconds that it can hold a core."""
    found = re.search(r"se\.slice +: +(\d+)", SCHEDULE.read_text(encoding="utf-8"))
    assert found
    return os.getpriority(os.PRIO_PROCESS, 0), int(found[1])


@pytest.mark.skipif(
    not SCHEDULE.exists() or tuple(map(int, re.findall(r"\d+", platform.release())[:2])) < (6, 12),
    reason="Linux has slices for each thread from 6.12 on",
)
def test_a_thread_of_the_background_holds_a_core_briefly_and_no_other_thread_does() -> None:
    niceness, own = priority_and_slice()
    with ThreadPoolExecutor(1, initializer=yield_to_answers, initargs=(2,)) as pool:
        assert pool.submit(priority_and_slice).result() == (niceness + 2, SLICE)
    assert priority_and_slice() == (niceness, own)
    assert own > SLICE
