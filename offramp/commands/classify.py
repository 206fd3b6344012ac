"""`offramp classify`: classify images with a bundle in this process, or with a server.

With `--out` a run can be interrupted. Its rows are in OUT.partial, and the same command continues
it. OUT exists only when all images have a row.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import CliToggleFlag

from offramp.command_line.exit_codes import exit_code, missing_extra
from offramp.command_line.options import read_options
from offramp.commands.answer_options import AnswerOptions, check_budget
from offramp.commands.output import (
    FileOutput,
    Output,
    StandardOutput,
    check_output,
    check_same_paths,
)
from offramp.commands.progress import LISTED, Progress, report_failed, report_left_out
from offramp.commands.rows import Classify, answer_rows
from offramp.errors import OfframpError

RETRIES = 20  # of a request that a busy server refuses
FORMATS = (".csv", ".jsonl", ".parquet")


class ClassifyOptions(AnswerOptions):
    """Classify images with a bundle in this process (--bundle), or with a server (--url).

    Prints one row for each image, or writes them to a file. An image that cannot be read has a
    row with the reason. The same command continues a run that was interrupted.
    """

    url: str | None = Field(None, description="URL of the server to send the images to")
    api_key: SecretStr | None = Field(
        None,
        description="API key of the server; the environment variable OFFRAMP_API_KEY is safer, "
        "because other users can see options",
    )
    top_k: int = Field(5, ge=1, le=100, description="classes to list, in .jsonl only")
    out: Path | None = Field(
        None, description="file to write: .csv, .jsonl or .parquet; null: CSV on standard output"
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
        check_budget(options, options.bundle)
    from offramp.inputs.datasets import find_images

    images = find_images(options.paths, strict=options.strict)
    report_left_out(images.left_out, images.hidden)
    with ExitStack() as stack:
        model, classify = _local(options, stack) if options.bundle else _remote(options, stack)
        output = stack.enter_context(_output(options, model))
        if options.out is not None:
            check_same_paths(options.out, output.done, options.paths)
        progress = stack.enter_context(Progress(len(images), shown=options.out is not None))
        progress.skip(len(output.done))
        failed: deque[str] = deque(maxlen=LISTED)
        todo = (item for item in images if item.name not in output.done)
        for row in answer_rows(todo, classify):
            output.write(row)
            progress.add(failed=row.error is not None)
            if row.error is not None:
                failed.append(f"{row.file}: {row.error}")
        output.finish()
    report_failed(progress, failed)


def _local(options: ClassifyOptions, stack: ExitStack) -> tuple[dict[str, Any], Classify]:
    from offramp.classifier import Classifier

    assert options.bundle is not None
    classifier = stack.enter_context(
        Classifier.open(options.bundle, provider=options.provider, threads=options.threads)
    )
    manifest, asked = classifier.manifest, options.asked(options.top_k)
    graphs = [stage.sha256 for stage in manifest.stages]
    model = {"name": manifest.name, "version": manifest.version, "graphs": graphs}
    return model, lambda images: classifier.classify_iter(images, **asked)


def _remote(options: ClassifyOptions, stack: ExitStack) -> tuple[dict[str, Any], Classify]:
    try:
        from offramp.client import Client
    except ModuleNotFoundError as error:
        raise OfframpError(f"--url: {missing_extra(error, 'client')}") from error

    assert options.url is not None
    key = options.api_key.get_secret_value() if options.api_key else None
    client = stack.enter_context(Client(options.url, key, retries=RETRIES, shrink=options.shrink))
    described, asked = client.model(), options.asked(options.top_k)
    model = {"name": described.name, "version": described.version}
    return model, lambda images: client.classify_iter(
        images, **asked, connections=options.connections
    )


def _output(options: ClassifyOptions, model: dict[str, Any]) -> Output:
    if options.out is None:
        return StandardOutput(sys.stdout, reject=options.reject)
    run = {"model": model, **options.asked(options.top_k)}
    return FileOutput(options.out, run, overwrite=options.overwrite, reject=options.reject)
