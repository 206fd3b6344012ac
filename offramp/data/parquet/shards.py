"""The files of a data set in parquet: which are there, and which split each is of."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import islice, zip_longest
from pathlib import Path

from offramp.data.columns import are_whole_numbers
from offramp.data.errors import DatasetError
from offramp.data.records import LeftOut, Split, listed, printable
from offramp.data.same_files import identity_of
from offramp.data.split_folders import SPLITS, split_named

NUMBERED = re.compile(r"(?P<start>.*-)(?P<number>\d{1,9})-of-(?P<total>\d{1,9})(?:-[0-9a-f]{16})?")
TYPES = {str: "texts", bool: "true or false"}  # of labels, apart from numbers
NAMED = 3  # missing files in an error


def stated_split(file: Path, source: Path) -> Split | None:
    """Return the split in the name of a file or of a folder that it is in, if any.

    The name of a file that is itself the source states none.
    """
    if file == source:
        return None
    path = file.relative_to(source)
    stem = path.name.partition(".")[0]
    for name in (stem, stem.partition("-")[0], *reversed(path.parts[:-1])):
        if (split := split_named(name)) is not None:
            return split
    return None


def default_split(file: Path, source: Path, *, alone: bool) -> Split:
    """Return the split of a file that states none: training, if it is the only file.

    Raises:
        DatasetError: It is not.
    """
    if alone or file == source:
        return "train"
    raise DatasetError(
        f"{printable(file)} is of no known split; rename it, for example train-00.parquet "
        f"(splits: {', '.join(SPLITS)})"
    )


def distinct(
    files: Iterable[Path], source: Path, *, by_split: bool = True
) -> tuple[list[Path], list[LeftOut]]:
    """Return each file once, and the second names of files, which are left out.

    Args:
        files: Paths of the files.
        source: The file or folder that they were found in.
        by_split: Refuse a second name in another split.

    Raises:
        DatasetError: A file has names in two splits, or cannot be found.
    """
    first: dict[int, Path] = {}
    second = []
    for file in files:
        before = first.setdefault(_identity(file), file)
        if before is file:
            continue
        splits = [stated_split(each, source) for each in (file, before)]
        if by_split and splits[0] != splits[1]:
            one, other = (split or "no split" for split in splits)
            raise DatasetError(
                f"{printable(file)} is in {one}, and in {other} as {printable(before)}, which is "
                "the same file. Remove one of them"
            )
        reason = f"is a second name of {printable(before.relative_to(source))}"
        second.append(LeftOut(str(file.relative_to(source)), reason))
    return [*first.values()], second


def _identity(file: Path) -> int:
    try:
        return identity_of(file.stat())
    except OSError as error:
        raise DatasetError(
            f"{printable(file)} cannot be opened: {error.strerror or error}"
        ) from error


def check_complete(files: Sequence[Path]) -> None:
    """Check that no file is missing among those that state a number, as `train-00000-of-00003`.

    Raises:
        DatasetError: One is missing. The text names it.
    """
    series = defaultdict[tuple[Path, str, str], dict[int, int]](dict)
    for file in files:
        if match := NUMBERED.fullmatch(file.name.partition(".")[0]):
            group = series[file.parent, match["start"], match["total"]]
            group[int(match["number"])] = len(match["number"])
    for (folder, start, total), numbers in series.items():
        first = int(0 not in numbers and int(total) in numbers)  # some count from 1
        wanted, width = range(first, first + int(total)), min(numbers.values())
        lacking = (number for number in wanted if number not in numbers)
        named = [f"{start}{number:0{width}}-of-{total}" for number in islice(lacking, NAMED)]
        if named:
            more = len(wanted) - sum(number in wanted for number in numbers) - len(named)
            raise DatasetError(
                f"{printable(folder)}: {listed(named)}{f' and {more:,} more' if more else ''} of "
                f"{int(total):,} parquet files are missing. Download them, or rename the files "
                f"that are there, for example {printable(start)}a.parquet"
            )


def check_names(files: Sequence[tuple[Path, Sequence[str], set[str]]]) -> None:
    """Check that the files that declare names of classes declare the same, and for all labels.

    Args:
        files: Path of each file, the names that it declares, and its labels.

    Raises:
        DatasetError: They do not, or one declares a name twice.
    """
    for file, names, _ in files:
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            raise DatasetError(
                f"{printable(file)} declares {printable(twice[0])} for two classes. Write it with "
                "a name of its own for each class"
            )
    declaring = [(file, names) for file, names, _ in files if names]
    for file, names, labels in files if declaring else ():
        first, expected = declaring[0]
        if not names and (other := labels.difference(expected)):
            raise DatasetError(
                f"{printable(file)} declares no names of classes and has the label "
                f"{printable(min(other))}, and {printable(first)} declares {listed(expected)}. "
                "Write both with the same names"
            )
        pairs = enumerate(zip_longest(names, expected))
        if names and (differ := [(k, *pair) for k, pair in pairs if pair[0] != pair[1]]):
            k, here, there = differ[0]
            raise DatasetError(
                f"{printable(file)} declares {_named(here)} for class {k}, and "
                f"{printable(first)} declares {_named(there)}. Write both with the same names"
            )


def check_types(files: Sequence[tuple[Path, type, set[str]]]) -> None:
    """Check that files that declare no names of classes have labels of one type.

    Numbers that are written as texts are both.

    Args:
        files: Path of each file, the type of its labels, and its labels.

    Raises:
        DatasetError: They have not.
    """
    first: dict[str, Path] = {}
    for file, type_, labels in files:
        if type_ is not str or not are_whole_numbers(labels):
            first.setdefault(TYPES.get(type_, "numbers"), file)
    if len(first) > 1:
        stated = " and ".join(f"{kind} in {printable(file)}" for kind, file in first.items())
        raise DatasetError(f"labels are {stated}. Write all with the same names")


def _named(name: str | None) -> str:
    return "no name" if name is None else printable(name)
