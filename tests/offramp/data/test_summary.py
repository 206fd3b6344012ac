from __future__ import annotations

from pathlib import Path

import pytest

from offramp.data.reader import read_dataset
from offramp.data.records import printable
from offramp.data.summary import summarize
from tests.offramp.data.trees import encoded, photos, put


def test_the_table_has_classes_counts_sizes_formats_and_what_is_left_out(tmp_path: Path) -> None:
    photos(tmp_path, ["train/cat", "train/dog [v1]"], 4)
    photos(tmp_path, ["test/cat"], 1)
    put(tmp_path, "train/cat/large.jpg", content=encoded("JPEG", (40, 30)))
    put(tmp_path, "train/notes.txt", content=b"text")
    put(tmp_path, ".DS_Store", content=b"litter")
    assert [*summarize(read_dataset(tmp_path)).lines()] == [
        f"data: {tmp_path}: 2 classes, 10 images",
        "  class        train      test",
        "  cat              5         1",
        "  dog [v1]         4         0",
        "  all              9         1",
        "  sizes: 4 x 3 to 40 x 30 pixels, median 4 x 3",
        "  formats: 9 PNG, 1 JPEG",
        "  left out: 1",
        "    train/notes.txt is not an image in a format that is read",
        "  hidden files and litter of file managers: 1",
    ]


def test_the_formats_are_those_of_the_images_that_are_counted(tmp_path: Path) -> None:
    photos(tmp_path, ["cat", "dog"], 2)
    put(tmp_path, "beside.jpg", content=encoded("JPEG"))
    (tmp_path / "cat" / "link.png").symlink_to(tmp_path / "cat" / "0.png")
    assert "  formats: 4 PNG" in summarize(read_dataset(tmp_path)).lines()


def test_many_classes_and_names_are_shortened_only_on_the_console(tmp_path: Path) -> None:
    for number in range(60):
        photos(tmp_path, [f"class {number:02}"], 1 + (number < 3))
    put(tmp_path, *(f"{number}.txt" for number in range(30)), content=b"text")
    summary = summarize(read_dataset(tmp_path))
    shown = [*summary.lines()]
    assert "  10 more, with as many images or more        13" in shown
    assert "    and 10 more" in shown
    assert len([line for line in shown if line.startswith("  class ")]) == 51
    whole = [*summary.lines(classes=None, names=None)]
    assert len([line for line in whole if line.startswith("  class ")]) == 61
    assert len([line for line in whole if line.endswith("in a format that is read")]) == 30


@pytest.mark.parametrize(
    ("name", "shown"),
    [("a\nb", "a\\nb"), ("x\udcff", "x\\xff"), ("\x1b[0m", "\\x1b[0m"), ("寿", "寿")],
)
def test_names_are_printed_on_one_line(name: str, shown: str) -> None:
    assert printable(name) == shown
