"""What the workers of one server share, so that any of them answers `/metrics` for all.

It is prometheus_client's multiprocess mode, with the worker's number in place of the process id:
whoever takes a dead worker's place goes on with its counters, and the files do not grow in
number. A dead worker's live gauges go with it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

from prometheus_client import values
from prometheus_client.multiprocess import mark_process_dead

MEMORY = Path("/dev/shm")  # noqa: S108 (a fresh folder in it, for its owner alone)


@dataclass(frozen=True, slots=True)
class Shared:
    """A worker's place: the folder of all workers' metrics, and its number."""

    folder: Path
    worker: int

    def enter(self) -> None:
        """Make every metric of this process, from now on, one of this worker's."""
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(self.folder)
        values.ValueClass = values.MultiProcessValue(lambda: self.worker)

    def bury(self) -> None:
        """The worker is dead: its live gauges go, its counters stay."""
        mark_process_dead(self.worker, str(self.folder))


@contextmanager
def shared_folder() -> Iterator[Path]:
    """A fresh folder, in memory where there is such a place; removed at the end.

    Raises:
        OSError: no folder for temporary files can be written.
    """
    try:
        place = MEMORY if os.access(MEMORY, os.W_OK) else gettempdir()
        folder = TemporaryDirectory(prefix="offramp-", dir=place)
    except OSError as error:
        text = "several workers need a folder for temporary files: set TMPDIR, or --workers 1"
        raise OSError(text) from error
    with folder as name:
        yield Path(name)
