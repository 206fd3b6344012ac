"""The options of `offramp train`: a named recipe, and every field of it as an option.

The fields of the backbone are `--shape.FIELD`, those of the objective `--objective.FIELD`. Only
these, and the help of a recipe, import the backbones and objectives, and so torch.
"""

from training.options.read import read_run
from training.options.run_options import RunOptions

__all__ = ["RunOptions", "read_run"]
