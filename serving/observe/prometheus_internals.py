"""Parts of prometheus_client that it does not export from its package, each with the reason.

A new version can change them. `pyproject.toml` therefore bounds the version, and a test
checks each part. Other modules import them from here only.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from pathlib import Path

from prometheus_client import CollectorRegistry, exposition, values
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.utils import floatToGoString

from serving.observe.mapped_memory import reserve_pages, reserve_room

__all__ = ["choose_encoder", "floatToGoString", "write_metrics_of_worker"]

# `floatToGoString` formats bucket bounds as the package's own histograms do.

FILE_BYTES = 1 << 16  # of a new file of metrics, as in the package
ENTRY_BYTES = 32  # of a metric beside its key: length, padding, value and time


def choose_encoder(accept: str) -> tuple[Callable[[CollectorRegistry], bytes], str]:
    """Return the text format for a header `Accept` and its content type, as the package's own app.

    A version that is no number, on which the package fails, gets the default format.
    """
    try:
        return exposition.choose_encoder(accept)
    except (TypeError, ValueError):
        return exposition.choose_encoder("")


class ReservedDict(MmapedDict):
    """A file of metrics with pages reserved before they are written.

    The package extends its files without a reservation. When the file system is full, a write
    then kills the process by SIGBUS.

    Raises:
        OSError: The file system has no room.
    """

    def __init__(self, filename: str, read_mode: bool = False) -> None:  # noqa: FBT001, FBT002 (as in the package)
        file = Path(filename)
        if not read_mode and not (file.exists() and file.stat().st_size):
            reserve_room(file, FILE_BYTES)
        super().__init__(filename, read_mode)  # type: ignore[no-untyped-call]

    def _init_value(self, key: str) -> None:
        needed = self._used + len(key.encode()) + ENTRY_BYTES
        capacity = self._capacity
        while capacity < needed:
            capacity *= 2
        if capacity > self._capacity:
            reserve_pages(Path(self._fname), self._f.fileno(), capacity)
            self._m = mmap.mmap(self._f.fileno(), capacity)
            self._capacity = capacity
        super()._init_value(key)  # type: ignore[no-untyped-call]


def write_metrics_of_worker(number: Callable[[], int]) -> None:
    """Name the files of this process's metrics by worker number instead of process id.

    A metric looks up `values.ValueClass` when it is created. The documented multiprocess mode
    has no other way to replace the process id. Needs `PROMETHEUS_MULTIPROC_DIR`. The files are
    of the class `ReservedDict`.
    """
    values.MmapedDict = ReservedDict  # type: ignore[attr-defined]
    values.ValueClass = values.MultiProcessValue(number)
