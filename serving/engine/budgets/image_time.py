"""The seconds that a stage computes for one image, a running mean of its batches."""

from __future__ import annotations

LEAST_WEIGHT = 0.03  # of one batch, so that about the last 30 count
LONGEST = 4.0  # a batch counts as at most so many times as long as its images took before


class ImageTime:
    """A running mean of seconds for one image: of the time of batches, divided by their images.

    An image in a batch of n costs an n-th of the batch. Several threads can add batches. If two
    meet, one can be lost, which changes the mean by little.

    Args:
        seconds: Seconds of a batch of one image, as it was measured at warm-up.
    """

    __slots__ = ("_images", "_seconds", "_seen")

    def __init__(self, seconds: float) -> None:
        self._seconds, self._images, self._seen = seconds, 1.0, 1

    @property
    def seconds(self) -> float:
        """Seconds for one image."""
        return self._seconds / self._images

    def add(self, images: int, seconds: float) -> None:
        """Add a batch. One that met a pause of the machine counts as a slow one."""
        self._seen += 1
        weight = max(LEAST_WEIGHT, 1 / self._seen)
        longest = LONGEST * images * self.seconds
        seconds = min(seconds, longest or seconds)
        self._seconds += weight * (seconds - self._seconds)
        self._images += weight * (images - self._images)
