"""Bundle and images of the checks."""

from __future__ import annotations

from pathlib import Path

from pyarrow.parquet import read_table

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "deploy" / "bundles" / "cifar10-msdnet"


def images() -> list[bytes]:
    """Return 500 images of the CIFAR-10 test set, as encoded files."""
    table = read_table(ROOT / "tests" / "data" / "cifar10-500.parquet")
    return [image["bytes"] for image in table["img"].to_pylist()]
