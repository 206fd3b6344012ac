"""Types that a parquet file declares for its columns, of any form."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow.parquet import write_table

from offramp.data.errors import DatasetError
from offramp.data.reader import read_dataset
from tests.offramp.data.trees import encoded, error_of

KEYS = st.sampled_from(["info", "features", "label", "image", "names", "_type"])
JSON = st.recursive(
    st.sampled_from([None, True, 0, 7, 1e400, float("nan"), "", " ", "a", "\ud800", "Image"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=2),
    max_leaves=4,
)


def label_type(kind: object) -> bytes:
    return json.dumps({"info": {"features": {"label": kind}}}).encode()


METADATA = st.one_of(
    st.binary(max_size=20),
    JSON.map(lambda value: json.dumps(value).encode()),
    JSON.map(lambda value: json.dumps({"info": value}).encode()),
    JSON.map(lambda value: json.dumps({"info": {"features": value}}).encode()),
    JSON.map(label_type),
    JSON.map(lambda names: label_type({"_type": "ClassLabel", "names": names})),
)


def write(path: Path, metadata: bytes) -> Path:
    table = pa.table({"image": [encoded()] * 3, "label": [0, 1, 0]})
    write_table(table.replace_schema_metadata({b"huggingface": metadata}), path)
    return path


@settings(max_examples=50, deadline=None)
@given(METADATA)
def test_types_of_any_form_give_labels_or_an_error_with_the_path(
    tmp_path_factory: pytest.TempPathFactory, metadata: bytes
) -> None:
    path = write(tmp_path_factory.getbasetemp() / "typed.parquet", metadata)
    classes: tuple[str, ...] = ()
    error = f"{path}"
    try:
        classes = read_dataset(path).classes
    except DatasetError as raised:
        error = str(raised)
    assert str(path) in error
    assert all(type(label) is str for label in classes)
    assert all(label.strip() for label in classes)


@pytest.mark.parametrize(
    "metadata",
    [
        b"{oops",
        b"[" * 100_000,
        label_type(None),
        label_type({"_type": "ClassLabel", "names": None}),
        label_type({"_type": "ClassLabel", "names": [7, 8]}),
        label_type({"_type": "ClassLabel", "names": "ab"}),
    ],
)
def test_types_that_are_not_of_the_form_are_ignored(tmp_path: Path, metadata: bytes) -> None:
    assert read_dataset(write(tmp_path / "a.parquet", metadata)).classes == ("0", "1")


@pytest.mark.parametrize("name", ["", " ", "\ud800"])
def test_a_declared_name_that_is_no_label_names_its_row(tmp_path: Path, name: str) -> None:
    metadata = label_type({"_type": "ClassLabel", "names": ["cat", name]})
    path = write(tmp_path / "a.parquet", metadata)
    assert f"{path}, row 1: label is " in error_of(path)
