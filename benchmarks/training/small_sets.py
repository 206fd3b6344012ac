"""Run the three commands of the README on small sets of photos, and check what they read.

    python -m benchmarks.training.small_sets [--epochs N] [--out FOLDER]

The sets are 300 photos in 5 folders, the same in folders within the class folders, the same in
Train, Valid and Test, and the same in one folder with a CSV of labels. Each photo is random noise
on the colour of its class. For each set the table of `offramp train` is printed, and the labels
and the number of held-out images of the bundle that `offramp export` makes.
"""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from offramp.bundle.manifest import read_manifest
from offramp.cli import main as offramp
from offramp.data.reader import read_dataset
from offramp.data.summary import summarize

CLASSES = ("car", "daisy", "fern", "sun", "zebra")
PHOTOS = 60  # of each class
SIZE = (320, 240)  # width and height, in pixels
SPLITS = {"Train": 40, "Valid": 10, "Test": 10}


@dataclass(frozen=True, slots=True)
class SmallSet:
    """A set of photos.

    Attributes:
        name: What is special about it.
        source: Folder or table to give as --data.
        counts: Images of each class in each split.
    """

    name: str
    source: Path
    counts: dict[str, int]


@cache
def photo(label: int, number: int) -> bytes:
    """Return a JPEG of random noise on the colour of a class, which all sets have."""
    rng = np.random.default_rng((label, number))
    pixels = rng.integers(0, 120, (SIZE[1] // 8, SIZE[0] // 8, 3))
    pixels[..., label % 3] += 100
    pixels[..., (label + 1) % 3] += 20 * label
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).resize(SIZE).save(file, "JPEG")
    return file.getvalue()


def write_photos(root: Path, name: Callable[[str, int], str]) -> Path:
    """Write the photos of all classes under the names that `name` gives, and return the root."""
    for label, text in enumerate(CLASSES):
        for number in range(PHOTOS):
            path = root / name(text, number)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(photo(label, number))
    return root


def small_sets(folder: Path) -> Iterator[SmallSet]:
    """Write the sets into a folder, one after the other."""
    alone = {"train": PHOTOS}
    root = write_photos(folder / "5 folders", lambda label, i: f"{label}/IMG_{i:04} train.jpg")
    yield SmallSet("5 folders", root, alone)
    root = write_photos(folder / "nested", lambda label, i: f"{label}/{2020 + i % 3}/{i}.jpg")
    yield SmallSet("nested", root, alone)
    root = write_photos(folder / "splits", lambda label, i: f"{_split(i)}/{label}/{i}.jpg")
    counts = {"train": SPLITS["Train"], "validation": SPLITS["Valid"], "test": SPLITS["Test"]}
    yield SmallSet("Train/Valid/Test", root, counts)
    root = write_photos(folder / "table", lambda label, i: f"photos/{label}-{i}.jpg")
    with (root / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "label"])
        writer.writerows([f"photos/{c}-{i}.jpg", c] for c in CLASSES for i in range(PHOTOS))
    yield SmallSet("CSV", root / "labels.csv", alone)


def _split(number: int) -> str:
    return next(
        split
        for split, end in zip(SPLITS, np.cumsum([*SPLITS.values()]), strict=True)
        if number < end
    )


def check_read(found: SmallSet) -> None:
    """Check that the reader finds the classes and counts of a set.

    Raises:
        AssertionError: It does not.
    """
    read = read_dataset(found.source)
    assert read.classes == CLASSES, read.classes
    assert not read.left_out, read.left_out
    counts = summarize(read).counts
    expected = {split: [each] * len(CLASSES) for split, each in found.counts.items()}
    assert {split: count.tolist() for split, count in counts.items()} == expected, counts


def run_commands(found: SmallSet, out: Path, options: Sequence[str]) -> None:
    """Train, export and evaluate as the README says, and print classes and counts.

    Args:
        found: The set.
        out: Folder of the run and of the bundle.
        options: Options of `offramp train` beside those of the README.

    Raises:
        AssertionError: The bundle has other labels.
        SystemExit: A command fails.
    """
    run, bundle = out / "run", out / "bundle"
    _offramp("train", "cifar-compact", "--data", str(found.source), "--out", str(run), *options)
    print((run / "data.txt").read_text(encoding="utf-8"), end="")
    _offramp("export", "--checkpoint", str(run / "checkpoint.safetensors"), "--out", str(bundle))
    manifest = read_manifest(bundle)
    print(
        f"  bundle: {', '.join(manifest.labels)}; {manifest.provenance.train_images} training and "
        f"{manifest.held_out.images} held-out images"
    )
    assert manifest.labels == CLASSES
    print(
        _offramp("evaluate", "--bundle", str(bundle), "--data", str(found.source)).splitlines()[0]
    )


def _offramp(*words: str) -> str:
    """Run a command in this process, and return what it prints."""
    with redirect_stdout(io.StringIO()) as printed:
        code = offramp(words)
    if code:
        raise SystemExit(f"offramp {' '.join(words)}: exit code {code}\n{printed.getvalue()}")
    return printed.getvalue()


def main() -> None:
    """Run the commands on every set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=20, help="passes over the images (20)")
    parser.add_argument("--out", type=Path, help="folder for sets and runs (a temporary one)")
    arguments = parser.parse_args()
    with TemporaryDirectory() as temporary:
        folder = arguments.out or Path(temporary)
        for number, found in enumerate(small_sets(folder / "sets")):
            print(f"{found.name}:")
            check_read(found)
            run_commands(found, folder / str(number), ["--epochs", str(arguments.epochs)])


if __name__ == "__main__":
    main()
