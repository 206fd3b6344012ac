"""The bounds of the work and the memory of a call."""

from __future__ import annotations

import pytest

from offramp.images.header import Header
from serving.errors import ImageTooLargeError
from serving.images.plan import LEAST_BYTES, MEMORY_PER_BYTE, PER_BYTE, check_call

MOST_WORK, MOST_MEMORY = PER_BYTE * LEAST_BYTES, MEMORY_PER_BYTE * LEAST_BYTES


def header(*, work: float = 1.0, memory: int = 1) -> Header:
    return Header("PNG", 10, 20, memory, 200, work)


def test_the_work_of_a_call_is_that_of_all_images() -> None:
    assert check_call([header(work=2.0), header(work=MOST_WORK - 2)], 99) == MOST_WORK
    assert check_call([header(memory=MOST_MEMORY)], 99) == 1.0


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (
            [header(memory=MOST_MEMORY), header()],
            "400 pixels need 67 MB to decode, at most 67 MB",
        ),
        ([header(work=MOST_WORK * 3)], "200 pixels take 3 times as long to decode as allowed"),
    ],
)
def test_an_error_names_the_bound_that_is_exceeded(images: list[Header], says: str) -> None:
    with pytest.raises(ImageTooLargeError, match=f"^99 bytes with {says}"):
        check_call(images, 99)
    check_call(images, 4 * LEAST_BYTES)
