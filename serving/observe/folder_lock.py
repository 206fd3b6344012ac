"""Locks of folders with metrics, by which those of servers that were killed are found.

The supervisor and each worker hold a shared lock on a file in their folder. The kernel releases it
when a process ends, however it ends. A folder is abandoned if an exclusive lock is possible. A
process id would not tell this: ids are used again, and containers with ids of their own can have
one `/dev/shm`.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path
from tempfile import mkstemp

from serving.observe.mapped_memory import no_room

PREFIX = "offramp-"
LOCK = "lock"


def hold(folder: Path) -> int:
    """Lock a folder until the returned descriptor is closed, or this process ends.

    The lock file appears when it is locked, so that a new folder never looks abandoned.

    Raises:
        OSError: The folder has no room, or was removed.
    """
    file = folder / LOCK
    try:
        return _lock(file) if file.exists() else _create_locked(file)
    except OSError as error:
        raise no_room(file, error) from error


def _lock(file: Path) -> int:
    descriptor = os.open(file, os.O_RDWR | os.O_CLOEXEC)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


def _create_locked(file: Path) -> int:
    """Create a file that is locked before it has its name."""
    descriptor, new = mkstemp(prefix=f"{LOCK}-", dir=file.parent)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    Path(new).rename(file)
    return descriptor


def remove_abandoned(place: Path) -> None:
    """Remove this user's folders of servers that were killed, which hold no lock any more.

    A folder without a lock file is not touched.
    """
    for folder in place.glob(f"{PREFIX}*"):
        with suppress(OSError):
            status = folder.lstat()
            if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid():
                _remove_if_abandoned(folder)


def _remove_if_abandoned(folder: Path) -> None:
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(descriptor)
