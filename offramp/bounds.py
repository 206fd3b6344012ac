"""Numbers of options with upper bounds, so that no value overflows a clock, a counter or memory."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

MAX_INTEGER = 2**31 - 1
MAX_NUMBER = 1e9
MAX_SECONDS = 86_400  # a day
MAX_SIDE = 4096  # of the input of a network, in pixels

PositiveInt = Annotated[int, Field(gt=0, le=MAX_INTEGER)]
NonNegativeInt = Annotated[int, Field(ge=0, le=MAX_INTEGER)]
PositiveFloat = Annotated[float, Field(gt=0, le=MAX_NUMBER)]
NonNegativeFloat = Annotated[float, Field(ge=0, le=MAX_NUMBER)]
Side = Annotated[int, Field(gt=0, le=MAX_SIDE)]
