"""Types of values that several records use. They import no numpy, for options of commands."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Version = Annotated[str, Field(min_length=1, max_length=64)]
Filter = Literal["box", "bilinear", "bicubic", "lanczos"]
Confidence = Literal["max_softmax", "margin", "negentropy"]
SolvedFor = Literal["agreement", "accuracy"]  # what operating points lose least of
Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-z][a-z0-9_-]*$")]


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
