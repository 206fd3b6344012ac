"""All headers of a codestream are read: also those that a tile-part has of its own."""

from __future__ import annotations

import pytest

from offramp.images.errors import CostlyFileError, DamagedFileError, UnsupportedPixelsError
from offramp.images.jpeg2000.codestream import read_codestream
from tests.offramp.images.jpeg2000.streams import (
    EOC,
    POC,
    QCD,
    RGN,
    SOT,
    Stream,
    Style,
    segment,
    written,
)

DEAR = Style(layers=60_000, precincts=b"\x11" * 6)


def test_the_headers_of_openjpeg_are_read() -> None:
    file = written(
        300, no_jp2=True, quality_layers=[40, 20, 10], codeblock_size=(32, 16),
        precinct_size=(128, 64), num_resolutions=3, tile_size=(200, 100),
    )  # fmt: skip
    found = read_codestream(file, 0)
    assert found.image == (0, 0, 300, 300)
    assert found.tiles == (0, 0, 200, 100)
    assert found.components == ((8, 1, 1),) * 3
    (style,) = found.styles
    assert style.block == (5, 4)
    assert style.precincts[-1] == (7, 6)
    assert (found.layers, found.progressions, len(style.precincts)) == (3, 1, 3)
    assert found.planes[:4] == (9, 10, 10, 11), "8 bits, the gains of bands, and two guard bits"


@pytest.mark.parametrize(("more", "layers"), [(DEAR.coding(), 60_000), (DEAR.of_component(1), 1)])
def test_styles_of_components_and_tiles_are_read(more: bytes, layers: int) -> None:
    for stream in (Stream(main=more), Stream(tile=32, head=more)):
        found = read_codestream(stream.encoded(), 0)
        assert {style.precincts[0] for style in found.styles} == {(15, 15), (1, 1)}
        assert found.layers == layers


def test_the_second_part_of_a_tile_is_read() -> None:
    file = Stream().encoded().removesuffix(EOC) + Stream(head=DEAR.coding()).part(0) + EOC
    assert read_codestream(file, 0).layers == 60_000


def test_orders_of_packets_and_regions_of_interest_add_up() -> None:
    orders = segment(POC, bytes(14))
    region = segment(RGN, bytes([0, 0, 5]))
    found = read_codestream(Stream(main=orders + region, head=orders).encoded(), 0)
    assert found.progressions == 5
    assert max(found.planes) == 8 + 1 + 5


@pytest.mark.parametrize(
    ("content", "planes"),
    [(b"\x22" + b"\x48\0\x50\0" * 8, (9, 10, 9)), (b"\x41\x60\0", (13, 13, 13, 13, 12))],
)
def test_a_quantization_of_steps_has_its_bits(content: bytes, planes: tuple[int, ...]) -> None:
    found = read_codestream(Stream(exponent=0, main=segment(QCD, content)).encoded(), 0)
    assert found.planes[: len(planes)] == planes


def test_the_last_tile_part_can_have_no_length() -> None:
    file = bytearray(Stream().encoded())
    at = file.index(SOT.to_bytes(2))
    file[at + 6 : at + 10] = bytes(4)
    assert read_codestream(bytes(file), 0).layers == 1


@pytest.mark.parametrize("length", [1, 12, 13, 15])
def test_a_tile_part_shorter_than_its_header_is_damaged(length: int) -> None:
    file = bytearray(Stream(head=segment(0xFF64, b"text")).encoded())
    at = file.index(SOT.to_bytes(2))
    file[at + 6 : at + 10] = length.to_bytes(4)
    with pytest.raises(DamagedFileError, match="header of a tile"):
        read_codestream(bytes(file), 0)


def test_a_header_that_cannot_be_walked_is_damaged() -> None:
    good = Stream().encoded()
    first = good.index(SOT.to_bytes(2))
    with pytest.raises(DamagedFileError, match="no tile"):
        read_codestream(good.removesuffix(EOC) + b"\0\0" + EOC, 0)
    for end in (first - 1, first + 7, first + 13):
        with pytest.raises(DamagedFileError):
            read_codestream(good[:end], 0)
    for head in (b"\xff\x64\0\x01", b"\0\0", b"\xff\x64\xff\xff"):
        with pytest.raises(DamagedFileError, match="a header"):
            read_codestream(Stream(head=head).encoded(), 0)
    assert read_codestream(good[: first + 50], 0).layers == 1, "the decoder says which data lacks"


@pytest.mark.parametrize(
    "style",
    [Style(levels=33), Style(block=(11, 2)), Style(block=(7, 6)), Style(precincts=b"\x11")],
)
def test_an_impossible_style_is_damaged(style: Style) -> None:
    with pytest.raises(DamagedFileError, match=r"style .* damaged|precincts .* damaged"):
        read_codestream(Stream(style=style).encoded(), 0)


def test_other_markers_and_components_are_not_read() -> None:
    with pytest.raises(UnsupportedPixelsError, match="marker FF74"):
        read_codestream(Stream(main=segment(0xFF74, bytes(9))).encoded(), 0)
    with pytest.raises(UnsupportedPixelsError, match="5 components"):
        read_codestream(Stream(depths=b"\x07" * 5).encoded(), 0)


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (Stream(tile=1), "1024 tiles"),
        (Stream(main=b"\xff\x64\0\x02" * 16_384), "16384 segments"),
        (Stream(main=b"".join(Style(levels=n).coding() for n in range(4))), "4 coding styles"),
        (Stream(main=b"".join(segment(QCD, bytes([0, n])) for n in range(16))), "16 quant"),
    ],
)
def test_too_many_parts_of_headers_are_refused(stream: Stream, message: str) -> None:
    with pytest.raises(CostlyFileError, match=message):
        read_codestream(stream.encoded(), 0)
