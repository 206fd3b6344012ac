"""The rules for a folder of class folders, and for one of splits with class folders in them.

A folder directly in the source that has images is a class. All images below it, at any depth,
belong to it. `split_folders` says which folders are splits instead. Then their folders are the
classes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from offramp.data.errors import DatasetError
from offramp.data.records import Files, Found, LeftOut, Part, Split, printable
from offramp.data.same_files import SameFiles, identity_of
from offramp.data.split_folders import find_splits
from offramp.data.walk import Folder, Tree


def read_class_folders(tree: Tree, source: str) -> Found:
    """Read a folder of class folders, or of splits of class folders.

    Raises:
        DatasetError: It has no class folder, is ambiguous, or has two folders for one split.
    """
    tops = tree.root.with_images
    if not tops:
        raise DatasetError(_flat(tree, source))
    splits = find_splits(tops, source)
    groups: dict[Split, list[Folder]] = _groups(splits) if splits else {"train": tops}
    classes = tuple(sorted({folder.name for group in groups.values() for folder in group}))
    for name in classes:
        _check_text(name, source)
    beside = [tree.root, *splits.values()]
    repeated = _repeated(groups, source, tree.shared) if tree.shared else {}
    found = Found(
        source,
        classes,
        {split: _part(group, classes, source, repeated) for split, group in groups.items()},
        (*_left_out(tree.root, beside, source), *repeated.values()),
        tree.hidden,
        tree.formats,
    )
    _check_complete(found, tree)
    return found


def _groups(splits: Mapping[Split, Folder]) -> dict[Split, list[Folder]]:
    """Return the class folders of each split."""
    return {split: folder.with_images for split, folder in splits.items()}


def _flat(tree: Tree, source: str) -> str:
    if not tree.root.images:
        return (
            f"{source} has no images in folders. Give a folder with a folder of images for each "
            "class, or a table or parquet file" + _reasons(tree)
        )
    return (
        f"{source} is a flat folder: {len(tree.root.images):,} images directly in it, and no class "
        "folders. Move the images of each class into a folder named as the class, or give a table "
        "with the columns file and label (CSV or JSONL)" + _reasons(tree)
    )


def _reasons(tree: Tree) -> str:
    others = [each for folder in tree.root.each() for each in folder.others]
    if not others:
        return ""
    more = f", and {len(others) - 3} more" if len(others) > 3 else ""
    return f". Left out: {', '.join(map(str, others[:3]))}{more}"


def _repeated(
    groups: Mapping[Split, Sequence[Folder]], source: str, shared: Collection[int]
) -> dict[str, LeftOut]:
    """Return, by path, the images that are a second name of a file with that label and split.

    Raises:
        DatasetError: A file has two labels, or is in two splits.
    """
    files, repeated = SameFiles(), {}
    for split, folders in groups.items():
        for folder in folders:
            for path in folder.image_paths():
                identity = identity_of(Path(path).stat())
                if identity not in shared:
                    continue
                if files.add(identity, folder.name, split, path, f"as {printable(path)}"):
                    name = str(Path(path).relative_to(source))
                    repeated[path] = LeftOut(name, "is a second name of a file in its class")
    return repeated


def _part(
    folders: Sequence[Folder], classes: Sequence[str], source: str, repeated: Collection[str]
) -> Part:
    paths: list[str] = []
    targets: list[int] = []
    index = {name: number for number, name in enumerate(classes)}
    for folder in folders:
        before = len(paths)
        paths.extend(path for path in folder.image_paths() if path not in repeated)
        targets.extend([index[folder.name]] * (len(paths) - before))
    return Part(Files(paths, source), np.array(targets, dtype=np.int64))


def _left_out(folder: Folder, beside: Sequence[Folder], source: str) -> list[LeftOut]:
    """Return what is left out of a folder and all below it; `beside` are above the classes."""
    named = list(folder.others)
    above = any(folder is each for each in beside)
    if above:
        named += [
            LeftOut(_relative(folder, source, name), "is beside the class folders")
            for name in folder.images
        ]
    for inner in folder.folders:
        if not inner.has_images and (above or not (inner.others or inner.folders)):
            named.append(LeftOut(_relative(inner, source), "is a folder without images", files=0))
        named += _left_out(inner, beside, source)
    return named


def _relative(folder: Folder, source: str, name: str = "") -> str:
    return str((folder.path / name).relative_to(source))


def _check_text(name: str, source: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise DatasetError(
            f"{source}: the name of the class folder {printable(name)} is not UTF-8. Rename it"
        ) from error


def _check_complete(found: Found, tree: Tree) -> None:
    """Check that every file that was found is loaded or left out with its reason."""
    loaded = sum(len(part.images) for part in found.parts.values())
    left_out = sum(each.files for each in found.left_out)
    if loaded + left_out != tree.found:
        raise DatasetError(
            f"{found.source}: {tree.found} files were found, {loaded} loaded and {left_out} left "
            "out. Files changed while they were read, or this is a bug"
        )
