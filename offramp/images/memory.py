"""Memory that decoding an image takes, in bytes for each pixel of the original.

Measured as the peak of the resident memory of `decode_essence` (Pillow 13, libwebp 1.6, libavif
1.4, pillow-heif 1.8) at 2400 x 2400 pixels. It has all copies: those of the decoder, the image in
Pillow (4 bytes for each pixel of a colour), its conversion, and the image turned upright.
"""

from __future__ import annotations

from offramp.bundle.orientation import UPRIGHT
from offramp.images.tiff import BITS, COMPRESSION, JPEG, SAMPLES, TILES, Tiff
from offramp.images.webp import tables_allowed

BLOCK = 136  # of a JPEG with several scans: 64 coefficients of two bytes, and their tables
TURN = 4  # more for an image that is turned upright
MOST = 16  # a PNG of colours with a transparent one, turned
# The decoder of WebP keeps two canvases and returns a third, all of 4 bytes. While it has tables of
# codes, it has no third one and no copy of it.
_WEBP, _WEBP_DECODER = 16.0, 12.0
# A JPEG is decoded by libjpeg-turbo to 3 bytes, or by Pillow to 4.
_FLAT = {"GIF": 9.0, "BMP": 5.0, "PPM": 5.0, "HEIF": 10.0}
_JPEG = 7.0
# Up to 12 bits and 4:4:4: libavif does not compare the image with the description in the file.
_AVIF, _AVIF_ALPHA, _AVIF_GRID = 14.0, 20.0, 8.0
_PNG = {0: 5.0, 2: 4.0, 3: 5.0, 4: 12.0, 6: 8.0}  # by the type of colour
_PNG_TRANSPARENT = {0: 9.0, 2: 12.0, 3: 9.0}
_PNG_GREY_16 = 16.0
_TIFF_GREY = ((8, 5.0), (12, 13.0), (16, 11.0), (64, 20.0))  # up to so many bits
_TIFF_COLOUR = 8.0
_TILE_WIDTH, _TILE_LENGTH, _ROWS = 322, 323, 278


def of_jpeg(pixels: int, blocks: int, orientation: int) -> int:
    """Return the bytes to decode a JPEG at `pixels`, with `blocks` whose coefficients are kept."""
    return int(pixels * (_JPEG + _turn(orientation))) + BLOCK * blocks


def of_tiff(found: Tiff, area: int) -> int:
    """Return the bytes to decode a TIFF of `area` pixels."""
    bits, samples = found.values.get(BITS, 1), found.values.get(SAMPLES, 1)
    if samples == 1:
        converted = next((each for most, each in _TIFF_GREY if bits <= most), MOST * 2.0)
    else:
        converted = _TIFF_COLOUR
    pixel = 4.0 if found.values.get(COMPRESSION) == JPEG else max(1, bits * samples) / 8
    decoded = 4 * area + _part(found, area) * pixel  # libtiff decodes a strip or tile as a whole
    return int(max(decoded, converted * area) + _turn(found.orientation) * area)


def _part(found: Tiff, area: int) -> int:
    """Return the pixels of a strip or tile."""
    values = found.values
    if TILES in values:
        return values.get(_TILE_WIDTH, 0) * values.get(_TILE_LENGTH, 0)
    return min(area, values.get(_ROWS, area) * values[256])


def of_file(name: str, file: bytes, area: int) -> float:
    """Return the bytes to decode any other file of `area` pixels, if it is not turned."""
    if name == "PNG":
        depth, colour = file[24], file[25]
        if colour == 0 and depth == 16:
            return _PNG_GREY_16 * area
        # A name within other data only makes the bound lower.
        table = _PNG_TRANSPARENT if colour in _PNG_TRANSPARENT and b"tRNS" in file else _PNG
        return table.get(colour, MOST) * area
    if name == "AVIF":
        alpha, grid = b"auxC" in file, b"grid" in file
        return ((_AVIF_ALPHA if alpha else _AVIF) + _AVIF_GRID * grid) * area
    if name == "WEBP":
        return max(_WEBP * area, _WEBP_DECODER * area + tables_allowed(file, area))
    return _FLAT[name] * area


def _turn(orientation: int) -> int:
    return 0 if orientation == UPRIGHT else TURN
