"""Damaged parquet files: every way to read one ends in an error that names it."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow.parquet import write_table

from offramp.data.errors import DatasetError
from offramp.data.reader import read_dataset
from offramp.data.unlabelled import read_unlabelled
from offramp.inputs.datasets import find_images
from tests.offramp.data.trees import encoded

REMEDY = "Download or write it again"


def packed(compression: str) -> bytes:
    images = [{"bytes": encoded(), "path": f"{row}.png"} for row in range(8)]
    table = pa.table({"image": images, "label": ["cat", "dog"] * 4})
    write_table(table, file := io.BytesIO(), compression=compression)
    return file.getvalue()


WHOLE = tuple(packed(compression) for compression in ("snappy", "none", "zstd"))


def errors_of(path: Path) -> Iterator[str]:
    """Read a file as training, evaluation, training without labels, and classification do."""
    for images in (
        lambda: read_dataset(path).parts["train"].images,
        lambda: read_unlabelled(path).parts["train"].images,
        lambda: find_images([path]),
    ):
        try:
            deque(images(), maxlen=0)
        except DatasetError as error:
            yield str(error)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    whole=st.sampled_from(WHOLE),
    at=st.floats(0, 1, exclude_max=True),
    change=st.binary(min_size=1, max_size=40),
)
def test_any_changed_bytes_give_an_error_that_names_the_file(
    tmp_path_factory: pytest.TempPathFactory, whole: bytes, at: float, change: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "changed.parquet"
    start = 4 + int(at * (len(whole) - 12))
    path.write_bytes((whole[:start] + change + whole[start + len(change) :])[: len(whole)])
    for error in errors_of(path):
        assert str(path) in error
        assert "\n" not in error


@pytest.mark.parametrize("length", [4, 100, -1])
def test_a_file_that_was_cut_off_has_a_remedy(tmp_path: Path, length: int) -> None:
    path = tmp_path / "short.parquet"
    path.write_bytes(WHOLE[0][:length])
    with pytest.raises(DatasetError, match=rf"^{path} cannot be read .* {REMEDY}$"):
        read_dataset(path)
    with pytest.raises(DatasetError, match=rf"^{path} cannot be read .* {REMEDY}$"):
        find_images([path])


def test_text_that_is_not_utf_8_has_a_remedy(tmp_path: Path) -> None:
    path = tmp_path / "latin.parquet"
    path.write_bytes(packed("none").replace(b"dog", b"d\xf6g"))
    with pytest.raises(DatasetError, match=rf"^{path} cannot be read .*utf-8.* {REMEDY}$"):
        read_dataset(path)


def test_a_path_that_is_too_long_names_its_row(tmp_path: Path) -> None:
    path = tmp_path / "long.parquet"
    write_table(pa.table({"image": ["a" * 5000], "label": ["cat"]}), path)
    with pytest.raises(DatasetError, match="row 0: image: there is no file "):
        read_dataset(path)
