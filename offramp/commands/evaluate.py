"""`offramp evaluate`: accuracy, flops and exits of a bundle on labelled images."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field
from pydantic_core import to_jsonable_python
from pydantic_settings import CliToggleFlag

from offramp.command_line.exit_codes import exit_code
from offramp.command_line.options import Options, read_options
from offramp.commands.progress import report_left_out
from offramp.errors import OfframpError

if TYPE_CHECKING:
    from offramp.evaluation.results import BudgetEvaluation, Evaluation, Measurement

MILLION = 1e6
LISTED = 20  # skipped images that are listed


class EvaluateOptions(Options):
    """Measure accuracy, flops and exits of a bundle's budgets, and compare with its manifest."""

    bundle: Path = Field(description="folder of the bundle, or hf://org/name")
    data: Path = Field(
        description="folder with one folder of images per class, table (CSV, JSONL) or parquet "
        "file, or folder of parquet files; labels are matched by name; of several splits "
        "the test split is measured, or else the validation split"
    )
    strict: CliToggleFlag[bool] = Field(
        default=False, description="stop if any file in a folder is left out, except hidden files"
    )
    budget: list[str] = Field(
        default=[],
        description="budget to evaluate, not in milliseconds; repeat it for several; without it "
        "those of the manifest",
    )
    format: Literal["table", "json"] = Field("table", description="form of the result")
    provider: Literal["cpu", "cuda"] = Field("cpu", description="where the stages run")
    threads: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="batches run and images decoded at the same time; null: one per core",
    )


def main(arguments: Sequence[str]) -> int:
    """Evaluate a bundle. Return the exit code: 0, 1 (refused), 2 (usage) or 130 (Ctrl-C)."""

    def work() -> None:
        _run(read_options(EvaluateOptions, arguments, "offramp evaluate"))

    return exit_code(work, extra="serving")


def _run(options: EvaluateOptions) -> None:
    from offramp.bundle.manifest import read_manifest
    from offramp.classifier import Classifier
    from offramp.evaluation.evaluator import Evaluator
    from offramp.hub import local_bundle

    bundle = local_bundle(options.bundle)
    Evaluator(read_manifest(bundle), options.budget or None)  # checks the budgets
    if not options.data.exists():
        raise OfframpError(f"--data: there is no file or folder {options.data}")
    with Classifier.open(bundle, provider=options.provider, threads=options.threads) as classifier:
        evaluation = classifier.evaluate(
            options.data, options.budget or None, strict=options.strict
        )
        title = f"{classifier.manifest.name} {classifier.manifest.version}"
    report_left_out(evaluation.left_out)
    if options.format == "json":
        _print_json(evaluation)
        return
    print("\n".join(table(evaluation, title)))
    for image in evaluation.skipped[:LISTED]:
        print(f"skipped {image.name}: {image.reason}", file=sys.stderr)


def _print_json(evaluation: Evaluation) -> None:
    result = asdict(evaluation)
    for budget in result["budgets"]:
        if budget["rejected"] is None:
            del budget["rejected"]
    print(json.dumps(to_jsonable_python(result), indent=1))


def table(evaluation: Evaluation, title: str) -> Iterator[str]:
    """Yield the lines of a report.

    Args:
        evaluation: What to report.
        title: Name of the model.
    """
    skipped = f", {len(evaluation.skipped)} skipped" if evaluation.skipped else ""
    full = evaluation.full_flops / MILLION
    yield (
        f"{title}: {evaluation.images} images of {evaluation.split}{skipped}; full depth costs "
        f"{full:.2f} M flops"
    )
    yield (
        f"{'':16}{'measured':>9}  {'95 % interval':19}{'manifest':>9}  "
        f"99.9 % for {evaluation.images} images"
    )
    for budget in evaluation.budgets:
        yield from _lines(budget)


def _lines(budget: BudgetEvaluation) -> Iterator[str]:
    yield f"{budget.budget}: {'agrees' if budget.agrees else 'DISAGREES'} with the manifest"
    yield _line("accuracy", budget.accuracy)
    yield _line("mean flops (M)", budget.mean_flops, MILLION)
    for number, share in enumerate(budget.exit_shares, 1):
        yield _line(f"exit {number}", share)
    if budget.rejected is not None:
        yield _line("wrong rejects", budget.rejected)


def _line(name: str, seen: Measurement, unit: float = 1.0) -> str:
    digits = 4 if unit == 1 else 2

    def number(value: float, width: int = 0) -> str:
        return f"{value / unit:{width}.{digits}f}"

    measured = f"[{number(seen.interval.low)}, {number(seen.interval.high)}]"
    predicted = f"[{number(seen.predicted.low)}, {number(seen.predicted.high)}]"
    mark = "" if seen.agrees else "  <- outside"
    return (
        f"  {name:14}{number(seen.value, 9)}  {measured:19}{number(seen.stated.value, 9)}  "
        f"{predicted}{mark}"
    )
