"""`offramp classify`: classify images with a bundle in this process, or with a server.

With `--out` a run can be interrupted. Its rows are in OUT.partial, and the same command continues
it. OUT exists only when all images have a row.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, CliPositionalArg, CliToggleFlag, SettingsConfigDict

from offramp.commands.output import FileOutput, Output, StandardOutput, check_output
from offramp.commands.progress import Progress
from offramp.commands.rows import Row
from offramp.errors import OfframpError
from offramp.exit_codes import exit_code, missing_extra
from offramp.options import read_options

if TYPE_CHECKING:
    from offramp.answers import Answer
    from offramp.inputs.images import ImageSource

RETRIES = 20  # of a request that a busy server refuses
FORMATS = (".csv", ".jsonl", ".parquet")
LISTED = 20  # failed images that are listed at the end
Classify = Callable[[Iterator["ImageSource"]], Iterator["Answer | OfframpError"]]


class ClassifyOptions(BaseSettings):
    """Classify images with a bundle in this process (--bundle), or with a server (--url).

    Prints one row for each image, or writes them to a file. An image that cannot be read has a
    row with the reason. The same command continues a run that was interrupted.
    """

    model_config = SettingsConfigDict(
        env_prefix="OFFRAMP_",
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        cli_shortcuts={"out": "o"},
    )

    paths: CliPositionalArg[list[Path]] = Field(
        min_length=1,
        description="image files, folders of them, or parquet files with an image column",
    )
    bundle: Path | None = Field(
        None, description="folder of the bundle to run in this process, or hf://org/name"
    )
    url: str | None = Field(None, description="URL of the server to send the images to")
    api_key: SecretStr | None = Field(
        None,
        description="API key of the server; the environment variable OFFRAMP_API_KEY is safer, "
        "because other users can see options",
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
        description="certified promise of the bundle: 99% of the answers agree with full depth, or "
        "at most harm:1% are wrong where full depth is right. The cheapest point that holds it, "
        "within a budget if one is given",
    )
    top_k: int = Field(5, ge=1, le=100, description="classes to list, in .jsonl only")
    reject: CliToggleFlag[bool] = Field(
        default=False,
        description="add a column: whether the picture shows no class of the model; the bundle "
        "must have been exported with --reject",
    )
    out: Path | None = Field(
        None, description="file to write: .csv, .jsonl or .parquet; null: CSV on standard output"
    )
    overwrite: CliToggleFlag[bool] = Field(
        default=False, description="replace OUT and the rows of an interrupted run"
    )
    strict: CliToggleFlag[bool] = Field(
        default=False, description="stop if any file in a folder is left out, except hidden files"
    )
    shrink: CliToggleFlag[bool] = Field(
        default=False, description="with --url, shrink large images before they are sent"
    )
    provider: Literal["cpu", "cuda"] = Field("cpu", description="with --bundle, where stages run")
    threads: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="with --bundle, batches run and images decoded at the same time; "
        "null: one per core",
    )
    connections: int = Field(8, ge=1, le=256, description="with --url, requests at the same time")

    @model_validator(mode="after")
    def _one_model(self) -> Self:
        if (self.bundle is None) == (self.url is None):
            raise ValueError("give either --bundle or --url")
        if self.out is not None and self.out.suffix not in FORMATS:
            raise ValueError(f"--out: the name must end in {', '.join(FORMATS)}")
        return self


def main(arguments: Sequence[str]) -> int:
    """Classify images. Return the exit code: 0, 1 (refused, or no image had an answer), 2, 130."""

    def work() -> None:
        _run(read_options(ClassifyOptions, arguments, "offramp classify"))

    return exit_code(work, extra="serving", stopped="stopped; the same command continues the run")


def _run(options: ClassifyOptions) -> None:
    if options.out is not None:
        check_output(options.out, overwrite=options.overwrite)
    if options.bundle is not None:
        _check_budget(options, options.bundle)
    from offramp.data.summary import left_out_lines
    from offramp.inputs.datasets import find_images

    images = find_images(options.paths, strict=options.strict)
    for line in left_out_lines(images.left_out, images.hidden):
        print(line, file=sys.stderr)
    with ExitStack() as stack:
        model, classify = _local(options, stack) if options.bundle else _remote(options, stack)
        output = stack.enter_context(_output(options, model))
        progress = stack.enter_context(Progress(len(images), shown=options.out is not None))
        progress.skip(len(output.done))
        failed: deque[str] = deque(maxlen=LISTED)
        todo = (item for item in images if item.name not in output.done)
        for row in _rows(((item.name, item.image) for item in todo), classify):
            output.write(row)
            progress.add(failed=row.error is not None)
            if row.error is not None:
                failed.append(f"{row.file}: {row.error}")
        output.finish()
    _report(progress, failed)


def _check_budget(options: ClassifyOptions, bundle: Path) -> None:
    """Check bundle and budget before images are listed and stages loaded."""
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
        promise=options.promise,
    )


def _local(options: ClassifyOptions, stack: ExitStack) -> tuple[dict[str, str], Classify]:
    from offramp.classifier import Classifier

    assert options.bundle is not None
    classifier = stack.enter_context(
        Classifier.open(options.bundle, provider=options.provider, threads=options.threads)
    )
    manifest, asked = classifier.manifest, _asked(options)
    model = {"name": manifest.name, "version": manifest.version}
    return model, lambda images: classifier.classify_iter(images, **asked)


def _remote(options: ClassifyOptions, stack: ExitStack) -> tuple[dict[str, str], Classify]:
    try:
        from offramp.client import Client
    except ModuleNotFoundError as error:
        raise OfframpError(f"--url: {missing_extra(error, 'client')}") from error

    assert options.url is not None
    key = options.api_key.get_secret_value() if options.api_key else None
    client = stack.enter_context(Client(options.url, key, retries=RETRIES, shrink=options.shrink))
    described, asked = client.model(), _asked(options)
    model = {"name": described.name, "version": described.version}
    return model, lambda images: client.classify_iter(
        images, **asked, connections=options.connections
    )


def _asked(options: ClassifyOptions) -> dict[str, Any]:
    return {
        "budget": options.budget,
        "min_confidence": options.min_confidence,
        "deadline_ms": options.deadline_ms,
        "top_k": options.top_k,
    } | {name: value for name in ("reject", "promise") if (value := getattr(options, name))}


def _output(options: ClassifyOptions, model: dict[str, str]) -> Output:
    if options.out is None:
        return StandardOutput(sys.stdout, reject=options.reject)
    run = {"model": model, **_asked(options)}
    return FileOutput(options.out, run, overwrite=options.overwrite, reject=options.reject)


def _rows(items: Iterable[tuple[str, ImageSource]], classify: Classify) -> Iterator[Row]:
    names: deque[str] = deque()

    def sources() -> Iterator[ImageSource]:
        for name, source in items:
            names.append(name)
            yield source

    for outcome in classify(sources()):
        if isinstance(outcome, OfframpError):
            yield Row(names.popleft(), None, str(outcome))
        else:
            answer = asdict(outcome)
            for name in ("reject", "promise", "operating_point"):
                if answer[name] is None:
                    del answer[name]
            yield Row(names.popleft(), answer, None)


def _report(progress: Progress, failed: Sequence[str]) -> None:
    """List the last images that have no answer.

    Raises:
        OfframpError: No image has one.
    """
    for line in failed:
        print(line, file=sys.stderr)
    if progress.failed > len(failed):
        print(f"and {progress.failed - len(failed)} others before these", file=sys.stderr)
    if progress.failed and progress.failed == progress.images:
        raise OfframpError("no image has an answer")
