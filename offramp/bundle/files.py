"""Reading of a bundle's files, which can come from anywhere."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from offramp.bundle.errors import BundleError

KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def read_regular_file(path: Path, size: int = -1) -> bytes:
    """Read at most `size` bytes of a regular file, or all. Links are followed.

    Another kind of file is not read, because a named pipe or a device can block or never end.

    Raises:
        OSError: The file cannot be opened or read.
        BundleError: The file is a folder, a named pipe, a device or a socket.
    """
    _check_regular(path, path.stat().st_mode)  # before it is opened: that can act on a device
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        _check_regular(path, os.fstat(descriptor).st_mode)  # of the file that is read
        return file.read(size)


def _check_regular(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = KINDS.get(stat.S_IFMT(mode), "something else")
        raise BundleError(path, f"is {kind}, not a regular file; copy or export the bundle again")
