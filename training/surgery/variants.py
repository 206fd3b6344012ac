"""The names of the variants of surgery, and of the rules that say how much of it is done.

`training.surgery.boundary` defines the variants, `training.surgery.conflict` the rule `conflict`.
"""

from typing import Literal

Variant = Literal["joint", "released", "paper", "unreferenced"]
SurgeryRule = Literal["fixed", "conflict"]
