"""Files that a data set has under two names: through links, or by two spellings of one path."""

from __future__ import annotations

from os import stat_result
from typing import NamedTuple

from offramp.data.errors import DatasetError
from offramp.data.records import Split, printable


class _Use(NamedTuple):
    label: str
    split: Split
    place: object


def identity_of(info: stat_result) -> int:
    """Return a number that all names of one file have in common."""
    return info.st_dev << 64 | info.st_ino


class SameFiles:
    """The label and split of each file, to find a second name of it."""

    def __init__(self) -> None:
        self._uses: dict[int, _Use] = {}

    def __contains__(self, identity: int) -> bool:
        return identity in self._uses

    def add(self, identity: int, label: str, split: Split, name: str, place: object) -> bool:
        """Add a file, and return whether it was added before, with the same label and split.

        Args:
            identity: See `identity_of`.
            label: Label of the file.
            split: Split that it is in.
            name: Name of this place in an error.
            place: Name of this place in the error of a later one, such as "on line 2".

        Raises:
            DatasetError: It was added with another label, or in another split.
        """
        before = self._uses.setdefault(identity, _Use(label, split, place))
        if (before.label, before.split) != (label, split):
            raise DatasetError(
                f"{printable(name)} is {printable(label)} in {split}, and "
                f"{printable(before.label)} in {before.split} {before.place}, which is the same "
                "file. Remove one of them"
            )
        return before.place is not place
