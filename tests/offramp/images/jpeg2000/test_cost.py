"""Small files with many parts are refused, and what encoders write costs no more than its pixels.

tests/offramp/images/test_memory.py measures the memory of files with many parts.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from offramp.images.errors import CostlyFileError, DamagedFileError
from offramp.images.header import ROW, WORK, Header, read_header
from offramp.images.jpeg2000.cost import MAX_STEPS
from serving.images.plan import LEAST_BYTES, PER_BYTE
from tests.offramp.images.jpeg2000.streams import POC, RGN, Stream, Style, segment, written

SIDE = 1000
LAYERS = [200 / 1.3**layer for layer in range(20)]
TINY = b"\x11" * 6  # precincts of 2 x 2


def header(stream: Stream) -> Header:
    return read_header(stream.encoded(), 64)


@pytest.mark.parametrize(
    "stream",
    [
        Stream(64, style=Style(20_000, precincts=TINY)),
        Stream(64, style=Style(65_535, precincts=TINY)),
        Stream(256, tile=32, style=Style(65_535)),
        Stream(64, tile=32, main=Style(65_535, precincts=TINY).coding()),
        Stream(64, tile=32, head=Style(65_535, precincts=TINY).coding()),
        Stream(64, style=Style(65_535), main=Style(precincts=TINY).of_component(2)),
        Stream(64, style=Style(10_000), main=segment(POC, bytes(7 * 31))),
        Stream(1024, style=Style(precincts=b"\xff" * 19 + b"\x1f\xf1", levels=20, order=2)),
    ],
)
def test_too_many_packets_are_refused(stream: Stream) -> None:
    with pytest.raises(CostlyFileError, match=r"packets, at most 4194304 are read; save it with"):
        header(stream)


@pytest.mark.parametrize(
    "stream",
    [
        Stream(800, style=Style(precincts=TINY)),
        Stream(1600, style=Style(block=(2, 2))),
        Stream(1600, main=Style(block=(2, 2)).of_component(1)),
    ],
)
def test_too_many_code_blocks_and_precincts_are_refused(stream: Stream) -> None:
    with pytest.raises(CostlyFileError, match=r"code blocks and .* precincts, at most"):
        header(stream)


@pytest.mark.parametrize("resolution", range(1, 6))
def test_a_precinct_without_samples_of_a_band_is_damaged(resolution: int) -> None:
    sizes = bytearray(b"\x88" * 6)
    sizes[resolution] = 0x80
    with pytest.raises(DamagedFileError, match="precincts"):
        header(Stream(style=Style(precincts=bytes(sizes))))


@pytest.mark.parametrize(
    "options",
    [
        {}, {"quality_layers": LAYERS}, {"irreversible": True, "quality_layers": [20]},
        {"precinct_size": (256, 256)}, {"precinct_size": (128, 128), "progression": "RPCL"},
        {"codeblock_size": (32, 32)}, {"tile_size": (256, 256)}, {"tile_size": (1024, 1024)},
        {"tile_size": (512, 512), "progression": "CPRL"}, {"num_resolutions": 8},
        {
            "quality_layers": LAYERS, "precinct_size": (128, 128), "codeblock_size": (32, 32),
            "tile_size": (256, 256), "progression": "PCRL", "irreversible": True,
        },
    ],
)  # fmt: skip
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_what_encoders_write_costs_no_more_than_its_pixels(
    mode: str, options: dict[str, Any]
) -> None:
    file = written(SIDE, mode, **options)
    found = read_header(file, 64)
    most = WORK["JPEG2000"] * SIDE**2 + ROW * SIDE
    assert most <= found.work <= PER_BYTE * LEAST_BYTES
    assert found.work == most or mode == "RGBA"
    assert found.memory <= 45 * SIDE**2


@pytest.mark.parametrize(
    "style",
    [
        Style(60_000), Style(block=(2, 2)), Style(precincts=b"\x33" * 6),
        Style(300, block=(2, 2), passes=4),
    ],
)  # fmt: skip
def test_more_parts_take_more_memory(style: Style) -> None:
    plain, many = header(Stream(500)), header(Stream(500, style=style))
    assert plain.memory == pytest.approx(26 * 500**2, rel=0.05)
    assert many.memory > 1.2 * plain.memory


@pytest.mark.parametrize(
    "stream",
    [
        Stream(500, style=Style(60_000)), Stream(500, style=Style(100, block=(2, 2))),
        Stream(500, style=Style(precincts=b"\x33" * 6)), Stream(500, exponent=29),
        Stream(500, main=segment(RGN, b"\0\0\x14")),
    ],
)  # fmt: skip
def test_more_parts_take_more_time(stream: Stream) -> None:
    assert header(stream).work > 1.5 * header(Stream(500)).work


def test_packets_are_counted_to_the_last() -> None:
    """Each of 16 tiles has a packet for each layer, component and resolution."""
    most = MAX_STEPS // (16 * 3 * 6) - 1
    stream = Stream(32, tile=8, style=Style(most))
    assert header(stream).work > MAX_STEPS
    with pytest.raises(CostlyFileError, match="packets"):
        header(replace(stream, style=Style(most + 1)))
    with pytest.raises(CostlyFileError, match="packets"):
        header(replace(stream, style=Style(most // 2 + 1), main=segment(POC, bytes(7))))
