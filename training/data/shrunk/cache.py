"""The cache of shrunk images: one file for each set of images, which one run at a time writes.

Each image is decoded, turned upright and shrunk once. The results are in one zip file, which has
checksums and can be looked into. A later run with the same images reads them from there. An image
whose file has changed (path, size or time of change; in tables: its bytes) is shrunk again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import numpy as np
import torch
from numpy.typing import NDArray

from offramp.data.records import Encoded
from offramp.writing import locked, replaced, writing
from training.data.encoded import EncodedImages
from training.data.images import File, ImageFiles
from training.data.shrunk.forms import middle, whole
from training.distributed import cores_per_process
from training.errors import DataError, cache_in_use

AT_ONCE = 64  # files in memory
Shrink = Callable[[File], bytes | None]
Track = Callable[[Iterable[list[int]], int], Iterable[list[int]]]


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
            except KeyError:  # a run with fewer images has dropped it
                yield from self.originals.read([row])
            except (BadZipFile, OSError) as error:
                raise DataError(
                    f"data: the cache {self.path} is damaged ({error}); remove it"
                ) from error


@cache
def _opened(path: Path, _process: int) -> ZipFile:
    """Open a cache once in each process."""
    return ZipFile(path)


def shrunk(files: ImageFiles, folder: Path, name: str, *, parts: bool, track: Track) -> ImageFiles:
    """Return the same images in a cache, which is made or completed first.

    Args:
        files: Images to shrink.
        folder: Folder of the cache. It is made.
        name: Name of the set of images, for the cache.
        parts: True if random parts of the images are read, else their middle.
        track: Wrapper of the rows to shrink, for a progress bar. The second argument is their
            number.

    Raises:
        DataError: An image is damaged, or another run writes this cache.
        UnwritableFileError: The cache cannot be written.
    """
    form = whole(files) if parts else middle(files)
    source = hashlib.blake2b(str(Path(files.source).absolute()).encode(), digest_size=4)
    path = folder / f"{name}-{form.name}-{source.hexdigest()}.zip"
    names = _names(files, form.ending)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    stored = _complete(files, path, names, form.shrink, track)
    kept = np.array([name if name.decode() in stored else b"" for name in names], names.dtype)
    return replace(files, encoded=ShrunkImages(files.encoded, path, kept))


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
    wanted = {names[row].decode(): place for place, row in enumerate(files.rows.tolist())}
    if _known(path).keys() != wanted.keys():
        lock = path.with_name(f".{path.name}.lock")  # the cache itself is replaced
        with locked(lock, cache_in_use(path)):
            _write(files, path, wanted, shrink, track)
        _opened.cache_clear()
    return {name for name, empty in _known(path).items() if not empty}


def _write(
    files: ImageFiles, path: Path, wanted: Mapping[str, int], shrink: Shrink, track: Track
) -> None:
    known = _known(path)
    missing = {place: name for name, place in wanted.items() if name not in known}
    with replaced(path) as partly, ZipFile(partly, "w") as new:
        for name, content in _kept(path, known.keys() & wanted.keys()):
            new.writestr(name, content)
        for place, made in _each(files, [*missing], shrink, track):
            new.writestr(missing[place], made or b"")


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
    with ThreadPoolExecutor(cores_per_process()) as pool:
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
