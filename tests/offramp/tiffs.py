"""TIFF files of one strip with given tags."""

from __future__ import annotations

import struct
from collections.abc import Mapping

Values = tuple[int, ...]
SHORT, RATIONAL = 3, 5


def tiff(
    tags: Mapping[int, Values], pixels: bytes, rationals: Mapping[int, int] | None = None
) -> bytes:
    """Return a TIFF with the strip, at its end, that its tags describe.

    Args:
        tags: 16-bit values of each tag.
        pixels: Bytes of the strip. Its offset, rows and bytes get their tags.
        rationals: Number of the rationals of each of some more tags, all of value 1.
    """
    more = rationals or {}
    parts = {tag: (SHORT, len(values), _shorts(values)) for tag, values in tags.items()}
    parts |= {tag: (RATIONAL, number, number * _ONE) for tag, number in more.items()}
    parts |= {278: (SHORT, 1, _shorts(tags[257])), 279: (SHORT, 1, _shorts((len(pixels),)))}
    parts[273] = (SHORT, 1, b"??")
    directory, at = struct.pack("<H", len(parts)), 8 + 2 + 12 * len(parts) + 4
    start = at + sum(len(raw) for _, _, raw in parts.values() if len(raw) > 4)
    parts[273] = (4, 1, struct.pack("<I", start))
    content = b""
    for tag, (kind, number, raw) in sorted(parts.items()):
        value = raw
        if len(raw) > 4:
            value, content = struct.pack("<I", at + len(content)), content + raw
        directory += struct.pack("<HHI4s", tag, kind, number, value)
    return b"II*\0\x08\0\0\0" + directory + bytes(4) + content + pixels


_ONE = struct.pack("<II", 1, 1)


def _shorts(values: Values) -> bytes:
    return struct.pack(f"<{len(values)}H", *values)
