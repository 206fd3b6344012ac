"""The number of bytecodes that the event loop runs for one small JPEG on the fast path."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from threading import get_ident
from types import FrameType
from typing import Any

import pytest

from tests.serving.http.small_jpeg import REQUESTS, WARM_UP, classifying, wait_until_quiet

MOST_BYTECODES = 3700
FAST_PATH = "FastClassify.start"
LOOP = ("asyncio", "selectors.py")  # differ with the event loop that is installed
MAIN_LOOP = "Server.serve"  # uvicorn's, which ticks ten times a second


def runs_under(frame: FrameType | None, name: str) -> bool:
    """Return whether a function of this name is among the callers of a frame, or is its own."""
    while frame and frame.f_code.co_qualname != name:
        frame = frame.f_back
    return frame is not None


class BytecodeCounter:
    """Counts bytecodes by thread and function, in threads that start while it is entered."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[int, str]] = Counter()

    def trace(self, frame: FrameType, event: str, _: Any) -> Any:
        if event == "call":
            if runs_under(frame, MAIN_LOOP):
                return None
            frame.f_trace_lines, frame.f_trace_opcodes = False, True
        elif event == "opcode" and not any(part in frame.f_code.co_filename for part in LOOP):
            self.counts[get_ident(), frame.f_code.co_qualname] += 1
        return self.trace

    def of_event_loop(self) -> Counter[str]:
        """Return the bytecodes of the thread that the fast path runs on, and forget all."""
        wait_until_quiet(self.counts.total)
        counts, self.counts = self.counts, Counter()
        (thread,) = [thread for thread, name in counts if name == FAST_PATH]
        return Counter({name: n for (each, name), n in counts.items() if each == thread})


@pytest.fixture
def counter() -> Iterator[BytecodeCounter]:
    counter = BytecodeCounter()
    previous = threading.gettrace()
    threading.settrace(counter.trace)
    yield counter
    threading.settrace(previous)


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="other bytecodes")
def test_the_event_loop_runs_few_bytecodes_for_a_small_jpeg(
    bundle: Path, counter: BytecodeCounter
) -> None:
    """Take the fewest of several requests, which are the same in every run."""
    found = []
    with classifying(bundle) as classify:
        for _ in range(WARM_UP + REQUESTS):
            classify()
            found.append(counter.of_event_loop())
    fewest = min(found[WARM_UP:], key=Counter.total)
    assert fewest["read_plain"] > 0
    assert fewest["Classify.__call__"] == 0
    assert fewest.total() <= MOST_BYTECODES, fewest.most_common(20)
