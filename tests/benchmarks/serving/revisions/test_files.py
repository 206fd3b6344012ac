"""Image files, decoded by the server's own decoder."""

from __future__ import annotations

import pytest

from benchmarks.serving.revisions.files import readable_files, unreadable_files
from offramp.bundle.manifest import ImageInput
from serving.errors import InvalidRequestError
from serving.images.decoder import decode
from tests.serving.small_bundle import png, random_images

FILE = png(random_images(1, seed=3)[0])
READABLE, UNREADABLE = readable_files(FILE), unreadable_files(FILE)
TARGET = ImageInput(height=32, width=32, fit="crop", filter="bilinear")
MAX_PIXELS = 25_000_000


@pytest.mark.parametrize("name", READABLE)
def test_every_readable_file_is_decoded(name: str) -> None:
    assert decode(READABLE[name], TARGET, MAX_PIXELS).shape == (32, 32, 3)


@pytest.mark.parametrize("name", UNREADABLE)
def test_every_unreadable_file_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequestError):
        decode(UNREADABLE[name], TARGET, MAX_PIXELS)
