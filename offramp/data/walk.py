"""The tree of a folder: its image files, its other files with reasons, and its folders.

Links are followed. A link to a folder that contains it, and a second way to one folder, are
refused. Hidden files and the litter of file managers are only counted.
"""

from __future__ import annotations

import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from os import stat_result
from pathlib import Path

from offramp.data.errors import DatasetError
from offramp.data.formats import ARCHIVES, HEAD, IMAGE_FORMATS, PARQUET, format_of, not_read
from offramp.data.records import LeftOut, printable
from offramp.data.same_files import identity_of

LITTER = frozenset(
    {
        "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir", "$recycle.bin",
        "system volume information", "lost+found", "#recycle", "@recycle", "#snapshot",
        "@recently-snapshot",
    }
)  # fmt: skip
TABLES = (".csv", ".tsv", ".jsonl", ".ndjson")  # only for the reason that is given


@dataclass(slots=True, eq=False)
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
    path: Path
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
            yield from (f"{folder.path}/{name}" for name in folder.images)

    @property
    def has_images(self) -> bool:
        """Return whether there is an image in it or below it."""
        return any(folder.images for folder in self.each())

    @property
    def with_images(self) -> list[Folder]:
        """Return the folders directly in it that have images, in order of their names."""
        return [folder for folder in self.folders if folder.has_images]


@dataclass(slots=True)
class Tree:
    """A folder that was searched.

    Attributes:
        root: The folder.
        found: Number of files found, without those that are only counted.
        hidden: Number of hidden files, litter and folders of such, which were not opened.
        formats: Number of images of each format.
        shared: Identities of the image files that were found more than once.
    """

    root: Folder
    found: int = 0
    hidden: int = 0
    formats: Counter[str] = field(default_factory=Counter)
    shared: set[int] = field(default_factory=set)


def read_tree(root: Path) -> Tree:
    """Read all that is in a folder, at any depth.

    Raises:
        DatasetError: The folder cannot be read, or a link forms a cycle.
    """
    tree = Tree(Folder(root.name, root))
    try:
        info = root.stat()
        _Search(tree, root).folder(tree.root, {identity_of(info): root})
    except OSError as error:
        raise DatasetError(f"{root} cannot be read: {error.strerror or error}") from error
    except RecursionError as error:
        raise DatasetError(f"{root}: its folders are too deep") from error
    return tree


@dataclass(slots=True)
class _Search:
    tree: Tree
    root: Path
    unread: dict[str, str | None] = field(default_factory=dict)
    seen: dict[int, Path] = field(default_factory=dict)
    images: set[int] = field(default_factory=set)

    def folder(self, folder: Folder, above: dict[int, Path]) -> None:
        for path in sorted(folder.path.iterdir(), key=lambda path: path.name):
            if path.name.startswith(".") or path.name.casefold() in LITTER:
                self.tree.hidden += 1
                continue
            try:
                info = path.stat()
            except OSError as error:
                link = path.is_symlink()
                reason = "is a broken link" if link else f"cannot be opened: {error.strerror}"
                self._leave_out(folder, path, reason)
                continue
            if stat.S_ISDIR(info.st_mode):
                self._inner(folder, path, identity_of(info), above)
            else:
                self._file(folder, path, info)

    def _inner(self, folder: Folder, path: Path, identity: int, above: dict[int, Path]) -> None:
        if identity in above:
            raise DatasetError(_circle(path, above[identity]))
        if identity in self.seen:
            raise DatasetError(_twice(path, self.seen[identity]))
        self.seen[identity] = path
        inner = Folder(path.name, path)
        try:
            self.folder(inner, above | {identity: path})
        except OSError as error:
            reason = f"cannot be opened: {error.strerror or error}"
            folder.others.append(LeftOut(self._name(path), reason, files=0))
        else:
            folder.folders.append(inner)

    def _file(self, folder: Folder, path: Path, info: stat_result) -> None:
        format_, reason = self._examine(path, info)
        if reason is None and format_ is not None:
            self.tree.found += 1
            self.tree.formats[format_] += 1
            folder.images.append(path.name)
            identity = identity_of(info)
            (self.tree.shared if identity in self.images else self.images).add(identity)
            return
        if format_ == PARQUET:
            folder.parquet.append(path.name)
        self._leave_out(folder, path, reason or "is not an image")

    def _examine(self, path: Path, info: stat_result) -> tuple[str | None, str | None]:
        """Return a file's format, and the reason to leave it out if there is one."""
        if not stat.S_ISREG(info.st_mode):
            return None, "is not a regular file"
        if info.st_size == 0:
            return None, "is empty"
        try:
            with path.open("rb", buffering=0) as file:
                format_ = format_of(file.read(HEAD))
        except OSError as error:
            return None, f"cannot be opened: {error.strerror or error}"
        return format_, self._reason(format_, path)

    def _reason(self, format_: str | None, path: Path) -> str | None:
        if format_ in IMAGE_FORMATS:
            if format_ not in self.unread:
                self.unread[format_] = not_read(format_)
            return self.unread[format_]
        if format_ == PARQUET:
            return "is a parquet file beside class folders, which give the labels"
        if format_ in ARCHIVES:
            return f"is a {format_} archive. Unpack it to use what is in it"
        if path.suffix.lower() in TABLES:
            return (
                "is a table beside class folders, which give the labels. To use the labels in "
                "it, give the table: --data " + printable(path)
            )
        return "is not an image in a format that is read"

    def _leave_out(self, folder: Folder, path: Path, reason: str) -> None:
        self.tree.found += 1
        folder.others.append(LeftOut(self._name(path), reason))

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self.root))


def _circle(path: Path, above: Path) -> str:
    return f"{printable(path)} links back to {printable(above)}, which contains it. Remove the link"


def _twice(path: Path, other: Path) -> str:
    return (
        f"{printable(path)} and {printable(other)} are links to the same folder, so its images "
        "would count twice. Remove one of them"
    )
