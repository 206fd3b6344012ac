"""Options of the commands that classify many images: which images, which bundle, which answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field
from pydantic_settings import CliPositionalArg, CliToggleFlag, SettingsConfigDict

from offramp.command_line.options import KeyOptions

if TYPE_CHECKING:
    from offramp.bundle.manifest import Manifest


class AnswerOptions(KeyOptions):
    """Images to classify, and what their answers may cost."""

    model_config = SettingsConfigDict(cli_shortcuts={"out": "o"})

    paths: CliPositionalArg[list[Path]] = Field(
        min_length=1,
        description="image files, folders of them, or parquet files with an image column",
    )
    bundle: Path | None = Field(
        None, description="folder of the bundle to run in this process, or hf://org/name"
    )
    budget: str | None = Field(
        None,
        description="name of a budget, mean flops (120M), a share of full depth (40%), or mean "
        "milliseconds of compute on the machine that runs it (8ms); null: the default budget of "
        "the model",
    )
    min_confidence: float | None = Field(
        None, description="confidence in [0, 1] at which an image leaves, instead of a budget"
    )
    deadline_ms: float | None = Field(
        None, description="milliseconds from the start of an image to its answer"
    )
    promise: str | None = Field(
        None,
        description="certified promise of the bundle: 99% of the answers agree with full depth, "
        "exit:98% of those of each exit do, at most harm:1% are wrong where full depth is right, "
        "or accuracy falls by at most accuracy:1%. The cheapest point that holds it, within a "
        "budget if one is given",
    )
    reject: CliToggleFlag[bool] = Field(
        default=False,
        description="add a column: whether the picture shows no class of the model; the bundle "
        "must have been exported with --reject",
    )
    overwrite: CliToggleFlag[bool] = Field(
        default=False, description="replace OUT and the rows of an interrupted run"
    )
    strict: CliToggleFlag[bool] = Field(
        default=False, description="stop if any file in a folder is left out, except hidden files"
    )

    def asked(self, top_k: int) -> dict[str, Any]:
        """Return the arguments of `classify_iter`, which select the answers."""
        return {
            "budget": self.budget,
            "min_confidence": self.min_confidence,
            "deadline_ms": self.deadline_ms,
            "top_k": top_k,
        } | {name: value for name in ("reject", "promise") if (value := getattr(self, name))}


def check_budget(options: AnswerOptions, bundle: Path) -> Manifest:
    """Check bundle and budget before images are listed and stages loaded.

    Returns:
        The manifest of the bundle.

    Raises:
        BundleError: The bundle is missing, or of another format.
        InvalidRequestError: An option is not valid for it. Its subclass tells which.
    """
    from offramp.bundle.manifest import read_manifest
    from offramp.hub import local_bundle
    from serving.engine.budgets.points import in_milliseconds
    from serving.engine.policy import resolve

    manifest = read_manifest(local_bundle(bundle))
    resolve(
        manifest,
        None if in_milliseconds(options.budget) else options.budget,  # not measured yet
        options.min_confidence,
        options.deadline_ms,
        reject=options.reject,
        promise=options.promise,
    )
    return manifest
