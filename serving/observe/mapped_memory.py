"""Memory that several workers map, in files with pages reserved before they are written.

A file system in memory gives a page at the first write to it. If the file system is full then,
the kernel kills the process (SIGBUS). A reserved page is always there.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from weakref import finalize


def mapped_memory(file: Path | None, size: int, *, reserve: bool = True) -> memoryview[int]:
    """Map the first `size` bytes of a file that several workers use.

    Bytes that no worker has written are 0. Without a file, return memory of this process alone.

    Args:
        file: File, created if it is missing.
        size: Bytes.
        reserve: Reserve all pages. If not, the caller reserves the pages that it writes.

    Raises:
        OSError: The file system has no room.
    """
    if file is None or size == 0:
        return memoryview(bytearray(size))
    with _opened(file) as descriptor:
        os.ftruncate(descriptor, size)  # extends the file for the first worker only
        if reserve:
            reserve_pages(file, descriptor, size)
        return memoryview(mmap.mmap(descriptor, size))


class WorkerLock:
    """A lock of this process's threads, and of all workers.

    The kernel releases the lock of a worker that is killed. It works on when another worker has
    removed the file, with the folder of a model that is unloaded.

    Args:
        file: A file of all workers, created if it is missing. `None` for a single process.
    """

    def __init__(self, file: Path | None) -> None:
        self._threads = Lock()
        self._file = None if file is None else os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        if self._file is not None:  # the memory of a model that is unloaded ends with it
            finalize(self, os.close, self._file)

    def __enter__(self) -> None:
        self._threads.acquire()
        if self._file is not None:
            fcntl.flock(self._file, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            fcntl.flock(self._file, fcntl.LOCK_UN)
        self._threads.release()


def reserve_room(file: Path, size: int) -> None:
    """Reserve the pages of the first `size` bytes of a file, which is created if it is missing.

    Args:
        file: Name of the file.
        size: Bytes. A smaller file is extended with zeros.

    Raises:
        OSError: The file system has no room.
    """
    with _opened(file) as descriptor:
        reserve_pages(file, descriptor, size)


@contextmanager
def _opened(file: Path) -> Iterator[int]:
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def reserve_pages(file: Path, descriptor: int, size: int) -> None:
    """Reserve the pages of the first `size` bytes of a file that is open for writing.

    Raises:
        OSError: The file system has no room.
    """
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        raise no_room(file, error) from error


def no_room(file: Path, error: OSError) -> OSError:
    """Return the error for a file that cannot be written, with what to do."""
    return OSError(
        f"the metrics of several workers have no room in {file.parent} ({error.strerror}): free "
        "some of it, set --shm-size for a container, or use --workers 1"
    )
