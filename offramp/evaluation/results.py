"""Records of budgets that were measured, beside what the manifest states."""

from __future__ import annotations

from dataclasses import dataclass

from offramp.bundle.values import Estimate
from offramp.data.records import LeftOut, Split


@dataclass(frozen=True, slots=True)
class Interval:
    """Bounds of a value, both included."""

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True, slots=True)
class Measurement:
    """A mean over the evaluated images, beside the same mean in the manifest.

    Attributes:
        value: The mean.
        interval: Its 95 % interval: Wilson's for a share, the normal one for flops.
        stated: The manifest's estimate, from its held-out images.
        predicted: The manifest's 99.9 % prediction interval for as many images as these.
    """

    value: float
    interval: Interval
    stated: Estimate
    predicted: Interval

    @property
    def agrees(self) -> bool:
        """Return whether the value lies in the predicted interval."""
        return self.value in self.predicted


@dataclass(frozen=True, slots=True)
class BudgetEvaluation:
    """Result of a budget on the evaluated images.

    Attributes:
        budget: The budget as requested.
        accuracy: Share of images with the right class.
        mean_flops: Multiply-adds of an image.
        exit_shares: For each exit, the share of images that left there.
        rejected: Share of images rejected, all of them wrongly. `None` unless the manifest states
            it for this budget.
    """

    budget: str
    accuracy: Measurement
    mean_flops: Measurement
    exit_shares: tuple[Measurement, ...]
    rejected: Measurement | None = None

    @property
    def agrees(self) -> bool:
        """Return whether all measurements agree with the manifest."""
        measured = (self.accuracy, self.mean_flops, *self.exit_shares, self.rejected)
        return all(measurement.agrees for measurement in measured if measurement is not None)


@dataclass(frozen=True, slots=True)
class SkippedImage:
    """An image that could not be evaluated, and the reason."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Budgets on a data set.

    Attributes:
        images: Images evaluated.
        split: Split that they are: test, or else validation, or else train.
        full_flops: Multiply-adds of the whole network.
        budgets: One entry for each budget.
        skipped: Images that could not be evaluated. They count in no mean.
        left_out: Files that are not part of the data set, with reasons.
    """

    images: int
    split: Split
    full_flops: int
    budgets: tuple[BudgetEvaluation, ...]
    skipped: tuple[SkippedImage, ...]
    left_out: tuple[LeftOut, ...] = ()
