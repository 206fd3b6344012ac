"""The names of the variants of surgery. `training.surgery.boundary` says what each does."""

from typing import Literal

Variant = Literal["joint", "released", "paper", "unreferenced"]
