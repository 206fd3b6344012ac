"""The two forms of a shrunk image: whole in JPEG, or its middle in PPM.

For random parts, an image is stored as JPEG of quality 95 without subsampling of the colours. Its
shorter side is 1.15 * size / sqrt(smallest area): no part of a square image is then enlarged, the
narrowest of the smallest area included, because 1.15 is 1 / sqrt(3 / 4). Images less than twice as
large stay in their own files, because these are decoded nearly as fast.

Otherwise, and for held-out images, the middle is stored as it is decoded without a cache, in PPM.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from PIL import Image

from offramp.bundle.manifest import ImageInput
from offramp.bundle.preprocess import side_wanted
from offramp.images.decode import decode_essence
from offramp.images.errors import ImageFileError
from offramp.images.header import read_header
from training.data.crop import size_upright
from training.data.images import File, ImageFiles
from training.errors import DataError

SPARE = 1.15  # in the shorter side
WORTH = 2.0  # smallest ratio of sides at which an image is shrunk
QUALITY = 95
LONGEST_SIDE = 4096  # pixels of a shrunk image


@dataclass(frozen=True, slots=True)
class Form:
    """A form in which shrunk images are stored.

    Attributes:
        name: Name of the form, with all that the result depends on.
        ending: Ending of a stored image.
        shrink: Function that returns the stored image, or `None` if it stays in its own file. It
            raises DataError for a damaged image.
    """

    name: str
    ending: str
    shrink: Callable[[File], bytes | None]


def whole(files: ImageFiles) -> Form:
    """Return the form of whole images, of which training takes random parts."""
    side = stored_side(files.size, files.smallest_crop)
    return Form(f"parts-{side}", ".jpg", partial(_as_jpeg, files.source, side))


def middle(files: ImageFiles) -> Form:
    """Return the form of the middles of images, at the size of the network's input."""
    filter_name, margin = files.resizing
    name = f"middle-{files.size}-{filter_name}-{margin:g}"
    return Form(name, ".ppm", partial(_as_ppm, files))


def stored_side(size: int, smallest_area: float) -> int:
    """Return the shorter side of shrunk images, in pixels.

    Args:
        size: Height and width of the network's input, in pixels.
        smallest_area: Smallest area of a random part, as a share of the image's.
    """
    return math.ceil(SPARE * size / math.sqrt(smallest_area))


def _as_ppm(files: ImageFiles, file: File) -> bytes:
    pixels = files.pixels(file)
    return b"P6\n%d %d\n255\n" % (pixels.shape[1], pixels.shape[0]) + pixels.tobytes()


def _as_jpeg(source: str, side: int, file: File) -> bytes | None:
    try:
        header = read_header(file.encoded, side)
        essence = header.essence(file.encoded)
        width, height = size_upright(header, essence)
        ratio = side / min(width, height)
        across, down = round(width * ratio), round(height * ratio)
        if ratio * WORTH > 1 or max(across, down) > LONGEST_SIDE:
            return None
        target = ImageInput(height=down, width=across, fit="stretch", filter="lanczos")
        header = read_header(file.encoded, side_wanted(target))
        pixels = decode_essence(header, essence, target)
    except ImageFileError as error:
        raise DataError(f"data: {source}, {file.name} cannot be decoded: {error}") from error
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "jpeg", quality=QUALITY, subsampling=0)
    return buffer.getvalue()
