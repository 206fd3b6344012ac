from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from pyarrow import parquet

from serving.images.decoder import decode
from tests.training.data.insects import image_folder
from tests.training.samples import LABELS, PARQUET, tiny_dataset
from training.data.datasets import load_dataset, open_dataset
from training.data.hub.names import hub_name
from training.data.images import image_input
from training.data.splits import load_files, load_split
from training.errors import DataError


def test_a_parquet_file_becomes_tensors_of_two_disjoint_sets() -> None:
    dataset = tiny_dataset()
    assert dataset.labels == LABELS
    assert dataset.train.pixels.shape == (400, 32, 32, 3)
    assert dataset.train.pixels.dtype == torch.uint8
    both = torch.cat([dataset.train.pixels, dataset.held_out.pixels]).flatten(1)
    assert len(both.unique(dim=0)) == 500


def test_pixels_and_labels_stay_together() -> None:
    import datasets  # late: takes seconds

    source = datasets.load_dataset("parquet", data_files=str(PARQUET))["train"]
    dataset = tiny_dataset()
    found = {
        p.numpy().tobytes(): int(t)
        for p, t in zip(
            torch.cat([dataset.train.pixels, dataset.held_out.pixels]),
            torch.cat([dataset.train.targets, dataset.held_out.targets]),
            strict=True,
        )
    }
    for row in source.select(range(20)):
        assert found[np.asarray(row["img"].convert("RGB")).tobytes()] == row["label"]


@pytest.mark.parametrize(
    "names",
    [
        ("train-00000.parquet", "test-00000.parquet", "val-0.parquet"),
        ("default/train/0000.parquet", "default/test/0000.parquet", "default/validation/0.parquet"),
    ],
)
def test_other_splits_are_not_used_for_training(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PARQUET, tmp_path / name)
    dataset = load_dataset(str(tmp_path), 32, held_out=50, seed=0)
    assert (len(dataset.train), len(dataset.held_out)) == (500, 500)
    assert len(load_files(str(tmp_path), "test", LABELS)) == 500


def test_a_file_of_no_known_split_raises_an_error_that_names_it(tmp_path: Path) -> None:
    for name in ("train.parquet", "extra.parquet"):
        shutil.copy(PARQUET, tmp_path / name)
    with pytest.raises(DataError, match=r"extra\.parquet is of no known split"):
        load_dataset(str(tmp_path), 32, held_out=50, seed=0)


def test_the_fingerprint_changes_with_splits_and_labels() -> None:
    dataset = tiny_dataset()
    others = [
        load_dataset(str(PARQUET), 32, held_out=100, seed=1),
        load_dataset(str(PARQUET), 32, held_out=101, seed=0),
        replace(dataset, labels=dataset.labels[::-1]),
        replace(dataset, train=dataset.held_out),
    ]
    assert len({d.fingerprint() for d in (dataset, *others)}) == 5
    again = load_dataset(str(PARQUET), 32, held_out=100, seed=0)
    assert again.fingerprint() == dataset.fingerprint()


def test_a_folder_of_images_by_class_is_resized(tmp_path: Path) -> None:
    dataset = load_dataset(str(image_folder(tmp_path / "insects")), 24, held_out=4, seed=0)
    assert dataset.labels == ("ant", "bee")
    assert dataset.train.pixels.shape == (8, 24, 24, 3)
    targets = torch.cat([dataset.train.targets, dataset.held_out.targets])
    assert sorted(targets.tolist()) == [0] * 6 + [1] * 6


@pytest.mark.parametrize(
    ("source", "says"),
    [("/nowhere/at/all", "no file or folder"), ("./nor-here", "no file or folder")],
)
def test_a_missing_source_raises_an_error(source: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        load_dataset(source, 32, 10, 0)


def test_an_undecodable_image_raises_an_error_that_names_it(tmp_path: Path) -> None:
    import datasets  # late: takes seconds

    image = load_files(str(PARQUET), "train", LABELS)[0].encoded
    stored = [{"bytes": each, "path": None} for each in (b"no image", image, image)]
    table = {"image": stored, "label": [0, 1, 0]}
    datasets.Dataset.from_dict(table).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(DataError, match=r"train\.parquet#0 is not an image"):
        load_dataset(str(tmp_path), 32, 1, 0)


def test_rows_are_in_the_split_of_their_column_whatever_types_are_declared(tmp_path: Path) -> None:
    table = parquet.read_table(PARQUET).slice(0, 300)
    splits = ["train", "test", "val"] * 100
    table = table.append_column("split", [splits]).replace_schema_metadata({"huggingface": "{oops"})
    parquet.write_table(table, tmp_path / "mine.parquet")
    dataset = open_dataset(str(tmp_path), 32, held_out=None, seed=0)
    stored = table["img"].to_pylist()
    for images, first in ((dataset.train, 0), (dataset.test, 1), (dataset.held_out, 2)):
        assert images is not None
        expected = sorted(cell["bytes"] for cell in stored[first::3])
        assert sorted(file.encoded for file in images.files()) == expected


def test_a_missing_column_raises_an_error_that_lists_the_columns(tmp_path: Path) -> None:
    import datasets  # late: takes seconds

    datasets.Dataset.from_dict({"text": ["a", "b"]}).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(DataError, match="no label column, only text"):
        load_dataset(str(tmp_path), 32, 1, 0)


def test_training_and_serving_decode_images_alike(tmp_path: Path) -> None:
    """The images are a rotated JPEG, one with transparency and one of 16 bits."""
    rng = np.random.default_rng(0)
    photo = Image.fromarray(rng.integers(0, 256, (90, 120, 3), dtype=np.uint8))
    deep = Image.fromarray(rng.integers(0, 65536, (50, 40), dtype=np.uint16))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    for label in ("ant", "bee"):
        (tmp_path / label).mkdir()
        photo.save(tmp_path / label / "rotated.jpg", exif=exif)
        photo.convert("RGBA").rotate(30).save(tmp_path / label / "transparent.png")
        deep.save(tmp_path / label / "deep.png")
    dataset = load_dataset(str(tmp_path), 24, held_out=1, seed=0)
    trained = torch.cat([dataset.train.pixels, dataset.held_out.pixels])
    for path in tmp_path.rglob("*.*"):
        served = torch.tensor(decode(path.read_bytes(), image_input(24), 10**6))
        assert int((trained == served).flatten(1).all(1).sum()) == 2, path.name


def test_a_path_with_brackets_is_a_path(tmp_path: Path) -> None:
    folder = tmp_path / "set [v1] *?"
    folder.mkdir()
    shutil.copy(PARQUET, folder / "train-0 [a].parquet")
    dataset = open_dataset(str(folder), 32, held_out=100, seed=0)
    assert dataset.labels == LABELS
    assert torch.equal(dataset.held_out.decoded().pixels, tiny_dataset().held_out.pixels)


@pytest.mark.parametrize(
    "source",
    ["/no/where", "./x", "../x", "~/x", "a/b/c", "a/b/", "labels.csv", "a/rows.parquet", "x.zip"],
)
def test_a_path_that_does_not_exist_is_never_a_name_on_the_hub(source: str) -> None:
    with pytest.raises(DataError, match=f"there is no file or folder {re.escape(source)}$"):
        hub_name(source)


def test_a_name_on_the_hub_is_said_to_be_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("cifar10", "ILSVRC/imagenet-1k"):
        assert hub_name(name) == (
            f"data: there is no file or folder {name}, so this is taken as a name on the Hugging "
            "Face hub"
        )
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    with pytest.raises(DataError, match="no file or folder photos/cta, only a folder photos"):
        hub_name("photos/cta")
    assert hub_name("photos/cat") is None


def test_what_is_left_out_is_in_the_summary_and_strict_refuses_it(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "insects")
    (folder / "notes.txt").write_text("notes")
    summary = open_dataset(str(folder), 24, 4, 0).summary()
    assert summary is not None
    assert [*summary.lines()] == [
        f"data: {folder}: 2 classes, 12 images",
        "  class     train  held-out",
        "  ant           4         2",
        "  bee           4         2",
        "  all           8         4",
        "  sizes: 60 x 40 pixels",
        "  formats: 12 PNG",
        "  left out: 1",
        "    notes.txt is not an image in a format that is read",
    ]
    for opened in (
        lambda: open_dataset(str(folder), 24, 4, 0, strict=True),
        lambda: load_split(str(folder), "train", 24, ("ant", "bee"), strict=True),
    ):
        with pytest.raises(DataError, match=r"--strict refuses that: notes\.txt is not an image"):
            opened()


def test_a_file_that_vanishes_is_named(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "insects")
    dataset = open_dataset(str(folder), 24, 4, 0)
    (folder / "ant" / "3.png").unlink()
    with pytest.raises(DataError, match=r"ant/3\.png cannot be read: No such file"):
        dataset.decoded()
