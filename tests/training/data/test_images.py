import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, features

from offramp.bundle.preprocess import bring_to_size
from offramp.data.records import Files
from offramp.images.header import read_header, upright_size
from tests.training.samples import PARQUET
from training.data.datasets import open_dataset
from training.data.encoded import FileImages
from training.data.images import File, ImageFiles, image_input
from training.errors import DataError


def jpeg(size: tuple[int, int], orientation: int = 1) -> bytes:
    """Encode an image that is red on the left and blue on the right."""
    image = Image.new("RGB", size, "red")
    image.paste("blue", (size[0] // 2, 0, *size))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    image.save(buffer := io.BytesIO(), "jpeg", exif=exif, quality=95)
    return buffer.getvalue()


def part_of(encoded: bytes, part: tuple[float, float, float, float]) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(encoded)) as image:
        return np.asarray(bring_to_size(image, image_input(16), part))


@pytest.mark.parametrize("size", [(64, 48), (2000, 1500)])
def test_a_part_equals_pillows_crop(size: tuple[int, int]) -> None:
    """The second size is one that a JPEG is decoded at a reduced scale for."""
    part = (0.25, 0.25, 0.75, 0.75)
    width, height = size
    box = (width // 4, height // 4, 3 * width // 4, 3 * height // 4)
    with Image.open(io.BytesIO(jpeg(size))) as image:
        cropped = image.crop(box).resize((16, 16), Image.Resampling.BILINEAR, reducing_gap=2.0)
    found = part_of(jpeg(size), part).astype(int)
    assert np.abs(found - np.asarray(cropped)).mean() < 4
    assert found[8, 2, 0] > 240 > 15 > found[8, 2, 2], "red"
    assert found[8, 13, 2] > 240 > 15 > found[8, 13, 0], "blue"


def test_a_part_is_taken_from_the_upright_image() -> None:
    """Orientation 6 turns the left side up."""
    top = part_of(jpeg((64, 48), orientation=6), (0.0, 0.0, 1.0, 0.4))
    assert top[..., 0].min() > 240
    assert top[..., 2].max() < 15


def test_selected_files_decode_to_the_images_in_memory() -> None:
    files = open_dataset(str(PARQUET), 24, held_out=100, seed=0).train
    chosen = torch.tensor([7, 3, 399, 3])
    some, everything = files.select(chosen).decoded(), files.decoded()
    assert torch.equal(some.pixels, everything.pixels[chosen])
    assert torch.equal(some.targets, everything.targets[chosen])


@pytest.mark.parametrize(("orientation", "size"), [(1, (30, 20)), (6, (20, 30))])
def test_upright_size_follows_the_exif_orientation(orientation: int, size: tuple[int, int]) -> None:
    encoded = jpeg((30, 20), orientation)
    header = read_header(encoded, 16)
    assert upright_size(header, header.essence(encoded)) == size


def folder_with_damage(folder: Path) -> Path:
    for label in ("a", "b"):
        (folder / label).mkdir(parents=True)
        for number in range(4):
            Image.effect_noise((24, 24), 90).save(folder / label / f"{number}.png")
    for name in ("a/1.png", "b/2.png"):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: len(whole) // 2])
    (folder / "b/3.png").write_bytes(b"\x89PNG\r\n\x1a\nno image")
    return folder


def test_all_damaged_files_are_in_one_error(tmp_path: Path) -> None:
    files = every_file(folder_with_damage(tmp_path / "data"))
    with pytest.raises(DataError, match="3 of 8 images cannot be decoded") as error:
        files.decoded()
    text = str(error.value)
    assert "remove them, or train with --skip-damaged. data: " in text  # no other command has it
    assert "\n" not in text
    assert [name in text for name in ("1.png", "2.png", "3.png", "0.png")] == [True] * 3 + [False]


def test_damaged_files_are_left_out_on_request(tmp_path: Path) -> None:
    files = every_file(folder_with_damage(tmp_path / "data"))
    whole, errors = files.whole()
    assert len(errors) == 3
    assert whole.decoded().targets.tolist() == [0, 0, 0, 1, 1]


def every_file(folder: Path) -> ImageFiles:
    data = open_dataset(str(folder), 16, held_out=1, seed=0)
    rows = torch.cat([data.train.rows, data.held_out.rows])
    targets = torch.cat([data.train.targets, data.held_out.targets])
    order = rows.argsort()
    return replace(data.train, rows=rows[order], targets=targets[order])


@pytest.mark.skipif(not features.check("avif"), reason="this build of Pillow writes no AVIF")
def test_a_random_part_of_a_rotated_avif_is_that_of_the_upright_image(tmp_path: Path) -> None:
    """Its header states the size before the rotation, whatever that of EXIF is."""
    lying = Image.linear_gradient("L").resize((256, 64)).convert("RGB")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    lying.save(tmp_path / "rotated.avif", exif=exif, quality=100)
    lying.transpose(Image.Transpose.ROTATE_270).save(tmp_path / "upright.png")
    no_rows = torch.zeros(0, dtype=torch.int64)
    files = ImageFiles(FileImages(Files([], "")), no_rows, no_rows, 32, "photos")
    for seed in range(5):
        rotated, upright = (
            files.pixels(
                File((tmp_path / name).read_bytes(), 0, name), np.random.default_rng(seed)
            ).astype(int)
            for name in ("rotated.avif", "upright.png")
        )
        assert np.abs(rotated - upright).mean() < 2
