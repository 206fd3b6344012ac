"""The number of bytecodes that the event loop runs for one small JPEG on the fast path."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from threading import get_ident
from types import FrameType
from typing import Any

import pytest

from tests.serving.http.raw import answer_of
from tests.serving.servers import serving
from tests.serving.small_bundle import png, random_images

MOST_BYTECODES = 3700
REQUESTS = 20
QUIET_SECONDS = 0.03
FAST_PATH = "FastClassify.start"
LOOP = ("asyncio", "selectors.py")  # differ with the event loop that is installed


class BytecodeCounter:
    """Counts bytecodes by thread and function, in threads that start while it is entered."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[int, str]] = Counter()

    def trace(self, frame: FrameType, event: str, _: Any) -> Any:
        if event == "call":
            frame.f_trace_lines, frame.f_trace_opcodes = False, True
        elif event == "opcode" and not any(part in frame.f_code.co_filename for part in LOOP):
            self.counts[get_ident(), frame.f_code.co_qualname] += 1
        return self.trace

    def of_event_loop(self) -> Counter[str]:
        """Return the bytecodes of the thread that the fast path runs on, and forget all."""
        before = -1
        while before != (before := self.counts.total()):
            time.sleep(QUIET_SECONDS)
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
    """Take the fewest of several requests, which are the same in every run.

    A tick of uvicorn's main loop adds to the others.
    """
    file = png(random_images(1, 0)[0], "JPEG")
    request = (
        b"POST /classify?budget=low HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(file), file)
    )
    found = []
    with (
        serving(bundle) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=20) as client,
        client.makefile("rb") as responses,
    ):
        for _ in range(3 + REQUESTS):  # the first ones start the threads and fill the caches
            client.sendall(request)
            assert answer_of(responses)[0] == 200
            found.append(counter.of_event_loop())
    fewest = min(found[3:], key=Counter.total)
    assert fewest["read_plain"] > 0
    assert fewest["Classify.__call__"] == 0
    assert fewest.total() <= MOST_BYTECODES, fewest.most_common(20)
