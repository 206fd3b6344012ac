"""The folders that are splits.

A folder is a split if its name is one of `SPLITS`, in any case, and if class folders are in it.
Images beside those class folders leave two readings. Then the folders beside it decide, or else an
error names both readings.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from offramp.data.errors import DatasetError
from offramp.data.records import Split, listed, printable
from offramp.data.walk import Folder

SPLITS: Mapping[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
}
_LIKE = re.compile(r"(?<![a-z])(train|val|dev|eval|test)")  # a word that begins as a split does


def split_named(name: str) -> Split | None:
    """Return the split that a name states exactly, in any case, or `None`."""
    return SPLITS.get(name.casefold())


def find_splits(tops: Sequence[Folder], source: str) -> dict[Split, Folder]:
    """Return the folders that are splits. The result is empty if all are classes.

    Args:
        tops: The folders with images that are directly in the source.
        source: Path of the source, for the errors.

    Raises:
        DatasetError: Both readings are possible, or two folders are one split.
    """
    named = [folder for folder in tops if split_named(folder.name) and folder.with_images]
    if not _can_be_splits(named, tops):
        _check_like_splits(tops, source)
        # A folder alone is no class, and the error of a single class says what to give instead.
        _check_in_classes(tops if len(tops) > 1 else (), source)
        return {}
    splits = [folder for folder in named if not folder.images or _is_split(folder, named, tops)]
    unclear = [folder for folder in tops if folder not in splits]
    if unclear:
        raise DatasetError(_ambiguous(splits or named[:1], unclear, source))
    found = _by_split(splits, source)
    _check_nested(found.values(), source)
    for folder in found.values():
        _check_in_classes(folder.with_images, source)
    return found


def _can_be_splits(named: Sequence[Folder], tops: Sequence[Folder]) -> bool:
    """Return whether folders with the names of splits, and with folders in them, can be splits.

    A class `train` that has images and one more folder of images is none: as a split it has one
    class, and no network learns from that.
    """
    if all(split_named(folder.name) for folder in tops):
        return bool(named)
    shared = any(count > 1 for count in _classes(named).values())
    return shared or any(not each.images or len(each.with_images) > 1 for each in named)


def _check_like_splits(tops: Sequence[Folder], source: str) -> None:
    """Check that folders are not splits with names of another form, such as `train_set`.

    Raises:
        DatasetError: All are named after splits, after two or more, and have images in folders.
    """
    if _are_like_splits(tops) and not any(folder.images for folder in tops):
        names = listed([folder.name for folder in tops])
        raise DatasetError(
            f"{source} can be read in two ways: {names} as splits, or as classes. If they are "
            "splits, name them train, validation or test. If they are classes, move their images "
            "out of the folders in them"
        )


def _are_like_splits(folders: Sequence[Folder]) -> bool:
    """Return whether all folders are named after splits, after two or more."""
    words = [_LIKE.search(folder.name.casefold()) for folder in folders]
    return all(words) and len({word[1] for word in words if word}) > 1


def _check_in_classes(classes: Iterable[Folder], source: str) -> None:
    """Check that no class has splits in it at any depth, such as `cat/train` and `cat/test`.

    Raises:
        DatasetError: One has folders with the names of two splits, whose images would be one set.
    """
    for top in classes:
        for folder in top.each():
            inner = folder.with_images
            splits = {split_named(each.name) for each in inner} - {None}
            if len(splits) > 1 or _are_like_splits(inner):
                raise DatasetError(_in_class(top, folder, inner, source))


def _in_class(top: Folder, folder: Folder, inner: Sequence[Folder], source: str) -> str:
    names = [each.name for each in inner if _LIKE.search(each.name.casefold())]
    return (
        f"{source} can be read in two ways: {listed(names)} in {printable(folder.path)} as splits "
        "of a class, or as parts of it that are one set. If they are splits, put the class folders "
        f"into folders train, validation or test, as train/{printable(top.name)}. If not, rename "
        f"the folders in {printable(folder.name)}"
    )


def _is_split(folder: Folder, named: Sequence[Folder], tops: Sequence[Folder]) -> bool:
    """Return whether a folder that has images of its own is a split: another has its classes."""
    classes = _classes(named)
    return len(tops) == 1 or any(classes[each.name] > 1 for each in folder.with_images)


def _classes(named: Sequence[Folder]) -> Counter[str]:
    """Return the number of folders in which each class folder is."""
    return Counter(inner.name for folder in named for inner in folder.with_images)


def _by_split(folders: Sequence[Folder], source: str) -> dict[Split, Folder]:
    """Return the folder of each split."""
    splits: dict[Split, Folder] = {}
    for folder in folders:
        split = SPLITS[folder.name.casefold()]
        if split in splits:
            raise DatasetError(
                f"{source}: {printable(splits[split].name)} and {printable(folder.name)} are both "
                f"the split {split}. Merge them"
            )
        splits[split] = folder
    return splits


def _check_nested(folders: Iterable[Folder], source: str) -> None:
    """Check that no class folder in a split can be a split.

    Raises:
        DatasetError: One has the name of a split, and has images in folders only. Or all have
            such names, and one has images in folders.
    """
    for folder in folders:
        inner = folder.with_images
        named = [each for each in inner if split_named(each.name) and each.with_images]
        if not all(split_named(each.name) for each in inner):
            named = [each for each in named if not each.images]
        if named:
            raise DatasetError(
                f"{source} can be read in two ways: {listed([each.name for each in named])} in "
                f"{printable(folder.name)} as splits, or as classes. If they are splits, give "
                f"{printable(folder.path)}. If they are classes, move their images out of the "
                "folders in them"
            )


def _ambiguous(splits: Sequence[Folder], others: Sequence[Folder], source: str) -> str:
    beside = listed([each.name for each in others if each not in splits])
    named, example = listed([each.name for each in splits]), printable(splits[0].name)
    inner = listed([each.name for each in splits[0].with_images])
    return (
        f"{source} can be read in two ways: {named} as a split, or as a class like {beside} beside "
        f"it. If {example} is a split with the classes {inner}, move {beside} elsewhere. If "
        f"{example} is a class, move its images out of the folders in it"
    )
