from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow.parquet import write_table

from offramp.data.errors import DatasetError
from offramp.inputs.datasets import find_images, read_examples
from tests.offramp.pictures import files, write_files, write_parquet

LABELS = ("cat", "dog", "eel")


def names(paths: list[Path]) -> list[str]:
    return [item.name for item in find_images(paths)]


def test_images_are_found_in_files_folders_and_parquet(tmp_path: Path) -> None:
    inner = write_files(tmp_path / "a" / "b", 2)
    (tmp_path / "a" / "notes.txt").write_text("none")
    (tmp_path / "a" / "UPPER.TXT").write_bytes(files(1)[0])
    (tmp_path / "a" / "empty.png").write_bytes(b"")
    odd = tmp_path / "photo.heic"
    odd.write_bytes(b"?")
    rows = write_parquet(tmp_path / "rows.parquet", files(3))
    found = find_images([odd, tmp_path / "a", rows, odd])
    assert [item.name for item in found] == [
        str(odd),
        str(tmp_path / "a" / "UPPER.TXT"),
        *map(str, inner),
        *(f"{rows}#{number}" for number in range(3)),
    ]
    assert len(found) == 7
    assert [str(each) for each in found.left_out] == [
        f"{tmp_path}/a/empty.png is empty",
        f"{tmp_path}/a/notes.txt is not an image in a format that is read",
    ]
    with pytest.raises(DatasetError, match=r"2 left out, and --strict .*notes\.txt is not an"):
        find_images([tmp_path / "a"], strict=True)


def test_a_table_without_images_beside_images_is_left_out(tmp_path: Path) -> None:
    (path,) = write_files(tmp_path, 1)
    rows = write_parquet(tmp_path / "rows.parquet", files(1))
    write_table(pa.table({"file": ["a.png"], "label": ["cat"]}), tmp_path / "answers.parquet")
    found = find_images([tmp_path])
    assert [item.name for item in found] == [str(path), f"{rows}#0"]
    assert [str(each) for each in found.left_out] == [
        f"{tmp_path}/answers.parquet is a parquet file without an image column"
    ]
    (tmp_path / "rows.parquet").write_bytes(b"PAR1")
    with pytest.raises(DatasetError, match="cannot be read as a parquet file"):
        find_images([tmp_path])


@pytest.mark.parametrize("name", ["no/such", "empty"])
def test_a_path_without_images_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match=name):
        find_images([tmp_path / name])


def test_parquet_images_are_bytes_or_paths(tmp_path: Path) -> None:
    image = files(1)[0]
    cells = [
        {"bytes": image, "path": "a.png"},
        {"bytes": None, "path": "b.png"},
        {"bytes": None, "path": None},
        None,
    ]
    write_table(pa.table({"img": cells}), tmp_path / "a.parquet")
    write_table(pa.table({"jpg": [image]}), tmp_path / "b.parquet")
    found = [item.image for item in find_images([tmp_path])]
    assert found == [image, tmp_path / "b.png", b"", b"", image]


def test_a_file_that_is_no_parquet_or_has_no_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(DatasetError, match="cannot be read as a parquet file"):
        find_images([tmp_path / "a.parquet"])
    write_table(pa.table({"text": ["a"]}), tmp_path / "b.parquet")
    with pytest.raises(DatasetError, match="no image column, only text"):
        find_images([tmp_path / "b.parquet"])


def test_a_folder_has_one_folder_for_each_class(tmp_path: Path) -> None:
    for label in ("dog", "cat"):
        write_files(tmp_path / label, 2)
    (tmp_path / ".cache").mkdir()
    (tmp_path / "README.txt").write_text("none")
    examples = list(read_examples(tmp_path, LABELS))
    assert [(Path(each.name).parent.name, each.label) for each in examples] == [
        ("cat", 0),
        ("cat", 0),
        ("dog", 1),
        ("dog", 1),
    ]


def test_a_class_that_the_model_does_not_have_is_refused(tmp_path: Path) -> None:
    write_files(tmp_path / "fox", 1)
    with pytest.raises(DatasetError, match="no label 'fox'; its labels are cat, dog, eel"):
        list(read_examples(tmp_path, LABELS))


def test_a_folder_without_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="has no images in folders"):
        list(read_examples(tmp_path, LABELS))
    with pytest.raises(DatasetError, match="there is no file or folder"):
        list(read_examples(tmp_path / "no", LABELS))


def test_parquet_labels_are_matched_by_name(tmp_path: Path) -> None:
    write_parquet(tmp_path / "text.parquet", files(2), label=["eel", "cat"])
    features = {"label": {"names": ["eel", "cat"], "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    table = pa.table({"img": files(2), "label": [0, 1]}).replace_schema_metadata(metadata)
    write_table(table, tmp_path / "numbers.parquet")
    for name in ("text", "numbers"):
        found = list(read_examples(tmp_path / f"{name}.parquet", LABELS))
        assert [each.label for each in found] == [2, 0]


@pytest.mark.parametrize("value", ["fox", 5])
def test_a_parquet_label_that_the_model_does_not_have_is_refused(
    tmp_path: Path, value: object
) -> None:
    path = write_parquet(tmp_path / "a.parquet", files(1), label=[value])
    with pytest.raises(DatasetError, match=f"{path}#0: the model has no label '{value}'"):
        list(read_examples(path, LABELS))


def test_a_class_number_out_of_range_is_refused(tmp_path: Path) -> None:
    features = {"label": {"names": ["eel", "cat"], "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    for value in (-1, 2):
        table = pa.table({"img": files(1), "label": [value]}).replace_schema_metadata(metadata)
        write_table(table, tmp_path / "a.parquet")
        with pytest.raises(DatasetError, match=f"row 0: label is {value}, and the classes are 0"):
            list(read_examples(tmp_path / "a.parquet", LABELS))


def test_of_several_splits_the_test_split_is_read(tmp_path: Path) -> None:
    for name in ("train-0", "validation-0", "test-0", "test-1"):
        write_parquet(tmp_path / f"{name}.parquet", files(1), label=["cat"])
    read = [Path(each.name).name for each in read_examples(tmp_path, LABELS)]
    assert read == ["test-0.parquet#0", "test-1.parquet#0"]


def test_strict_refuses_files_that_are_left_out(tmp_path: Path) -> None:
    write_files(tmp_path / "cat", 1)
    (tmp_path / "notes.txt").write_text("notes")
    examples = read_examples(tmp_path, LABELS)
    assert [each.name for each in examples.left_out] == ["notes.txt"]
    with pytest.raises(DatasetError, match=r"--strict refuses that: notes\.txt is not an image"):
        read_examples(tmp_path, LABELS, strict=True)


def test_reading_needs_no_torch_and_parquet_names_its_extra(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", files(1))
    program = (
        "import sys; sys.modules['pyarrow'] = None; sys.modules['torch'] = None\n"
        "from pathlib import Path\n"
        "from offramp.inputs.datasets import DatasetError, find_images\n"
        f"try:\n    find_images([Path({str(path)!r})])\n"
        "except DatasetError as error:\n    print(error)"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    assert done.stdout.endswith("pip install 'offramp[parquet]'\n")


def test_a_label_in_another_unicode_form_is_named_as_such(tmp_path: Path) -> None:
    write_files(tmp_path / "cafe\u0301", 1)
    with pytest.raises(DatasetError) as raised:
        read_examples(tmp_path, ("cat", "caf\xe9"))
    assert str(raised.value).endswith(
        r"its labels are cat, café. 'cafe\u0301' and 'caf\xe9' differ only in spaces, or in "
        "characters that look alike. Write the label as the second"
    )
