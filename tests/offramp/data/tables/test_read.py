from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offramp.data.reader import read_dataset
from tests.offramp.data.trees import counts, error_of, loaded, put, reasons, table


@pytest.mark.parametrize(
    "text",
    [
        "file,label\na.png,cat\nin ner/c,dog\n",
        "\ufefffile_name,label\r\na.png,cat\r\nin ner/c,dog\r\n",
        "label;path;note\ncat;a.png;x\ndog;in ner/c;y\n",
        "Filename\tClass\na.png\tcat\nin ner/c\tdog",
        'file, label\n"a.png", cat\n"in ner/c", dog \n\n',
        "\n  \r\n\nfile,label\na.png,cat\n  \nin ner/c,dog\n",
        '{"file": "a.png", "label": "cat"}\n\n{"label": "dog", "file": "in ner/c"}\n',
    ],
)
def test_a_table_of_files_and_labels_is_read_relative_to_itself(tmp_path: Path, text: str) -> None:
    found = read_dataset(table(tmp_path / "[v1] set", text, "any name"))
    assert loaded(found) == {"train": {"a.png": "cat", "in ner/c": "dog"}}
    assert found.left_out == ()


def test_a_column_of_splits_is_read(tmp_path: Path) -> None:
    text = "file,label,split\na.png,cat,Train\nb.png,cat,val\nin ner/c,cat,test\n"
    found = read_dataset(table(tmp_path, text))
    assert counts(found) == {"train": {"cat": 1}, "validation": {"cat": 1}, "test": {"cat": 1}}
    assert "split is 'holdout', and it can be train, training" in error_of(
        table(tmp_path, "file,label,split\na.png,cat,holdout\n")
    )


def test_rows_that_are_left_out_are_named_with_their_reason(tmp_path: Path) -> None:
    put(tmp_path, "notes.txt", content=b"text")
    text = "file,label\na.png,cat\ngone.png,dog\nnotes.txt,cat\na.png,cat\nin ner,cat\n"
    found = read_dataset(table(tmp_path, text))
    assert counts(found) == {"train": {"cat": 1}}
    assert reasons(found) == {
        "gone.png (line 3)": "cannot be opened: No such file or directory",
        "notes.txt (line 4)": "is not an image in a format that is read",
        "a.png (line 5)": "is listed twice",
        "in ner (line 6)": "is not a regular file",
    }


def test_whole_numbers_are_ordered_by_value(tmp_path: Path) -> None:
    found = read_dataset(table(tmp_path, "file,label\na.png,10\nb.png,9\nin ner/c,-1\n"))
    assert found.classes == ("-1", "9", "10")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("file,label\na.png,\n", "line 2: label is empty. Give each image a label"),
        ("file,label\n,cat\n", "line 2: file is empty. Give the path of an image file"),
        ("file,label\na.png,cat\na.png,dog\n", "line 3: a.png is dog in train, and cat in train"),
        ("file,label\na.png\n", "line 2: has 1 cells, and the first line has 2"),
        ("file,note\na.png,cat\n", "has no label column, only file, note. Name it label"),
        ("name,label\na.png,cat\n", "has no file column, only name, label. Name it file"),
        ("file,path,label\na,b,c\n", "has the file columns file, path. Keep one of them"),
        ("file,label,label\na.png,cat,dog\n", "has two columns label"),
        ("file,label,,\na.png,cat,,\n", "has 2 columns without a name. Name them, or remove them"),
        ("file,label\n", "lists no image that can be read"),
        ("file,label\ngone.png,cat\n", "lists no image that can be read. gone.png (line 2) cannot"),
        ('{"file": "a.png", "label": null}\n', "line 1: label is null. Give each image a label"),
        ('{"file": "a.png", "label": ["x"]}\n', "line 1: label is a list. Give each image one"),
        ('{"file": "a.png", "label": 0.5}\n', "line 1: label is 0.5, which is neither a text"),
        ('{"file": null, "label": "x"}\n', "line 1: file is empty"),
        ('{"file": 12, "label": "x"}\n', "line 1: file is 12, and no text. Give the path of an"),
        ('{"file": "a.png"\n', "line 1: is not JSON"),
        ('{"file": "a.png", "label": "cat"}\n[1]\n', "line 2: is not a JSON object"),
        ('[{"file": "a.png", "label": "cat"}]\n', "is a JSON list. Write one JSON object on each"),
        ('file,label\n"a.png,cat\n', "unexpected end of data"),
        (
            '{"file": "a.png", "label": "\\ud83d"}\n',
            "label is '\\ud83d', which is not UTF-8",
        ),
        ('{"file": "a.png", "label": ' + "[" * 100_000, "line 1: is not JSON"),
        ('{"file": "a.png", "label": ' + "1" * 5000 + "}", "line 1: is not JSON"),
    ],
)
def test_a_cell_or_column_that_cannot_be_used_is_named(
    tmp_path: Path, text: str, says: str
) -> None:
    path = table(tmp_path, text)
    error = error_of(path)
    assert error.startswith(str(path))
    assert says in error


SPELLINGS = ("a.png", "./a.png", "in ner/../a.png", "../{}/a.png", "soft.png", "hard.png")


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(SPELLINGS),
            st.sampled_from(["cat", "cat", "cat", "dog"]),
            st.sampled_from(["train", "train", "train", "test"]),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_a_file_has_one_label_and_split_however_it_is_spelled(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str]]
) -> None:
    folder = tmp_path_factory.mktemp("spelled")
    lines = [f"{name.format(folder.name)},{label},{split}" for name, label, split in rows]
    path = table(folder, "file,label,split\n" + "\n".join(lines))
    (folder / "soft.png").symlink_to("a.png")
    (folder / "hard.png").hardlink_to(folder / "a.png")
    label, split = rows[0][1:]
    other = next((n for n, row in enumerate(rows) if row[1:] != (label, split)), None)
    if other is not None:
        error = error_of(path)
        assert f"line {other + 2}: " in error
        assert (
            f" is {rows[other][1]} in {rows[other][2]}, and {label} in {split} on line 2 (" in error
        )
        return
    found = read_dataset(path)
    assert counts(found) == {split: {label: 1}}
    assert set(reasons(found).values()) == ({"is listed twice"} if len(rows) > 1 else set())


def test_a_table_that_is_not_utf_8_says_so(tmp_path: Path) -> None:
    path = table(tmp_path, "")
    path.write_bytes("file,label\na.png,Zürich".encode("latin-1"))
    assert "is not UTF-8: invalid start byte at byte 18" in error_of(path)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("text", ["file,label\na.png,cat\n", "\nfile,label\na.png,cat", "f"])
def test_a_table_in_utf_16_says_so(tmp_path: Path, text: str, encoding: str) -> None:
    path = table(tmp_path, "")
    path.write_bytes(text.encode(encoding))
    assert error_of(path) == f"{path} is text in UTF-16. Save it in UTF-8"


@pytest.mark.parametrize("text", ["f", "fi"])
def test_a_short_table_is_no_utf_16(tmp_path: Path, text: str) -> None:
    assert f"has no file column, only {text}" in error_of(table(tmp_path, text))


def test_long_numbers_are_ordered_by_value(tmp_path: Path) -> None:
    long = "1" * 5000
    found = read_dataset(table(tmp_path, f"file,label\na.png,{long}\nb.png,2\nin ner/c,-3\n"))
    assert found.classes == ("-3", "2", long)


def test_numbers_are_labels_in_json(tmp_path: Path) -> None:
    rows = [{"file": "a.png", "label": 2}, {"file": "b.png", "label": 10.0}]
    found = read_dataset(table(tmp_path, "\n".join(map(json.dumps, rows))))
    assert found.classes == ("2", "10")
