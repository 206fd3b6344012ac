from __future__ import annotations

import io
import tarfile
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image, features

from offramp.data.formats import HEAD, format_of, not_read
from offramp.data.reader import read_dataset
from tests.offramp.data.trees import encoded, error_of, photos, reasons


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "JPEG2000", "PPM"])
def test_images_are_recognised_by_their_first_bytes(name: str) -> None:
    assert format_of(encoded(name)[:HEAD]) == name
    assert not_read(name) is None


@pytest.mark.skipif(not features.check("avif"), reason="this build of Pillow writes no AVIF")
def test_avif_is_recognised_and_read() -> None:
    assert format_of(encoded("AVIF", (16, 16))[:HEAD]) == "AVIF"
    assert not_read("AVIF") is None


def test_a_big_endian_tiff_is_recognised() -> None:
    file = io.BytesIO()
    Image.new("I;16B", (4, 3)).save(file, "TIFF")
    assert format_of(file.getvalue()[:HEAD]) == "TIFF"


def test_heic_is_recognised_and_the_reason_names_the_remedy() -> None:
    head = b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic"
    assert format_of(head) == "HEIF"
    if find_spec("pillow_heif") is None:
        assert not_read("HEIF") == "is a HEIC image. Convert it to JPEG, or install pillow-heif"


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_tar_file_is_an_archive(form: int, tmp_path: Path) -> None:
    photos(tmp_path, ["cat", "dog"])
    with tarfile.open(tmp_path / "shard-000.tar", "w", format=form) as file:
        file.add(tmp_path / "cat/0.png", "0.jpg")
    assert reasons(read_dataset(tmp_path)) == {
        "shard-000.tar": "is a tar archive. Unpack it to use what is in it"
    }
    assert error_of(tmp_path / "shard-000.tar").endswith(
        "is a tar archive. Unpack it, and give the folder"
    )


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"PAR1\x15\x04", "parquet"),
        (b"PK\x03\x04\x14\x00", "zip"),
        (b"\x1f\x8b\x08\x00", "gzip"),
        (b"7z\xbc\xaf\x27\x1c", "7z"),
    ],
)
def test_archives_and_parquet_files_are_recognised(head: bytes, name: str) -> None:
    assert format_of(head) == name


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"B",
        b"BMW,Audi\nfile,label\n1,2",
        b"P",
        b"P3",
        b"P5 is a class",
        b"P3\nis a class",
        b"PNG",
        b"RIFF\x00\x00\x00\x00WAVEfmt ",
        b"\x00\x00\x00\x18ftypisom\x00\x00\x00\x00isommp42",
        b"II*\x00\x10\x00\x00\x00CR\x02\x00",
        b"file,label\ncat.png,cat\n",
        b"\x00\x00\x00\x00ftyp",
    ],
)
def test_other_files_are_not_taken_for_images(head: bytes) -> None:
    assert format_of(head) is None
