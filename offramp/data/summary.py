"""A data set as text: classes and images of each split, sizes, formats, what was left out."""

from __future__ import annotations

import io
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from offramp.data.records import Encoded, Found, LeftOut, Split, printable

CLASSES = 50  # shown on the console
NAMES = 20  # left out, shown on the console
SPLITS: tuple[Split, ...] = ("train", "validation", "test")  # order of the columns
MEASURED = 500  # images, for their sizes


class Sampled(Protocol):
    """Encoded images, some of which can be looked at."""

    def sample(self, number: int) -> Iterator[Encoded]:
        """Yield at most `number` of the images."""
        ...


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of a data set.

    Attributes:
        source: Its path or name.
        classes: Its labels.
        counts: Images of each class in each split, by the split's name, int64 [classes].
        sizes: Width and height of some images, in pixels, int64 [N, 2].
        formats: Number of images by format, among all or among those measured.
        left_out: What is not part of it.
        hidden: Number of hidden files.
    """

    source: str
    classes: Sequence[str]
    counts: Mapping[str, NDArray[np.int64]]
    sizes: NDArray[np.int64]
    formats: Mapping[str, int]
    left_out: Sequence[LeftOut] = ()
    hidden: int = 0

    def lines(self, classes: int | None = CLASSES, names: int | None = NAMES) -> Iterator[str]:
        """Yield the lines of the text.

        Args:
            classes: Most classes that have a line of their own. `None`: all have.
            names: Most names of what was left out. `None`: all.
        """
        images = _number(self.counts)
        yield f"data: {printable(self.source)}: {len(self.classes):,} classes, {images:,} images"
        yield from self._table(len(self.classes) if classes is None else classes)
        if len(self.sizes):
            yield f"  sizes: {_sizes(self.sizes, images)}"
        if self.formats:
            yield f"  formats: {_formats(self.formats, images)}"
        yield from left_out_lines(self.left_out, self.hidden, names)

    def _table(self, shown: int) -> Iterator[str]:
        columns = list(self.counts.values())
        total = np.array([np.sum(column) for column in columns])
        first = columns[0] if columns else np.zeros(len(self.classes), np.int64)
        order = list(range(len(self.classes)))
        if shown < len(order):
            order = sorted(np.argsort(first, kind="stable")[:shown].tolist())
        labels = [printable(self.classes[k]) for k in order]
        rest = len(self.classes) - len(order)
        last = f"{rest:,} more, with as many images or more" if rest else ""
        width = max(map(len, ["class", last, *labels]))
        yield "  " + "  ".join(["class".ljust(width), *(name.rjust(8) for name in self.counts)])
        for k, label in zip(order, labels, strict=True):
            yield _row(label, width, [int(column[k]) for column in columns])
        if rest:
            others = np.setdiff1d(np.arange(len(self.classes)), order)
            yield _row(last, width, [int(column[others].sum()) for column in columns])
        yield _row("all", width, total.tolist())


def _row(label: str, width: int, numbers: Sequence[int]) -> str:
    return "  " + "  ".join([label.ljust(width), *(f"{number:,}".rjust(8) for number in numbers)])


def left_out_lines(
    left_out: Sequence[LeftOut], hidden: int = 0, names: int | None = NAMES
) -> Iterator[str]:
    """Yield lines that name what was left out, with reasons; no line if that is nothing."""
    if left_out:
        yield f"  left out: {len(left_out):,}"
        yield from (f"    {each}" for each in islice(left_out, names))
        if names is not None and len(left_out) > names:
            yield f"    and {len(left_out) - names:,} more"
    if hidden:
        yield f"  hidden files and litter of file managers: {hidden:,}"


def measured(images: Sampled) -> tuple[NDArray[np.int64], Counter[str]]:
    """Return sizes and formats of up to 500 images.

    Images that cannot be opened are not counted. Training reports them when it decodes them.

    Returns:
        Width and height in pixels, int64 [N, 2], and the number of images by format.
    """
    from PIL import Image

    sizes, formats = [], Counter[str]()
    for encoded in images.sample(MEASURED):
        source = encoded.image if isinstance(encoded.image, Path) else io.BytesIO(encoded.image)
        try:
            with warnings.catch_warnings(action="ignore"), Image.open(source) as image:
                sizes.append(image.size)
                formats["JPEG" if image.format == "MPO" else image.format or "other"] += 1
        except Exception:  # noqa: BLE001, S112 (Pillow's plugins raise nearly anything)
            continue
    return np.array(sizes, dtype=np.int64).reshape(-1, 2), formats


def summarize(
    found: Found,
    counts: Mapping[str, NDArray[np.int64]] | None = None,
    images: Iterable[Sampled] | None = None,
) -> Summary:
    """Summarize a data set.

    Args:
        found: The data set.
        counts: Images of each class by column of the table. `None`: those of its splits.
        images: All images that are counted. `None`: those of its splits.
    """
    counts = split_counts(found) if counts is None else counts
    sizes, formats = [], Counter[str]()
    for each in [part.images for part in found.parts.values()] if images is None else images:
        some, kinds = measured(each)
        sizes.append(some)
        formats += kinds
    return Summary(
        found.source,
        found.classes,
        counts,
        np.concatenate(sizes) if sizes else np.zeros((0, 2), np.int64),
        found.formats if _number(found.formats) == _number(counts) else formats,
        found.left_out,
        found.hidden,
    )


def _number(counts: Mapping[str, int | NDArray[np.int64]]) -> int:
    return sum(int(np.sum(count)) for count in counts.values())


def split_counts(found: Found) -> dict[str, NDArray[np.int64]]:
    """Return the images of each class in each split, int64 [classes]."""
    return {
        split: np.bincount(found.parts[split].targets, minlength=len(found.classes))
        for split in SPLITS
        if split in found.parts
    }


def _sizes(sizes: NDArray[np.int64], images: int) -> str:
    area = sizes.prod(axis=1)
    order = np.argsort(area, kind="stable")
    least, middle, most = (sizes[order[at]].tolist() for at in (0, len(order) // 2, -1))
    sample = "" if len(sizes) == images else f" (of {len(sizes):,} images)"
    if least == most:
        return f"{least[0]} x {least[1]} pixels{sample}"
    return (
        f"{least[0]} x {least[1]} to {most[0]} x {most[1]} pixels, median "
        f"{middle[0]} x {middle[1]}{sample}"
    )


def _formats(formats: Mapping[str, int], images: int) -> str:
    named = sorted(formats.items(), key=lambda item: (-item[1], item[0]))
    sample = "" if sum(formats.values()) == images else " (of a sample)"
    return ", ".join(f"{number:,} {name}" for name, number in named) + sample
