"""Data sets of a run: a training and a held-out set from files, a folder or a name on the hub."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from offramp.data.errors import DatasetError
from offramp.data.held_out import few_warnings, in_random_order, split_by_class
from offramp.data.records import Found, printable, spellings
from offramp.data.summary import Summary, summarize
from training.data.fingerprint import FORM, HASHED, contents, has_training_images
from training.data.hub.names import hub_name
from training.data.images import ImageFiles, Images
from training.data.splits import files_of, find_dataset, load_test
from training.errors import DataError
from training.recipes import PLAIN, HeldOutSplit, Resizing

__all__ = ["Dataset", "load_dataset", "load_test", "open_dataset"]

Held = TypeVar("Held", Images, ImageFiles)


@dataclass(frozen=True, slots=True)
class Dataset(Generic[Held]):
    """The images of a run; `held_out` is never trained on.

    Attributes:
        train: Images to train on.
        held_out: Images for thresholds and temperatures.
        labels: Classes.
        test: Images of the test split, if there is one with labels.
        found: The data set as it was found. `None`: it was split as before version 0.2.
        originals: Files of the training images, where `train` is decoded or shrunk.
    """

    train: Held
    held_out: Held
    labels: tuple[str, ...]
    test: ImageFiles | None = None
    found: Found | None = None
    originals: ImageFiles | None = None

    def decoded(self) -> Dataset[Images]:
        """Decode the training and held-out images into memory."""
        train, held_out = self.train.decoded(), self.held_out.decoded()
        files = self.training_files()
        return Dataset(train, held_out, self.labels, self.test, self.found, files)

    def training_files(self) -> ImageFiles | None:
        """Return the files of the training images, or `None` where only pixels are known."""
        if self.originals is None and isinstance(self.train, ImageFiles):
            return self.train
        return self.originals

    def fingerprint(self, like: str = FORM) -> str:
        """Hash the labels, the first 5,000 held-out images, and the training images.

        The hash changes with the split, the order of labels and the images, so it shows whether
        the same images are held out and trained on. It is the same for images in memory and on
        disk, and wherever the files lie.

        Args:
            like: Fingerprint to compare with. That of an older checkpoint is a hash of the labels,
                the held-out images and the number of training images.

        Raises:
            DataError: A file cannot be read, or a held-out image is damaged.
        """
        digest = hashlib.sha256(json.dumps([self.labels, len(self.train)]).encode())
        first = self.held_out.select(torch.arange(min(HASHED, len(self.held_out)))).decoded()
        digest.update(first.pixels.numpy().tobytes())
        digest.update(self.held_out.targets.numpy().tobytes())
        if not has_training_images(like):
            return digest.hexdigest()
        digest.update(self.train.targets.numpy().tobytes())
        files = self.training_files()
        for each in contents(files) if files else ():
            digest.update(hashlib.sha256(each).digest())
        return FORM + digest.hexdigest()

    @property
    def labelled(self) -> bool:
        """True if the images have labels."""
        return self.train.labelled

    def summary(self) -> Summary | None:
        """Count the images of each class in each set, with sizes, formats and what is left out."""
        if self.found is None or not self.labelled:
            return None
        used: dict[str, Images | ImageFiles] = {"train": self.train, "held-out": self.held_out}
        if self.test is not None:
            used["test"] = self.test
        counts = {
            name: np.bincount(each.targets.numpy(), minlength=len(self.labels))
            for name, each in used.items()
        }
        files = [each for each in used.values() if isinstance(each, ImageFiles)]
        return summarize(self.found, counts, files)

    def warnings(self) -> Iterator[str]:
        """Yield warnings about names that are nearly the same, and sets that are too small."""
        yield from few_warnings(len(self.held_out))
        if not self.labelled:
            return
        for one, other in spellings(self.labels):
            yield (
                f"warning: {printable(one)} and {printable(other)} differ only in case, and are "
                "trained as two classes"
            )
        held = set(self.held_out.targets.tolist())
        if lacking := [k for k in range(len(self.labels)) if k not in held]:
            shown = ", ".join(printable(self.labels[k]) for k in lacking[:10])
            yield (
                f"warning: no held-out image of {len(lacking)} of {len(self.labels)} classes: "
                f"{shown}{', ...' if len(lacking) > 10 else ''}. {self._remedy(lacking)}"
            )

    def _remedy(self, lacking: Sequence[int]) -> str:
        """Return what would give these classes held-out images."""
        if self.found and "validation" in self.found.parts:
            return "Add some to the validation split"
        several = np.bincount(self.train.targets.numpy(), minlength=len(self.labels))[lacking] > 1
        if several.all():
            return "A larger --held-out would do"
        if several.any():
            return "Two images of each class, and a larger --held-out, would do"
        return "Two images of each class would do"


def load_dataset(
    source: str, size: int, held_out: int | None, seed: int, split: HeldOutSplit = "by_class"
) -> Dataset[Images]:
    """Open a data set as `open_dataset` does, and decode all images into memory."""
    return open_dataset(source, size, held_out, seed, split).decoded()


def open_dataset(
    source: str,
    size: int,
    held_out: int | None,
    seed: int,
    split: HeldOutSplit = "by_class",
    *,
    strict: bool = False,
    resizing: Resizing = PLAIN,
) -> Dataset[ImageFiles]:
    """Open a data set and set its validation split apart.

    Args:
        source: A folder of class folders, a table or parquet file, or a name on the Hugging Face
            hub. See `offramp.data.reader.read_dataset`.
        size: Height and width of the decoded images, in pixels.
        held_out: Number of training images to hold out if there is no validation split. None: a
            tenth, and at most 5,000.
        seed: Seed of that split.
        split: Rule for that split. "random": as checkpoints of version 0.1 were split.
        strict: Refuse a data set with files that are left out.
        resizing: Way to bring an image to that size.

    Raises:
        DataError: The source does not exist, has no images with labels, has a class without
            training images, or has too few images or classes.
    """
    if split == "random":
        return _opened_at_random(source, size, held_out, seed, resizing)
    found = find_dataset(source, strict=strict)
    try:
        train, held = _train_and_held_out(found, size, held_out, seed, resizing)
    except DatasetError as error:
        raise DataError(f"data: {error}") from error
    tested = found.parts.get("test")
    test = files_of(found, tested, size, resizing) if tested else None
    _check_all(found, len(train) + len(held) + (len(test) if test else 0))
    return Dataset(train, held, found.classes, test, found)


def _train_and_held_out(
    found: Found, size: int, held_out: int | None, seed: int, resizing: Resizing
) -> tuple[ImageFiles, ImageFiles]:
    """Open the training images, and the validation split or else some of the training images."""
    found.check_trainable()
    train = files_of(found, found.part("train"), size, resizing)
    if "validation" not in found.parts:
        chosen = split_by_class(found.part("train").targets, held_out, seed)
        return train.select(_tensor(chosen[0])), train.select(_tensor(chosen[1]))
    held = files_of(found, found.part("validation"), size, resizing)
    return _shuffled(train, seed), _shuffled(held, seed)


def _shuffled(files: ImageFiles, seed: int) -> ImageFiles:
    return files.select(_tensor(in_random_order(len(files), seed)))


def _opened_at_random(
    source: str, size: int, held_out: int | None, seed: int, resizing: Resizing
) -> Dataset[ImageFiles]:
    hub_name(source)
    if held_out is None:
        raise DataError("held_out: the random split needs a number (--held-out N)")
    from training.data.legacy import open_at_random  # which imports `datasets`: a second

    train, held, labels = open_at_random(source, size, held_out, seed)
    train, held = replace(train, resizing=resizing), replace(held, resizing=resizing)
    return Dataset(train, held, labels)


def _tensor(indices: np.typing.NDArray[np.int64]) -> Tensor:
    return torch.from_numpy(indices)


def _check_all(found: Found, loaded: int) -> None:
    """Check that every image that was found is in one of the sets."""
    count = sum(len(part.images) for part in found.parts.values())
    if count != loaded:
        raise DataError(f"data: {found.source}: {count} images were found, and {loaded} loaded")
