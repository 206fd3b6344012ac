"""Types of single values in a manifest, for options of commands. They import no numpy."""

from typing import Annotated, Literal

from pydantic import Field

Version = Annotated[str, Field(min_length=1, max_length=64)]
Filter = Literal["box", "bilinear", "bicubic", "lanczos"]
Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-z][a-z0-9_-]*$")]
