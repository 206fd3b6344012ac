"""Run the load generator in its own process, so that it does not hold a server's interpreter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context

from offramp.load.answers import read_answer
from offramp.load.outcomes import Plan
from offramp.load.sender import Load, Read, Report, send

_images: Sequence[bytes] = ()


def _keep(images: Sequence[bytes]) -> None:
    global _images  # noqa: PLW0603  set once, in the generator's own process
    _images = images


def _send_kept(plan: Plan, load: Load, read: Read) -> Report:
    return send(_images, plan, load, read)


class Generator:
    """Process of the load generator.

    Args:
        images: Bodies of the requests.
    """

    def __init__(self, images: Sequence[bytes]) -> None:
        self._pool = ProcessPoolExecutor(
            1, get_context("spawn"), initializer=_keep, initargs=(list(images),)
        )

    def start(self, plan: Plan, load: Load, read: Read = read_answer) -> Future[Report]:
        """Start to send a plan. `read` reads the responses afterwards."""
        return self._pool.submit(_send_kept, plan, load, read)

    def send(self, plan: Plan, load: Load) -> Report:
        """Send a plan and wait for all responses."""
        return self.start(plan, load).result()

    def close(self) -> None:
        """End the process."""
        self._pool.shutdown()


@contextmanager
def generator(images: Sequence[bytes]) -> Iterator[Generator]:
    """Start a generator and end it with the context."""
    made = Generator(images)
    try:
        yield made
    finally:
        made.close()
