"""Types of values that several records use. They import no numpy, for options of commands."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Version = Annotated[str, Field(min_length=1, max_length=64)]
Filter = Literal["box", "bilinear", "bicubic", "lanczos"]
Confidence = Literal["max_softmax", "margin", "negentropy"]
SolvedFor = Literal["agreement", "accuracy"]  # what operating points lose least of
Price = Literal["flops", "ms"]  # what going on costs on the path of operating points
Milliseconds = Annotated[float, Field(ge=0)]
Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-z][a-z0-9_-]*$")]


def is_none(value: object) -> bool:
    """Return True for `None`, so that such a field is not written."""
    return value is None


class FrozenRecord(BaseModel):
    """A frozen record that refuses unknown fields, NaN and infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Estimate(FrozenRecord):
    """A mean over the held-out images.

    `low` and `high` are a prediction interval at 99.9 % for the same mean over an equal number of
    new images of the same kind. It includes the variance of both samples.
    """

    value: float
    low: float
    high: float

    def within(self, seen: float) -> bool:
        """Return whether an observed mean is in the interval."""
        return self.low <= seen <= self.high


class TimesOfStage(FrozenRecord):
    """Compute time of a stage for a batch of each size, in milliseconds."""

    with_head: tuple[Milliseconds, ...]
    without_head: tuple[Milliseconds, ...]


class MeasuredTimes(FrozenRecord):
    """Compute times of the stages where a bundle was made. Another machine has other times."""

    machine: str = Field(description="its processor, and the version of ONNX Runtime")
    threads: int = Field(gt=0)
    runs: int = Field(gt=0, description="runs of which the median is stated")
    batches: tuple[Annotated[int, Field(gt=0)], ...] = Field(
        min_length=1, description="images in a batch"
    )
    stages: tuple[TimesOfStage, ...] = Field(min_length=1)
