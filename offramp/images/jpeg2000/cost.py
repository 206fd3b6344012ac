"""The cost of decoding a JPEG 2000 codestream, counted from its headers.

OpenJPEG makes a record of each precinct and code block, and looks for a packet of each precinct,
resolution, component and layer, also where the file has no data for them. So a file of 300 bytes
can take gigabytes and minutes, and all of these are counted.

Source: ISO/IEC 15444-1, annex B. Measured with OpenJPEG 2.5.4.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offramp.images.errors import CostlyFileError
from offramp.images.jpeg2000.codestream import BANDS, Codestream, Style

MAX_STEPS = 1 << 22  # packets, and positions at which one is looked for
LEAST_PARTS, PART_SAMPLES = 1 << 16, 32  # code blocks or precincts: so many, or one for so many
# Work of each, where decoding a pixel of a PNG is 1. A sample costs more for each bit.
_SAMPLE, _PLANE, _BLOCK, _PRECINCT, _TILE, _STEP = 0.2, 0.33, 50.0, 40.0, 300.0, 5.5
_VISIT, _PIECE = 0.85, 3.0  # of a code block in a layer: to look for it, and to read its data
# Bytes of each
_PIXEL, _BLOCK_BYTES, _PRECINCT_BYTES, _TILE_BYTES = 26.0, 450.0, 160.0, 12_000.0
_PIECE_BYTES, _PIECE_BITS, _SEGMENT_BYTES, _SEGMENT_BITS, _MOST_PASSES = 32.0, 6, 20.0, 3, 164
_Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of decoding: the work, where a pixel of a PNG is 1, and bytes."""

    work: float
    memory: float


@dataclass(frozen=True, slots=True)
class _Axis:
    """The parts along one axis, for each resolution: of all tiles, and of the largest."""

    precincts: NDArray[np.float64]
    most: NDArray[np.float64]
    blocks: NDArray[np.float64]  # of the low and of the high band
    samples: NDArray[np.float64]


@dataclass(slots=True)
class _Parts:
    """The parts of all components. Those of one coding style are the most of all styles."""

    samples: float = 0.0
    bits: float = 0.0
    blocks: float = 0.0
    precincts: float = 0.0
    packets: float = 0.0  # of one layer
    most: float = 0.0  # precincts of a resolution of one tile


def cost_of(found: Codestream, size: int) -> Cost:
    """Return what a codestream costs, in a file of `size` bytes.

    Raises:
        CostlyFileError: It has far more parts than writers make.
    """
    axes = _tile_edges(found)
    tiles = float(len(axes[0][0]) * len(axes[1][0]))
    parts, resolutions = _parts(found, axes, tiles), max(len(s.precincts) for s in found.styles)
    number = len(found.components)
    positions = resolutions * number * _positions(found, axes)
    steps = found.progressions * (found.layers * parts.packets + positions)
    most = max(LEAST_PARTS, parts.samples / PART_SAMPLES)
    if steps > MAX_STEPS:
        raise CostlyFileError(
            f"its layers and precincts make {steps:.2g} packets, at most {MAX_STEPS} are read; "
            "save it with fewer layers and larger precincts"
        )
    if max(parts.blocks, parts.precincts) > most:
        raise CostlyFileError(
            f"it has {parts.blocks:.2g} code blocks and {parts.precincts:.2g} precincts, at most "
            f"{most:.2g} are read; save it with larger ones"
        )
    visits = parts.blocks * found.layers
    pieces = min(visits, size * 8 / _PIECE_BITS)
    work = (
        _SAMPLE * parts.samples + _PLANE * parts.bits + _BLOCK * parts.blocks
        + _PRECINCT * parts.precincts + _TILE * tiles + _STEP * steps + _VISIT * visits
        + _PIECE * pieces
    )  # fmt: skip
    marks = 2 * (found.layers + 1) * number * resolutions * parts.most  # one for each packet
    memory = (
        _PIXEL * _area(found) + _BLOCK_BYTES * parts.blocks + _PRECINCT_BYTES * parts.precincts
        + _TILE_BYTES * tiles + marks + _PIECE_BYTES * pieces + 2 * size
    )  # fmt: skip
    if any(style.segmented for style in found.styles):
        memory += _SEGMENT_BYTES * min(pieces * _MOST_PASSES, size * 8 / _SEGMENT_BITS)
    return Cost(work, memory)


def _area(found: Codestream) -> float:
    x0, y0, x1, y1 = found.image
    return float((x1 - x0) * (y1 - y0))


_Edges = tuple[_Counts, _Counts]  # starts and ends of the tiles along an axis


def _tile_edges(found: Codestream) -> tuple[_Edges, _Edges]:
    edges = []
    for side in range(2):
        first, last = found.image[side], found.image[side + 2]
        start, step = found.tiles[side], found.tiles[side + 2]
        starts = start + step * np.arange(-(-(last - start) // step), dtype=np.int64)
        edges.append((np.clip(starts, first, last), np.clip(starts + step, first, last)))
    return edges[0], edges[1]


def _positions(found: Codestream, axes: tuple[_Edges, _Edges]) -> float:
    """Return the positions of all tiles at which packets of a resolution are looked for."""
    number = 1.0
    for side, (starts, ends) in enumerate(axes):
        step = min(
            component[1 + side] << power[side] + len(style.precincts) - 1 - resolution
            for component in set(found.components)
            for style in found.styles
            for resolution, power in enumerate(style.precincts)
        )
        step = min(step, 1 << 40)
        number *= float(((ends - 1) // step - starts // step + 1).sum())
    return number


def _parts(found: Codestream, axes: tuple[_Edges, _Edges], tiles: float) -> _Parts:
    total = _Parts()
    for across, down in {each[1:] for each in found.components}:
        times = sum(each[1:] == (across, down) for each in found.components)
        each = _Parts()
        for style in found.styles:
            x = _axis(axes[0], across, style, 0)
            y = _axis(axes[1], down, style, 1)
            planes = _by_resolution(found.planes, len(style.precincts))
            samples, precincts = _bands(x.samples, y.samples), x.precincts * y.precincts
            each.samples = max(each.samples, float(samples.sum()))
            each.bits = max(each.bits, float((samples * planes).sum()))
            each.blocks = max(each.blocks, float(_bands(x.blocks, y.blocks).sum()))
            each.precincts = max(each.precincts, float(3 * precincts.sum() - 2 * precincts[0]))
            each.packets = max(each.packets, float(np.maximum(precincts, tiles).sum()))
            total.most = max(total.most, float((x.most * y.most).max()))
        total.samples += times * each.samples
        total.bits += times * each.bits
        total.blocks += times * each.blocks
        total.precincts += times * each.precincts
        total.packets += times * each.packets
    return total


def _axis(edges: _Edges, step: int, style: Style, side: int) -> _Axis:
    """Count the parts along one axis of a component, which has a sample at each `step` pixels."""
    start, end = (-(-each // step) for each in edges)
    levels = len(style.precincts) - 1
    above = np.arange(levels + 1)[:, None] > 0  # all resolutions but the lowest have three bands
    down = levels - np.arange(levels + 1)[:, None]
    power = np.array([each[side] for each in style.precincts])[:, None]
    precincts = _cells(-(-start >> down), -(-end >> down), power)
    half = down + above  # halvings of a band
    block = np.minimum(style.block[side], power - above)
    blocks, samples = [], []
    for offset in (0, (1 << half) >> 1):
        first, last = -(-(start - offset) >> half), -(-(end - offset) >> half)
        blocks.append(_cells(first, last, block).sum(axis=1))
        samples.append((last - first).sum(axis=1))
    return _Axis(
        precincts.sum(axis=1).astype(float), precincts.max(axis=1).astype(float),
        np.array(blocks, float), np.array(samples, float),
    )  # fmt: skip


def _cells(start: _Counts, end: _Counts, power: _Counts) -> _Counts:
    """Count the cells of a grid of 2 to the `power` from `start` to `end`."""
    return np.where(end > start, -(-end >> power) - (start >> power), 0)


def _bands(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the parts of the three bands of each resolution. The lowest has one band."""
    bands = np.stack([x[1] * y[0], x[0] * y[1], x[1] * y[1]], axis=1)
    bands[0] = x[0, 0] * y[0, 0], 0, 0
    return bands


def _by_resolution(planes: tuple[int, ...], resolutions: int) -> NDArray[np.float64]:
    """Return the bits of the three bands of each resolution."""
    rows = np.zeros((1 + BANDS // 3, 3))
    rows[0, 0], rows[1:] = planes[0], np.reshape(planes[1:], (-1, 3))
    return rows[:resolutions]
