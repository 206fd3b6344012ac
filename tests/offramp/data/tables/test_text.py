"""The text of tables: what has one reading is read, and what has two is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from offramp.data.errors import DatasetError
from offramp.data.reader import read_dataset
from offramp.data.tables.text import rows_in
from tests.offramp.data.trees import error_of, loaded, table


@pytest.mark.parametrize(
    "text",
    [
        'file,label\na.png, "cat"\nin ner/c,  "dog"\n',
        '"file", "label"\n"a.png", cat\nin ner/c, "dog"\n',
        '"file"; "label"\na.png; "cat"\nin ner/c;dog\n',
        "file;label\ra.png;cat\rin ner/c;dog\r",
        "file,label\ra.png,cat\rin ner/c,dog",
        "sep=;\nfile;label\na.png;cat\nin ner/c;dog\n",
        '\ufeff"sep=,"\r\nfile,label\r\na.png,cat\r\nin ner/c,dog\r\n',
        "SEP=\t\nfile\tlabel\na.png\tcat\nin ner/c\tdog\n",
        '{"file": "a.png", "label": "cat"}\r{"file": "in ner/c", "label": "dog"}\r',
    ],
)
def test_spaces_before_quotation_marks_any_line_ends_and_a_line_of_excel_are_read(
    tmp_path: Path, text: str
) -> None:
    found = read_dataset(table(tmp_path, text))
    assert loaded(found) == {"train": {"a.png": "cat", "in ner/c": "dog"}}
    assert found.left_out == ()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('file,label\na.png,"cat\nb.png,dog"\n', ", line 2: label goes on in the next line. Close"),
        ('file,label,note\na.png,cat,"x\nb.png,dog,y"\n', ", line 2: note goes on in the next"),
        ('file,label\nb.png,dog\na.png,"cat\n', ", line 3: unexpected end of data. Check the quot"),
        ("file,label\na.png,c\x07at\n", ", line 2: label is c\\x07at, which has a control charact"),
        ("file,label\na\u2028.png,cat\n", ", line 2: file is a\\u2028.png, which has a control"),
        ('{"file": "a.png", "label": "c\\nat"}', ", line 1: label is c\\nat, which has a control"),
        ("sep=|\nfile|label\n", ", line 1: the delimiter is |. Use a comma, a semicolon or a tab"),
        ("sep=\nfile,label\n", ", line 1: the delimiter is missing. Use a comma"),
        ("sep=;\n", " has no first line with the names of columns"),
    ],
)
def test_text_that_takes_other_rows_or_cannot_be_shown_names_its_line(
    tmp_path: Path, text: str, says: str
) -> None:
    path = table(tmp_path, text)
    assert error_of(path).startswith(f"{path}{says}")


ROW = '{"file": "a.png", "label": "cat"}\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("file,label,Label\na.png,cat,1\n", " has the columns label and Label. Keep one of them"),
        ("file,File,label\na.png,b.png,cat\n", " has the columns file and File. Keep one of them"),
        ("file,label,split,Split\n", " has the columns split and Split. Keep one of them"),
        (
            '{"file": "a.png", "label": "cat", "LABEL": "dog"}',
            ", line 1 has the columns label and LABEL. Keep one of them",
        ),
        (
            '{"file": "a.png", "label": "cat", "label": "dog"}',
            ", line 1: has two values of label. Keep one of them",
        ),
        (
            ROW.replace("}", ', "split": "train"}') + "\n" + ROW,
            ", line 3: has the columns file, label, and line 1 has file, label, split. Give each",
        ),
        (
            ROW + ROW.replace("label", "class"),
            ", line 2: has the columns file, class, and line 1 has file, label. Give each row the",
        ),
    ],
)
def test_columns_and_keys_are_not_guessed_between(tmp_path: Path, text: str, says: str) -> None:
    path = table(tmp_path, text)
    assert error_of(path).startswith(f"{path}{says}")


def test_other_columns_can_differ(tmp_path: Path) -> None:
    text = ROW.replace("}", ', "note": 1, "Note": 2}') + '{"label": "dog", "file": "b.png"}'
    assert loaded(read_dataset(table(tmp_path, text))) == {
        "train": {"a.png": "cat", "b.png": "dog"}
    }


def test_line_ends_in_other_columns_and_keys_twice_inside_a_cell_are_read(tmp_path: Path) -> None:
    text = 'file,label,text\na.png,cat,"first\nsecond, third"\nb.png,dog,x\n'
    rows = [*rows_in(text, tmp_path / "a.csv")]
    assert [row["label"] for _, row in rows] == ["cat", "dog"]
    (row,) = rows_in('{"file": "a.png", "label": "cat", "boxes": {"x": 1, "x": 2}}', tmp_path)
    assert row[1]["label"] == "cat"


def test_a_cell_of_another_column_that_holds_a_row_is_refused(tmp_path: Path) -> None:
    text = 'file,label,text\na.png,cat,"first\nb.png,dog,second\nc.png,dog,third"\n'
    with pytest.raises(DatasetError, match="line 2: text goes on in the next line"):
        [*rows_in(text, tmp_path / "a.csv")]
