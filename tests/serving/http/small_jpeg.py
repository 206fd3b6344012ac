"""One small JPEG on the fast path of a real server, to count what answers it."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.serving.http.raw import answer_of
from tests.serving.servers import serving
from tests.serving.small_bundle import png, random_images

WARM_UP = 3  # requests that start the threads and fill the caches
REQUESTS = 20
QUIET_SECONDS = 0.03


@contextmanager
def classifying(bundle: Path) -> Iterator[Callable[[], None]]:
    """Yield a function that has the same small JPEG classified, by a server with this bundle."""
    file = png(random_images(1, 0)[0], "JPEG")
    request = (
        b"POST /classify?budget=low HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(file), file)
    )
    with (
        serving(bundle) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=20) as client,
        client.makefile("rb") as responses,
    ):

        def classify() -> None:
            client.sendall(request)
            assert answer_of(responses)[0] == 200

        yield classify


def wait_until_quiet(total: Callable[[], int]) -> None:
    """Wait until a count does not rise any more."""
    before = -1
    while before != (before := total()):
        time.sleep(QUIET_SECONDS)
