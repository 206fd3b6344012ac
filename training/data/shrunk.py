"""A cache of shrunk images, for photos that are far larger than the input of the network.

Each image is decoded, turned upright and shrunk once. The results are in one zip file, which has
checksums and can be looked into. A later run with the same images reads them from there. An image
whose file has changed (path, size or time of change; in tables: its bytes) is shrunk again.

For random parts, an image is stored as JPEG of quality 95 without subsampling of the colours. Its
shorter side is 1.15 * size / sqrt(smallest area): no part of a square image is then enlarged, the
narrowest of the smallest area included, because 1.15 is 1 / sqrt(3 / 4). Images less than twice as
large stay in their own files, because these are decoded nearly as fast.

Otherwise, and for held-out images, the middle is stored as it is decoded without a cache, in PPM.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from offramp.bundle.manifest import ImageInput
from offramp.bundle.orientation import TRANSPOSED, orientation_of
from offramp.bundle.preprocess import side_wanted
from offramp.data.records import Encoded
from offramp.images.decode import decode_essence
from offramp.images.errors import ImageFileError
from offramp.images.header import Header, read_header, upright_size
from offramp.images.without_metadata import Essence
from offramp.writing import replaced, writing
from training.data.encoded import EncodedImages
from training.data.images import File, ImageFiles
from training.errors import DataError

SPARE = 1.15  # in the shorter side
WORTH = 2.0  # smallest ratio of sides at which an image is shrunk
QUALITY = 95
LONGEST_SIDE = 4096  # pixels of a shrunk image
AT_ONCE = 64  # files in memory
Track = Callable[[Iterable[list[int]], int], Iterable[list[int]]]
Shrink = Callable[[File], bytes | None]  # None: the image stays in its own file


@dataclass(frozen=True, slots=True)
class ShrunkImages:
    """Images, some of them in a cache, and the others in their own files.

    Attributes:
        originals: Images in their own files.
        path: The cache, a zip file.
        names: Name in the cache of the image in each row, bytes [N]. Empty: it is not there.
    """

    originals: EncodedImages
    path: Path
    names: NDArray[np.bytes_]

    def __len__(self) -> int:
        return len(self.originals)

    def read(self, rows: Sequence[int]) -> Iterator[Encoded]:
        """See EncodedImages."""
        for row in rows:
            name = self.names[row].decode()
            if not name:
                yield from self.originals.read([row])
                continue
            try:
                yield Encoded(f"{self.path}, {name}", _opened(self.path, os.getpid()).read(name))
            except (BadZipFile, KeyError, OSError) as error:
                raise DataError(
                    f"data: the cache {self.path} is damaged ({error}); remove it"
                ) from error


@cache
def _opened(path: Path, _process: int) -> ZipFile:
    """Open a cache once in each process."""
    return ZipFile(path)


def stored_side(size: int, smallest_area: float) -> int:
    """Return the shorter side of shrunk images, in pixels.

    Args:
        size: height and width of the network's input, in pixels.
        smallest_area: smallest area of a random part, as a share of the image's.
    """
    return math.ceil(SPARE * size / math.sqrt(smallest_area))


def shrunk(files: ImageFiles, folder: Path, name: str, *, parts: bool, track: Track) -> ImageFiles:
    """Return the same images in a cache, which is made or completed first.

    Args:
        files: images to shrink.
        folder: folder of the cache. It is made.
        name: name of the set of images, for the cache.
        parts: True if random parts of the images are read, else their middle.
        track: wrapper of the rows to shrink, for a progress bar. The second argument is their
            number.

    Raises:
        DataError: an image is damaged.
        UnwritableFileError: the cache cannot be written.
    """
    form, ending, shrink = _parts_of(files) if parts else _middles_of(files)
    source = hashlib.blake2b(str(Path(files.source).absolute()).encode(), digest_size=4)
    path = folder / f"{name}-{form}-{source.hexdigest()}.zip"
    names = _names(files, ending)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    stored = _complete(files, path, names, shrink, track)
    kept = np.array([name if name.decode() in stored else b"" for name in names], names.dtype)
    return replace(files, encoded=ShrunkImages(files.encoded, path, kept))


def _parts_of(files: ImageFiles) -> tuple[str, str, Shrink]:
    """Return a name for whole images to take parts of, the ending of each, and its function."""
    side = stored_side(files.size, files.smallest_crop)
    return f"parts-{side}", ".jpg", partial(_as_jpeg, files.source, side)


def _middles_of(files: ImageFiles) -> tuple[str, str, Shrink]:
    """Return a name for the middles of images, the ending of each, and its function."""
    filter_name, margin = files.resizing
    return f"middle-{files.size}-{filter_name}-{margin:g}", ".ppm", partial(_as_ppm, files)


def _names(files: ImageFiles, ending: str) -> NDArray[np.bytes_]:
    """Return the name in the cache of each image that is used, at its row."""
    names = np.zeros(len(files.encoded), dtype=f"S{32 + len(ending)}")
    for row, identity in zip(files.rows.tolist(), files.identities(), strict=True):
        key = hashlib.blake2b(identity, digest_size=16).hexdigest()
        names[row] = (key + ending).encode()
    return names


def _complete(
    files: ImageFiles, path: Path, names: NDArray[np.bytes_], shrink: Shrink, track: Track
) -> set[str]:
    """Add what is missing to the cache, drop what is not used, and return the names in it."""
    rows = files.rows.tolist()
    wanted = {names[row].decode(): position for position, row in enumerate(rows)}
    known = _known(path)
    missing = [position for name, position in wanted.items() if name not in known]
    if not missing and known.keys() <= wanted.keys():
        return {name for name, empty in known.items() if not empty}
    with replaced(path) as partly, ZipFile(partly, "w") as new:
        for name, content in _kept(path, known.keys() & wanted.keys()):
            new.writestr(name, content)
        for position, made in _each(files, missing, shrink, track):
            new.writestr(names[rows[position]].decode(), made or b"")
    _opened.cache_clear()
    return {name for name, empty in _known(path).items() if not empty}


def _kept(path: Path, names: AbstractSet[str]) -> Iterator[tuple[str, bytes]]:
    if names:
        with ZipFile(path) as old:
            for name in sorted(names):
                yield name, old.read(name)


def _known(path: Path) -> dict[str, bool]:
    """Return the names in a cache, and True for images that stay in their own files."""
    try:
        with ZipFile(path) as found:
            return {each.filename: not each.file_size for each in found.infolist()}
    except (FileNotFoundError, BadZipFile):
        return {}


def _each(
    files: ImageFiles, positions: list[int], shrink: Shrink, track: Track
) -> Iterator[tuple[int, bytes | None]]:
    """Yield the shrunk images at these positions. Threads shrink them."""
    attempt = partial(_attempt, shrink)
    groups = [positions[i : i + AT_ONCE] for i in range(0, len(positions), AT_ONCE)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for group in track(groups, len(groups)):
            some = files.select(torch.tensor(group))
            for position, content in zip(group, pool.map(attempt, some.files()), strict=True):
                if isinstance(content, DataError):
                    raise files.damage()
                yield position, content


def _attempt(shrink: Shrink, file: File) -> bytes | DataError | None:
    try:
        return shrink(file)
    except DataError as error:
        return error


def _as_ppm(files: ImageFiles, file: File) -> bytes:
    pixels = files.pixels(file)
    return b"P6\n%d %d\n255\n" % (pixels.shape[1], pixels.shape[0]) + pixels.tobytes()


def _as_jpeg(source: str, side: int, file: File) -> bytes | None:
    try:
        header = read_header(file.encoded, side)
        essence = header.essence(file.encoded)
        width, height = _upright_size(header, essence)
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


def _upright_size(header: Header, essence: Essence) -> tuple[int, int]:
    """Return width and height in pixels as the image is decoded.

    The headers of AVIF and HEIC files state the size before a rotation, which plugins read.
    """
    if header.format not in ("AVIF", "HEIF"):
        return upright_size(header, essence)
    try:
        with Image.open(io.BytesIO(essence.file), formats=[header.format]) as image:
            width, height = image.size
            turned = orientation_of(image) in TRANSPOSED
    except Exception as error:  # Pillow's plugins raise many types on damaged files
        raise DataError(f"data: an image cannot be decoded: {error}") from error
    return (height, width) if turned else (width, height)
