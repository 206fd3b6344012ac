"""Two spellings of one class are named before training."""

from __future__ import annotations

import json
import re
import unicodedata
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow.parquet import write_table

from offramp.data.errors import DatasetError
from offramp.data.reader import read_dataset
from offramp.data.records import spellings
from tests.offramp.data.trees import encoded, photos, table

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))


def refused(source: Path) -> str:
    found = read_dataset(source)
    with pytest.raises(DatasetError) as raised:
        found.check_trainable()
    return str(raised.value)


@pytest.mark.parametrize(
    ("one", "other", "says"),
    [
        (COMPOSED, DECOMPOSED, r"'cafe\u0301' and 'caf\xe9' differ only in spaces, or in charact"),
        ("hot dog", "hot\u00a0dog", r"'hot dog' and 'hot\xa0dog' differ only in spaces, or in"),
        ("cat", "cat\u200b", r"'cat' and 'cat\u200b' differ only in spaces, or in characters"),
        ("hot dog", "hot  dog", r"'hot  dog' and 'hot dog' differ only in spaces, or in charact"),
    ],
)
def test_two_spellings_of_a_class_are_refused_with_both(
    tmp_path: Path, one: str, other: str, says: str
) -> None:
    remedy = "Give them one name, or rename one of them"
    photos(tmp_path / "one", [one, other, "fox"])
    photos(tmp_path / "two", [f"train/{one}", "train/fox", f"test/{other}"])
    text = f"file,label\na.png,{one}\nb.png,{other}\nin ner/c,fox\n"
    for source in (tmp_path / "one", tmp_path / "two", table(tmp_path / "three", text)):
        error = refused(source)
        assert re.match(rf"{re.escape(f'{source}: the classes {says}')}.*{remedy}$", error)


@pytest.mark.parametrize(("one", "other"), [("Cat", "cat"), ("STRASSE", "straße"), ("A", "a")])
def test_names_that_differ_in_case_are_two_classes_if_both_can_be_learnt(
    tmp_path: Path, one: str, other: str
) -> None:
    photos(tmp_path / "one", [one, other])
    found = read_dataset(tmp_path / "one")
    found.check_trainable()
    assert [*spellings(found.classes)] == [(one, other)]
    photos(tmp_path / "two", [f"train/{one}", "train/fox", f"test/{other}"])
    assert f"the classes {one} and {other} differ only in case or spaces" in refused(
        tmp_path / "two"
    )


def test_names_that_a_file_declares_for_numbers_can_look_alike(tmp_path: Path) -> None:
    rows = pa.table({"image": [encoded()] * 2, "label": [0, 1]})
    features = {"label": {"names": ["a b", "a  b"], "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    write_table(rows.replace_schema_metadata(metadata), tmp_path / "a.parquet")
    read_dataset(tmp_path).check_trainable()
    write_table(
        pa.table({"image": [encoded()] * 2, "label": ["a b", "a  b"]}), tmp_path / "a.parquet"
    )
    assert "differ only in spaces" in refused(tmp_path)
