"""Writing of files that are complete or absent, and early checks of the place for them."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedWriter
from pathlib import Path
from uuid import uuid4

from offramp.errors import UnwritableFileError

PARTIAL = ".partial"
WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP)  # of a file system, as Lustre can be


@contextmanager
def writing(path: Path, *more: type[Exception]) -> Iterator[None]:
    """Raise an error that names `path` for each error of a write.

    Args:
        path: File or folder that is written in this context.
        more: Errors of writers that raise no OSError.

    Raises:
        UnwritableFileError: OSError, or one of `more`, was raised.
    """
    errors: tuple[type[Exception], ...] = (OSError, *more)
    try:
        yield
    except errors as error:
        reason = getattr(error, "strerror", None) or error
        raise UnwritableFileError(f"{path}: cannot be written: {reason}") from error


@contextmanager
def replaced(
    path: Path, *more: type[Exception], durable: bool = False, concurrent: bool = False
) -> Iterator[Path]:
    """Yield a path beside `path` to write a file to, then move the file to `path`.

    After an error `path` is as it was, and the file beside it is removed.

    Args:
        path: File to write.
        more: Errors of writers that raise no OSError.
        durable: True to wait until the file is on the disk. Some file systems report only then
            that there is no room.
        concurrent: True if several processes can write `path` at the same time. Each then has a
            file of its own, with a name that readers of folders skip.

    Raises:
        UnwritableFileError: The file cannot be written.
    """
    name = f".{path.name}.{uuid4().hex}" if concurrent else path.name
    partial = path.with_name(name + PARTIAL)
    try:
        with writing(path, *more):
            yield partial
            if durable:
                _synchronize(partial)
            partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


@contextmanager
def locked(path: Path, refusal: Exception) -> Iterator[BufferedWriter]:
    """Open a file for appending, and keep other processes from it. The end of a process unlocks it.

    On a file system without locks nothing keeps others from it.

    Args:
        path: File to lock. Its folder is made.
        refusal: Error to raise if another process has locked it.

    Raises:
        UnwritableFileError: The file cannot be opened.
    """
    import fcntl  # late: only Unix has it

    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")  # locks of network file systems need a file that can be written
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in WITHOUT_LOCKS:
                raise refusal from error
        yield file


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path` to write files to, then move it to `path`.

    One process at a time writes to `path`. After an error nothing is left, and what a process that
    was killed left is removed.

    Args:
        path: Folder to write, which does not exist.

    Raises:
        UnwritableFileError: The folder cannot be written, or another process writes it.
    """
    partial, lock = (path.with_name(f".{path.name}{end}") for end in (PARTIAL, ".lock"))
    with locked(lock, UnwritableFileError(f"{path}: another process writes it")):
        try:
            shutil.rmtree(partial, ignore_errors=True)
            with writing(partial):  # what cannot be removed is in the way, not `path`
                partial.mkdir()
            with writing(path):
                yield partial
                partial.rename(path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
            lock.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text as UTF-8. At any time `path` is complete, either the old or the new.

    Raises:
        UnwritableFileError: The file cannot be written.
    """
    with replaced(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="")


def check_folder(path: Path, name: str) -> None:
    """Check that a folder can be written to, or be made. Nothing is written.

    Args:
        path: The folder.
        name: Option that it belongs to, for errors.

    Raises:
        UnwritableFileError: It is a file, is below a file, or must not be written to.
    """
    existing = next(each for each in (path, *path.absolute().parents) if os.path.lexists(each))
    if not existing.is_dir():
        raise UnwritableFileError(f"{name}: {existing} is not a folder; choose another place")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UnwritableFileError(
            f"{name}: {path} cannot be written: {existing} is read-only for this user"
        )


def _synchronize(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
