"""JPEG 2000 codestreams without pixels: each packet of a tile has no data."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import Any

from PIL import Image

COD, COC, QCD, RGN, POC, SOT = 0xFF52, 0xFF53, 0xFF5C, 0xFF5E, 0xFF5F, 0xFF90
EOC = b"\xff\xd9"


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">HH", marker, len(content) + 2) + content


@dataclass(frozen=True, slots=True)
class Style:
    """How components are coded: sizes are powers of two, and precincts those of each resolution."""

    layers: int = 1
    levels: int = 5
    block: tuple[int, int] = (6, 6)
    precincts: bytes = b""
    order: int = 0
    passes: int = 0

    def coding(self) -> bytes:
        rest = self._component()
        start = struct.pack(">BBHB", bool(self.precincts), self.order, self.layers, 0)
        return segment(COD, start + rest)

    def of_component(self, number: int) -> bytes:
        return segment(COC, bytes([number, bool(self.precincts)]) + self._component())

    def _component(self) -> bytes:
        across, down = self.block
        return bytes([self.levels, across - 2, down - 2, self.passes, 1]) + self.precincts


@dataclass(frozen=True, slots=True)
class Stream:
    """A codestream of empty packets.

    `main` and `head` are more segments of the main header, and of that of each tile-part.
    """

    side: int = 64
    tile: int = 0
    depths: bytes = b"\x07\x07\x07"
    style: Style = Style()
    exponent: int = 8
    main: bytes = b""
    head: bytes = b""

    def encoded(self) -> bytes:
        step = self.tile or self.side
        size = struct.pack(">H8IH", 0, self.side, self.side, 0, 0, step, step, 0, 0, self.number)
        bands = bytes([self.exponent << 3]) * (3 * self.style.levels + 1)
        start = b"\xff\x4f" + segment(0xFF51, size + b"".join(map(self._component, self.depths)))
        main = self.style.coding() + segment(QCD, b"\x40" + bands) + self.main
        tiles = range((-(-self.side // step)) ** 2)
        return start + main + b"".join(map(self.part, tiles)) + EOC

    def part(self, tile: int, data: bytes = bytes(100)) -> bytes:
        length = 12 + len(self.head) + 2 + len(data)
        start = segment(SOT, struct.pack(">HIBB", tile, length, 0, 1))
        return start + self.head + b"\xff\x93" + data

    @property
    def number(self) -> int:
        return len(self.depths)

    @staticmethod
    def _component(depth: int) -> bytes:
        return bytes([depth, 1, 1])


def boxed(stream: bytes, number: int, depth: int) -> bytes:
    """Return a JP2 file of a codestream of 64 x 64, which states the bits of a component less 1."""

    def box(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content) + 8) + kind + content

    colours = box(b"colr", struct.pack(">BBBI", 1, 0, 0, 16 if number > 2 else 17))
    image = box(b"ihdr", struct.pack(">IIHBBBB", 64, 64, number, depth, 7, 0, 0))
    signature = box(b"jP  ", b"\r\n\x87\n") + box(b"ftyp", b"jp2 \0\0\0\0jp2 ")
    return signature + box(b"jp2h", image + colours) + box(b"jp2c", stream)


def written(side: int, mode: str = "RGB", **options: Any) -> bytes:
    """Return what OpenJPEG writes for a smooth picture."""
    picture = Image.effect_noise((16, 16), 90).resize((side, side)).convert(mode)
    picture.save(buffer := io.BytesIO(), "JPEG2000", **options)
    return buffer.getvalue()
