"""Image files in folders and parquet files, with or without labels. Imports no torch."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from offramp.errors import OfframpError

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
PARQUET = ".parquet"
ROWS = 64  # of a parquet file that are in memory at once
IMAGE_COLUMNS = ("image", "img", "jpg", "png")
LABEL_COLUMNS = ("label", "labels", "target", "fine_label")
EVALUATED_SPLITS = ("test", "validation", "valid", "val", "dev")


class DatasetError(OfframpError):
    """A data set is missing, has no images or labels, or labels that a model does not have."""


@dataclass(frozen=True, slots=True)
class ImageItem:
    """An image file: its name, and its path or its bytes."""

    name: str
    image: Path | bytes


@dataclass(frozen=True, slots=True)
class Example:
    """A labelled image file.

    Attributes:
        name: Name of the file.
        image: Its path or its bytes.
        label: Index of its class.
    """

    name: str
    image: Path | bytes
    label: int


class ImageItems:
    """Image files and rows of parquet files, in a fixed order.

    Args:
        files: Their paths, each once.
    """

    def __init__(self, files: Iterable[Path]) -> None:
        self._rows = {file: _row_count(file) for file in files}

    def __len__(self) -> int:
        return sum(self._rows.values())

    def __iter__(self) -> Iterator[ImageItem]:
        for file in self._rows:
            if file.suffix == PARQUET:
                yield from _rows(file)
            else:
                yield ImageItem(str(file), file)


def find_images(paths: Iterable[Path]) -> ImageItems:
    """Find image files, the images in folders, and those in parquet files.

    Args:
        paths: Files are taken whatever their names. Folders are searched at all depths for
            JPEG, PNG, WebP and parquet files.

    Raises:
        DatasetError: A path does not exist, a folder has no image, or a parquet file no image
            column.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += _files_in(path, (*SUFFIXES, PARQUET))
        elif path.exists():
            found.append(path)
        else:
            raise DatasetError(f"{path}: there is no such file or folder")
    return ImageItems(found)


def read_examples(source: Path, labels: Sequence[str]) -> Iterator[Example]:
    """Yield the labelled images of a data set.

    Args:
        source: A folder with one folder of images per class, a parquet file, or a folder of
            parquet files. Of parquet files for several splits the test split is read, or else
            the validation split.
        labels: Labels of the model.

    Raises:
        DatasetError: No images, no labels, or a label that the model does not have.
    """
    index = {label: number for number, label in enumerate(labels)}
    if source.is_dir():
        files = sorted(source.rglob(f"*{PARQUET}"))
        if not files:
            yield from _class_folders(source, index)
            return
    elif source.exists():
        files = [source]
    else:
        raise DatasetError(f"{source}: there is no such file or folder")
    for file in _of_one_split(files, source):
        yield from _labelled_rows(file, index)


def _files_in(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    files = (path for path in folder.rglob("*") if path.suffix.lower() in suffixes)
    found = sorted(path for path in files if path.is_file())
    if not found:
        raise DatasetError(f"{folder}: this folder has no {', '.join(suffixes)} file")
    return found


def _row_count(file: Path) -> int:
    if file.suffix != PARQUET:
        return 1
    with _opened(file) as parquet:
        _image_column(parquet, file)
        return int(parquet.metadata.num_rows)


def _class_folders(root: Path, index: Mapping[str, int]) -> Iterator[Example]:
    folders = sorted(each for each in root.iterdir() if each.is_dir() and each.name[0] != ".")
    if not folders:
        raise DatasetError(f"{root}: this folder has neither class folders nor parquet files")
    for folder in folders:
        _check_label(folder.name, index, str(folder))
    for folder in folders:
        for path in _files_in(folder, SUFFIXES):
            yield Example(str(path), path, index[folder.name])


def _of_one_split(files: Sequence[Path], root: Path) -> list[Path]:
    """Select the test files, or else the validation files. Without either, select all."""
    for split in EVALUATED_SPLITS:
        named = [file for file in files if split in _words(file, root)]
        if named:
            return named
    return list(files)


def _words(file: Path, root: Path) -> list[str]:
    name = file.name if file == root else str(file.relative_to(root))
    return re.split(r"[^a-z]+", name.lower())


def _rows(file: Path) -> Iterator[ImageItem]:
    with _opened(file) as parquet:
        image = _image_column(parquet, file)
        yield from (
            ImageItem(f"{file}#{number}", _image(row[image], file))
            for number, row in enumerate(_read(parquet, [image]))
        )


def _labelled_rows(file: Path, index: Mapping[str, int]) -> Iterator[Example]:
    with _opened(file) as parquet:
        image, label = _image_column(parquet, file), _label_column(parquet, file)
        names = _features(parquet).get(label, {}).get("names", [])
        for number, row in enumerate(_read(parquet, [image, label])):
            value, name = row[label], f"{file}#{number}"
            named = isinstance(value, int) and 0 <= value < len(names)
            text = names[value] if named else str(value)
            _check_label(text, index, name)
            yield Example(name, _image(row[image], file), index[text])


def _opened(file: Path) -> ParquetFile:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ModuleNotFoundError as error:
        raise DatasetError(
            f"{file}: reading parquet files needs pyarrow; install it with: "
            "pip install 'offramp[parquet]'"
        ) from error
    try:
        return ParquetFile(file)
    except (OSError, ArrowException) as error:
        raise DatasetError(f"{file}: cannot be read as a parquet file ({error})") from error


def _read(parquet: ParquetFile, columns: list[str]) -> Iterator[dict[str, Any]]:
    for batch in parquet.iter_batches(ROWS, columns=columns):
        yield from batch.to_pylist()


def _features(parquet: ParquetFile) -> dict[str, dict[str, Any]]:
    """Return the column types that the Hugging Face library stores, if any."""
    stored = (parquet.schema_arrow.metadata or {}).get(b"huggingface", b"{}")
    features: dict[str, dict[str, Any]] = json.loads(stored).get("info", {}).get("features", {})
    return {name: kind for name, kind in features.items() if "_type" in kind}


def _image_column(parquet: ParquetFile, file: Path) -> str:
    return _column(parquet, file, "image", "Image", IMAGE_COLUMNS)


def _label_column(parquet: ParquetFile, file: Path) -> str:
    return _column(parquet, file, "label", "ClassLabel", LABEL_COLUMNS)


def _column(parquet: ParquetFile, file: Path, what: str, type_: str, usual: Sequence[str]) -> str:
    columns = list(parquet.schema_arrow.names)
    typed = [name for name, kind in _features(parquet).items() if kind.get("_type") == type_]
    for name in (*typed, *usual):
        if name in columns:
            return name
    raise DatasetError(f"{file}: there is no {what} column, only {', '.join(columns)}")


def _image(value: object, file: Path) -> Path | bytes:
    """Return the bytes in a cell, or the path where it has only a path."""
    if isinstance(value, Mapping):
        stored, path = value.get("bytes"), value.get("path")
        value = file.parent / path if stored is None and path else stored
    return value if isinstance(value, Path | bytes) else b""


def _check_label(label: str, index: Mapping[str, int], where: str) -> None:
    if label not in index:
        known = ", ".join([*index][:10]) + (", ..." if len(index) > 10 else "")
        raise DatasetError(f"{where}: the model has no label {label!r}; its labels are {known}")
