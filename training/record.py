"""The base of every configuration record."""

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """A frozen record that refuses fields it does not know, and NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
