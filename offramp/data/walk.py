"""The tree of a folder: its image files, its other files with reasons, and its folders.

Links are followed. A link to a folder that contains it is refused. Hidden files and the litter of
file managers are only counted.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from offramp.data.errors import DatasetError
from offramp.data.formats import ARCHIVES, HEAD, IMAGE_FORMATS, PARQUET, format_of, not_read
from offramp.data.records import LeftOut, printable

LITTER = frozenset(
    {
        "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir", "$recycle.bin",
        "system volume information", "lost+found",
    }
)  # fmt: skip
TABLES = (".csv", ".tsv", ".jsonl", ".ndjson")  # only for the reason that is given


@dataclass(slots=True)
class Folder:
    """A folder and all that is below it.

    Attributes:
        name: Its own name.
        path: Its path, with the folder that was searched.
        images: Names of the image files directly in it.
        others: All other files directly in it, and the folders that cannot be read.
        parquet: Names of the parquet files among them.
        folders: The folders directly in it.
    """

    name: str
    path: str
    images: list[str] = field(default_factory=list)
    others: list[LeftOut] = field(default_factory=list)
    parquet: list[str] = field(default_factory=list)
    folders: list[Folder] = field(default_factory=list)

    def each(self) -> Iterator[Folder]:
        """Yield this folder and every folder below it, in order of their names."""
        yield self
        for folder in self.folders:
            yield from folder.each()

    def image_paths(self) -> Iterator[str]:
        """Yield the path of every image in it and below it."""
        for folder in self.each():
            yield from (os.path.join(folder.path, name) for name in folder.images)

    @property
    def has_images(self) -> bool:
        """Tell if there is an image in it or below it."""
        return any(folder.images for folder in self.each())


@dataclass(slots=True)
class Tree:
    """A folder that was searched.

    Attributes:
        root: The folder.
        found: Number of files found, without those that are only counted.
        hidden: Number of hidden files, litter and folders of such, which were not opened.
        formats: Number of images of each format.
    """

    root: Folder
    found: int = 0
    hidden: int = 0
    formats: Counter[str] = field(default_factory=Counter)


def read_tree(root: str) -> Tree:
    """Read all that is in a folder, at any depth.

    Raises:
        DatasetError: The folder cannot be read, or a link forms a cycle.
    """
    tree = Tree(Folder(os.path.basename(os.path.abspath(root)), root))
    try:
        info = os.stat(root)
        _Search(tree, root).folder(tree.root, {(info.st_dev, info.st_ino): root})
    except OSError as error:
        raise DatasetError(f"{root} cannot be read: {error.strerror or error}") from error
    except RecursionError as error:
        raise DatasetError(f"{root}: its folders are too deep") from error
    return tree


@dataclass(slots=True)
class _Search:
    tree: Tree
    root: str
    unread: dict[str, str | None] = field(default_factory=dict)

    def folder(self, folder: Folder, above: dict[tuple[int, int], str]) -> None:
        for name in sorted(os.listdir(folder.path)):
            if name.startswith(".") or name.casefold() in LITTER:
                self.tree.hidden += 1
                continue
            path = os.path.join(folder.path, name)
            try:
                info = os.stat(path)
            except OSError as error:
                link = os.path.islink(path)
                reason = "is a broken link" if link else f"cannot be opened: {error.strerror}"
                self._leave_out(folder, path, reason)
                continue
            if stat.S_ISDIR(info.st_mode):
                self._inner(folder, path, (info.st_dev, info.st_ino), above)
            else:
                self._file(folder, path, info)

    def _inner(
        self,
        folder: Folder,
        path: str,
        identity: tuple[int, int],
        above: dict[tuple[int, int], str],
    ) -> None:
        if identity in above:
            raise DatasetError(
                f"{printable(path)} links back to {printable(above[identity])}, which contains "
                "it. Remove the link"
            )
        inner = Folder(os.path.basename(path), path)
        try:
            self.folder(inner, above | {identity: path})
        except OSError as error:
            reason = f"cannot be opened: {error.strerror or error}"
            folder.others.append(LeftOut(self._name(path), reason, files=0))
        else:
            folder.folders.append(inner)

    def _file(self, folder: Folder, path: str, info: os.stat_result) -> None:
        name = os.path.basename(path)
        format_, reason = self._examine(path, info)
        if reason is None and format_ is not None:
            self.tree.found += 1
            self.tree.formats[format_] += 1
            folder.images.append(name)
            return
        if format_ == PARQUET:
            folder.parquet.append(name)
        self._leave_out(folder, path, reason or "is not an image")

    def _examine(self, path: str, info: os.stat_result) -> tuple[str | None, str | None]:
        """Return a file's format, and the reason to leave it out if there is one."""
        if not stat.S_ISREG(info.st_mode):
            return None, "is not a regular file"
        if info.st_size == 0:
            return None, "is empty"
        try:
            with open(path, "rb", buffering=0) as file:
                format_ = format_of(file.read(HEAD))
        except OSError as error:
            return None, f"cannot be opened: {error.strerror or error}"
        return format_, self._reason(format_, path)

    def _reason(self, format_: str | None, path: str) -> str | None:
        if format_ in IMAGE_FORMATS:
            if format_ not in self.unread:
                self.unread[format_] = not_read(format_)
            return self.unread[format_]
        if format_ == PARQUET:
            return "is a parquet file beside images, whose folders give the labels"
        if format_ in ARCHIVES:
            return f"is a {format_} archive. Unpack it to use what is in it"
        if os.path.splitext(path)[1].lower() in TABLES:
            return (
                "is a table beside images, whose folders give the labels. To use the labels in "
                "it, give the table: --data " + printable(path)
            )
        return "is not an image in a format that is read"

    def _leave_out(self, folder: Folder, path: str, reason: str) -> None:
        self.tree.found += 1
        folder.others.append(LeftOut(self._name(path), reason))

    def _name(self, path: str) -> str:
        return os.path.relpath(path, self.root)
