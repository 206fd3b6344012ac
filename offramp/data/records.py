"""A data set as it was found: classes, the images of each split, and what was left out."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from offramp.data.errors import DatasetError

Split = Literal["train", "validation", "test"]
SHOWN = 20  # names in an error


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file, folder or row that is not part of the data set.

    Attributes:
        name: Its path in the data set.
        reason: A predicate, such as "is a zip archive".
        files: Number of files that it stands for: 0 for a folder or a row.
    """

    name: str
    reason: str
    files: int = 1

    def __str__(self) -> str:
        return f"{printable(self.name)} {self.reason}"


@dataclass(frozen=True, slots=True)
class Encoded:
    """An encoded image: its name, and its path or its bytes."""

    name: str
    image: Path | bytes

    def read(self) -> bytes:
        """Return the bytes of the image.

        Raises:
            OSError: The file cannot be read.
        """
        return self.image if isinstance(self.image, bytes) else self.image.read_bytes()


class Stored(Protocol):
    """Encoded images in a fixed order."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Encoded]: ...

    def name(self, row: int) -> str:
        """Return the name of an image."""
        ...

    def sample(self, number: int) -> Iterator[Encoded]:
        """Yield at most `number` of the images."""
        ...


class Files:
    """Paths of image files, packed so that a process gets millions of them cheaply.

    Args:
        paths: Path of each file.
        root: Folder that names are relative to.
    """

    def __init__(self, paths: Iterable[str], root: str) -> None:
        encoded = [os.fsencode(path) for path in paths]
        ends = np.cumsum([len(path) for path in encoded], dtype=np.int64)
        self._packed = b"".join(encoded)
        self._bounds = np.concatenate([np.zeros(1, np.int64), ends])
        self._root = root

    def __len__(self) -> int:
        return len(self._bounds) - 1

    def __iter__(self) -> Iterator[Encoded]:
        return (self[row] for row in range(len(self)))

    def name(self, row: int) -> str:
        """Return the name of an image."""
        return self[row].name

    def sample(self, number: int) -> Iterator[Encoded]:
        """Yield at most `number` images, spread over all."""
        some = min(number, len(self))
        return (self[row * len(self) // some] for row in range(some))

    def __getitem__(self, row: int) -> Encoded:
        """Return the name and path of an image."""
        start, end = self._bounds[row : row + 2].tolist()
        path = os.fsdecode(self._packed[start:end])
        return Encoded(path.removeprefix(f"{self._root}/"), Path(path))


@dataclass(frozen=True, slots=True)
class Part:
    """The images of a split.

    Attributes:
        images: N encoded images.
        targets: Position of each image's class in the classes of the data set, int64 [N].
    """

    images: Stored
    targets: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Found:
    """A data set on disk.

    Attributes:
        source: Path of the file or folder.
        classes: Labels that have an image in any split.
        parts: The splits that there are.
        left_out: Files, folders and rows that are not part of it, with reasons.
        hidden: Number of hidden and other files that are only counted, such as Thumbs.db.
        formats: Number of images of each format, where the files were opened.
        declared: Names of classes that the files declare for numbers. Two of them can be alike.
    """

    source: str
    classes: tuple[str, ...]
    parts: Mapping[Split, Part]
    left_out: tuple[LeftOut, ...] = ()
    hidden: int = 0
    formats: Mapping[str, int] = field(default_factory=Counter)
    declared: tuple[str, ...] = ()

    def part(self, split: Split) -> Part:
        """Return a split.

        Raises:
            DatasetError: The data set does not have it.
        """
        if split not in self.parts:
            raise DatasetError(
                f"{self.source} has no split {split!r}, only {', '.join(self.parts)}"
            )
        return self.parts[split]

    def check_strict(self) -> None:
        """Check that nothing was left out, apart from hidden files.

        Raises:
            DatasetError: Something was.
        """
        if self.left_out:
            raise strict_error(self.source, self.left_out)

    def check_trainable(self) -> None:
        """Check that a network can learn from it: two classes, each with training images.

        Raises:
            DatasetError: It cannot. Or two classes are one class in two spellings.
        """
        train = self.part("train")
        counts = np.bincount(train.targets, minlength=len(self.classes))
        lacking = [self.classes[i] for i in np.flatnonzero(counts == 0)]
        _check_spellings(self, lacking)
        if lacking:
            where = [s for s, part in self.parts.items() if s != "train" and len(part.targets)]
            raise DatasetError(
                f"{self.source}: no training image of {listed(lacking)}, only images in "
                f"{' and '.join(where)}. Add some to train, or remove the class"
            )
        if len(self.classes) == 1:
            raise DatasetError(
                f"{self.source} has one class, {printable(self.classes[0])}. A network needs at "
                f"least two{_hint(self)}"
            )


def spellings(classes: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield pairs of classes whose names differ only in case, spaces or coding."""
    names: dict[str, str] = {}
    for name in classes:
        other = names.setdefault(_plain(name).casefold(), name)
        if other != name:
            yield other, name


def other_spelling(name: str, known: Iterable[str]) -> str:
    """Return a sentence for an error if a known name looks the same as one that is not known."""
    other = next((each for each in known if _plain(each) == _plain(name)), None)
    if other is None:
        return ""
    return (
        f". {name!a} and {other!a} differ only in spaces, or in characters that look alike. Write "
        "the label as the second"
    )


def _check_spellings(found: Found, lacking: Collection[str]) -> None:
    """Check that no two classes have names that look the same.

    Two that differ in case can be two classes, such as letters, if both have training images.
    """
    for other, name in spellings(found.classes):
        same = _plain(name) == _plain(other)
        if {name, other} <= {*found.declared} or not (same or {name, other} & {*lacking}):
            continue
        shown = [ascii(each) if same else printable(each) for each in (other, name)]
        raise DatasetError(
            f"{found.source}: the classes {' and '.join(shown)} differ only in "
            f"{'spaces, or in characters that look alike' if same else 'case or spaces'}. Give "
            "them one name, or rename one of them"
        )


def _plain(name: str) -> str:
    """Return a name in Unicode's form NFC, with single spaces and without invisible characters."""
    visible = "".join(char for char in name if unicodedata.category(char) != "Cf")
    return " ".join(unicodedata.normalize("NFC", visible).split())


def strict_error(source: str, left_out: Sequence[LeftOut]) -> DatasetError:
    """Return the error of `--strict`, which names what is left out."""
    names = ". ".join(str(each) for each in left_out[:SHOWN])
    more = len(left_out) - SHOWN
    return DatasetError(
        f"{printable(source)}: {len(left_out)} left out, and --strict refuses that: {names}"
        + (f". {more} more" if more > 0 else "")
    )


def _hint(found: Found) -> str:
    folder = Path(found.source, found.classes[0])
    inner = sorted(p.name for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
    if inner:
        return (
            f". If {listed(inner)} in it are the classes or splits, "
            f"give that folder: --data {printable(folder)}"
        )
    if found.left_out:
        named = ". ".join(str(each) for each in found.left_out[:SHOWN])
        return f". Left out: {named}"
    return ""


def listed(names: Sequence[str]) -> str:
    """Return names for an error text: at most 20, and how many more there are."""
    shown = ", ".join(printable(name) for name in names[:SHOWN])
    return shown + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def printable(name: str | Path) -> str:
    """Return a name that can be printed on one line: control characters are escaped."""
    return "".join(
        char
        if unicodedata.category(char)[0] != "C" and char not in "\u2028\u2029"
        else char.encode("unicode_escape").decode()
        if not "\udc80" <= char <= "\udcff"
        else f"\\x{ord(char) - 0xDC00:02x}"
        for char in str(name)
    )
