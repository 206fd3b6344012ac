from __future__ import annotations

import pyarrow as pa
import pytest
from pyarrow.parquet import write_table

from offramp.inputs.datasets import ImageItems, find_images
from offramp.inputs.parts import Piece, images_of, parts_of
from tests.offramp.pictures import files, write_files


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ImageItems:
    folder = tmp_path_factory.mktemp("images")
    write_files(folder / "a", 2)
    for name, rows in (("b", 8), ("c", 0), ("d", 5)):
        table = pa.table({"image": pa.array(files(rows, seed=rows), pa.binary())})
        write_table(table, folder / f"{name}.parquet", row_group_size=3)
    write_files(folder / "e", 3)
    return find_images([folder])


@pytest.mark.parametrize("size", [1, 2, 3, 5, 17, 18, 1000])
def test_parts_have_every_image_once_and_in_order(images: ImageItems, size: int) -> None:
    parts = list(parts_of(images.pieces, size))
    sizes = [sum(map(len, part)) for part in parts]
    assert set(sizes[:-1]) <= {size}
    assert 0 < sizes[-1] <= size
    assert sum(sizes) == len(images) == 18
    assert [image for part in parts for image in images_of(part)] == list(images)


@pytest.mark.parametrize("rows", [range(0), range(2, 3), range(2, 7), range(7, 8), range(8)])
def test_rows_are_those_of_the_whole_file(images: ImageItems, rows: range) -> None:
    (piece,) = (each for each in images.pieces if each.file.name == "b.parquet")
    whole = list(images_of([piece]))
    found = list(images_of([Piece(piece.file, rows)]))
    assert found == whole[rows.start : rows.stop]
    assert [image.name for image in found] == [f"{piece.file}#{row}" for row in rows]
