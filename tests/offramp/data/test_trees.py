"""Whatever tree is drawn: found is loaded plus left out, and each label is that of its folder."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from offramp.data.errors import DatasetError
from offramp.data.reader import read_dataset
from offramp.data.records import Found
from offramp.data.walk import LITTER
from tests.offramp.data.trees import encoded, loaded, reasons

IMAGES = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
SPLITS = {
    "train": "train", "training": "train", "val": "validation", "valid": "validation",
    "validation": "validation", "dev": "validation", "test": "test",
}  # fmt: skip
words = st.sampled_from(
    ["cat", "dog", "Train", "train", "training", "test", "TEST", "val", "dev", "valid", "sun",
     "bullet train", "__x__", "[a]", "2020", "a*b", "ü", "new\nline"]
)  # fmt: skip
litter = st.sampled_from([".hidden", "Thumbs.db", ".DS_Store", "desktop.ini", "__MACOSX", "@eaDir"])
image = st.sampled_from([encoded(name) for name in IMAGES])
other = st.sampled_from(
    [b"", b"text", b"PK\x03\x04zip", b"PAR1", b"file,label\n", b"BM", b"\xff\xd8"]
)
suffixes = st.sampled_from(["", ".png", ".jpg", ".txt", ".csv", ".parquet", ".zip"])
stems = st.one_of(words, st.text("ab-_. ", min_size=1, max_size=4).filter(str.strip))
files = st.dictionaries(
    st.tuples(stems, suffixes).map("".join), st.one_of(image, image, other), max_size=4
)
folders = st.recursive(
    files,
    lambda inner: st.dictionaries(st.one_of(words, litter), st.one_of(inner, files), max_size=4),
    max_leaves=12,
)
classes = st.dictionaries(
    words, st.builds(lambda inner, own: inner | own, folders, files), min_size=1, max_size=4
)
splits = st.dictionaries(
    st.sampled_from(["train", "Test", "VAL", "dev", "training"]), classes, min_size=1, max_size=3
)
stray = st.dictionaries(st.sampled_from(["a.png", "notes", "ümlaut.csv"]), st.one_of(image, other))
trees = st.one_of(
    folders,
    st.builds(lambda tree, beside: beside | tree, classes, stray),
    st.builds(lambda tree, beside: beside | tree, splits, stray),
    st.builds(lambda tree, other_tree: other_tree | tree, splits, classes),
)
Tree = dict[str, "Tree | bytes"]


def write(tree: Tree, folder: Path, links: Path) -> None:
    """Write a tree; every third folder or file lies elsewhere, and is a link."""
    folder.mkdir(exist_ok=True)
    for number, (name, content) in enumerate(tree.items()):
        if name in (".", ".."):
            continue
        path = folder / name
        if number % 3 == 2 and not isinstance(content, bytes):
            target = links / str(len([*links.iterdir()]))
            target.mkdir()
            path.symlink_to(target)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            write(content, path, links)


def visible(folder: Path, root: Path) -> tuple[set[str], set[str]]:
    """Return the images and the other files below a folder, by an independent walk."""
    images, others = set(), set()
    for path in folder.iterdir():
        if path.name.startswith(".") or path.name.casefold() in LITTER:
            continue
        if path.is_dir():
            inner = visible(path, root)
            images |= inner[0]
            others |= inner[1]
        else:
            known = path.read_bytes() in [encoded(name) for name in IMAGES]
            (images if known else others).add(str(path.relative_to(root)))
    return images, others


@settings(max_examples=100, deadline=None)
@given(trees)
def test_found_is_loaded_plus_left_out_and_labels_are_those_of_the_folders(tree: Tree) -> None:
    with TemporaryDirectory() as folder:
        root, links = Path(folder, "set"), Path(folder, "links")
        links.mkdir()
        write(tree, root, links)
        images, others = visible(root, root)
        found = read_or_reason(root)
        if isinstance(found, str):
            assert refused_for_a_reason(found, images, root)
            return
        by_split, named = loaded(found), reasons(found)
        names = [name for split in by_split.values() for name in split]
        assert len(names) == len(set(names))
        assert set(names) | {name for name in named if name in images} == images
        assert not set(names) & set(named)
        assert others <= set(named)
        check_labels(by_split, root)
        check_no_class_is_lost(images, by_split, named)


def read_or_reason(root: Path) -> Found | str:
    try:
        return read_dataset(root)
    except DatasetError as error:
        return str(error)


def refused_for_a_reason(error: str, images: set[str], root: Path) -> bool:
    in_folders = {name.split("/")[0] for name in images if "/" in name}
    if not in_folders:
        said = ("flat folder", "no images in folders", "parquet")
        return any(words in error for words in said)
    splits = [SPLITS[name.casefold()] for name in in_folders if name.casefold() in SPLITS]
    two = len(set(splits)) < len(splits) and "are both the split" in error
    if "as splits of a class" in error:
        return any(len(found) > 1 for found in splits_in_folders(images).values())
    return two or ("two ways" in error and bool(splits) and str(root) in error)


def splits_in_folders(images: set[str]) -> dict[tuple[str, ...], set[str]]:
    """Return the splits that folders in a folder are named after, by the folder."""
    found: dict[tuple[str, ...], set[str]] = {}
    for *folders, _ in (name.split("/") for name in images):
        for depth, folder in enumerate(folders):
            if folder.casefold() in SPLITS and depth:
                found.setdefault((*folders[:depth],), set()).add(SPLITS[folder.casefold()])
    return found


def check_labels(by_split: dict[str, dict[str, str]], root: Path) -> None:
    """An image's label is its first folder, or its second where the first is its split."""
    for split, labels in by_split.items():
        for name, label in labels.items():
            first, second = name.split("/")[:2]
            in_split = SPLITS.get(first.casefold()) == split and (root / first / second).is_dir()
            if label != first:
                assert in_split
                assert label == second


def check_no_class_is_lost(
    images: set[str], by_split: dict[str, dict[str, str]], named: dict[str, str]
) -> None:
    """Every folder with images at the top is a class or a split; only images beside are named."""
    tops = {name.split("/")[0] for name in images if "/" in name}
    names = [name for split in by_split.values() for name in split]
    assert {name.split("/")[0] for name in names} == tops
    assert all(
        reason == "is beside the class folders" for name, reason in named.items() if name in images
    )
