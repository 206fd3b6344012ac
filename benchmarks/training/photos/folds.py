"""Write the tables of a cross-validation: each image is a test image in one of them.

The images of all splits of a data set are copied to OUT/images, and parted by class into folds of
equal size. OUT/fold0.csv has the images of the first fold as test split and all others as training
images, and so on. Commands that train rows with several seeds take one table for each seed:

    python -m benchmarks.training.photos.folds --data my/photos --out folds
    python -m benchmarks.training.photos.static --data 'folds/fold{seed}.csv' --seeds 5 ...
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.timing import positive_int
from offramp.data.errors import DatasetError
from offramp.data.held_out import in_random_order
from offramp.data.reader import read_dataset
from offramp.data.records import Found


def fold_of(targets: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.int64]:
    """Draw the fold of each image. Folds, and a class in them, differ by one image at most.

    Args:
        targets: Class of each image, int64 [N].
        folds: Number of folds.
        seed: Seed of the draw.
    """
    order = in_random_order(len(targets), seed)
    by_class = order[np.argsort(targets[order], kind="stable")]
    drawn = np.empty(len(targets), np.int64)
    drawn[by_class] = np.arange(len(targets)) % folds
    return drawn


def write_images(found: Found, folder: Path) -> Iterator[tuple[str, int]]:
    """Write the encoded images of all splits. Yield the path and the class of each."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, part in found.parts.items():
        for number, (image, target) in enumerate(zip(part.images, part.targets, strict=True)):
            name = f"{split}-{number:06}"
            (folder / name).write_bytes(image.read())
            yield f"{folder.name}/{name}", int(target)


def write_tables(found: Found, out: Path, folds: int, seed: int) -> list[Path]:
    """Write the images of a data set and a table for each fold. Return the paths of the tables.

    Raises:
        OSError: An image cannot be read, or a file not be written.
    """
    rows = list(write_images(found, out / "images"))
    drawn = fold_of(np.array([target for _, target in rows]), folds, seed)
    tables = [out / f"fold{fold}.csv" for fold in range(folds)]
    for fold, table in enumerate(tables):
        with table.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["file", "label", "split"])
            for (name, target), own in zip(rows, drawn.tolist(), strict=True):
                split = "test" if own == fold else "train"
                writer.writerow([name, found.classes[target], split])
    return tables


def build_parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    option, required = parser.add_argument, argparse.SUPPRESS
    option("--data", required=True, default=required, help="file or folder of labelled images")
    option("--out", type=Path, required=True, default=required, help="folder of the tables")
    option("--folds", type=positive_int, default=5, help="number of tables")
    option("--seed", type=int, default=0, help="seed of the draw")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Write the tables and return the exit status, 1 for a user's error."""
    given = build_parser().parse_args(argv)
    try:
        tables = write_tables(read_dataset(given.data), given.out, given.folds, given.seed)
    except (DatasetError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("\n".join(str(table) for table in tables))
    return 0


if __name__ == "__main__":
    sys.exit(main())
