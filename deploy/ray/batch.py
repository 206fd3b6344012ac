"""Classify many images on a Ray cluster: `python -m deploy.ray.batch IMAGES --bundle B --out OUT`.

The images are cut into parts. Ray Data gives one part after another to a pool of actors, each with
the bundle in memory. An actor reads the images of its part and writes their rows. Only numbers of
parts and counts pass through Ray. If an actor dies, Ray starts it again and repeats its part.
"""

from __future__ import annotations

import logging
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from deploy.ray.output_folder import OutputFolder, Plan
from deploy.ray.part_classifier import Job, PartClassifier, PartReport, graphs_of
from offramp.bundle.manifest import Manifest
from offramp.command_line.exit_codes import exit_code
from offramp.command_line.options import read_options
from offramp.commands.answer_options import AnswerOptions, check_budget
from offramp.commands.progress import LISTED, Progress, report_failed, report_left_out
from offramp.errors import OfframpError
from offramp.hub import address_in
from offramp.inputs.datasets import ImageItems, find_images

ONE_CLASS = 1  # parquet has the likeliest class only


class BatchOptions(AnswerOptions):
    """Classify images with a bundle on the Ray cluster of RAY_ADDRESS, or on this machine.

    Writes a folder of parquet files with the columns of `offramp classify`. An image that cannot
    be read has a row with the reason. The same command continues a run that was interrupted. All
    paths must be the same on every node.
    """

    bundle: Path = Field(description="folder of the bundle, or hf://org/name")
    out: Path = Field(description="folder to write the rows to")
    part_images: int = Field(
        5000,
        ge=1,
        le=1_000_000,
        description="images of a part, which is a file of OUT, and is repeated if its actor dies",
    )
    actors: int | None = Field(
        None,
        ge=1,
        description="processes with the bundle; null: as many as the cluster has room for",
    )
    cpus: int = Field(1, ge=1, description="CPUs of an actor, and threads that it computes with")
    gpus: float = Field(
        0.0, ge=0.0, description="GPUs of an actor, or a part of one; 0: stages run on the CPU"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Classify images. Return the exit code: 0, 1 (refused, or no image had an answer), 2, 130."""
    words = sys.argv[1:] if arguments is None else arguments

    def work() -> None:
        _run(read_options(BatchOptions, words, "python -m deploy.ray.batch"))

    return exit_code(work, extra="ray", stopped="stopped; the same command continues the run")


def _run(options: BatchOptions) -> None:
    job, plan = prepare(options)
    folder = OutputFolder(job.out)
    missing = folder.missing(plan)
    failed: deque[str] = deque(maxlen=LISTED)
    with Progress(plan.images, logged=True) as progress:
        progress.skip(plan.images - sum(map(plan.size, missing)))
        for report in _reports(options, job, missing) if missing else ():
            progress.add(report.images, failed=report.failed)
            failed.extend(report.errors.splitlines())
            if report.problem:
                print(f"part {report.part}: {report.problem}", file=sys.stderr)
    if missing := folder.missing(plan):
        raise OfframpError(f"{len(missing)} parts have no rows; the same command repeats them")
    folder.finish()
    report_failed(progress, failed)


def prepare(options: BatchOptions) -> tuple[Job, Plan]:
    """Check the options, and make the output folder, or open that of the run to continue.

    Returns:
        The values for every actor, and the parts of the run.

    Raises:
        OfframpError: The bundle, the images, or the folder are not as the options need them.
    """
    manifest = check_budget(options, options.bundle)
    job = _job(options, manifest)
    folder = OutputFolder(job.out)
    if options.overwrite:
        folder.remove()
    paths = [path.absolute() for path in options.paths]
    model = {"name": manifest.name, "version": manifest.version}
    run = {"model": model, "graphs": list(job.graphs), "paths": list(map(str, paths)), **job.asked}
    plan = folder.start(run, options.part_images, lambda: _find(paths, strict=options.strict))
    return job, plan


def _job(options: BatchOptions, manifest: Manifest) -> Job:
    address = address_in(options.bundle)
    return Job(
        str(address or options.bundle.absolute()),
        graphs_of(manifest),
        options.out.absolute(),
        options.asked(ONE_CLASS),
        "cuda" if options.gpus else "cpu",
        options.cpus,
    )


def _find(paths: Sequence[Path], *, strict: bool) -> ImageItems:
    images = find_images(paths, strict=strict)
    report_left_out(images.left_out, images.hidden)
    return images


def _connect() -> None:
    """Connect to the cluster, without output of its own."""
    import ray  # late, as below
    from ray.data import DataContext

    ray.init(log_to_driver=False, logging_level=logging.WARNING)
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False


def _reports(options: BatchOptions, job: Job, parts: Sequence[int]) -> Iterator[PartReport]:
    """Yield the report of each part, in the order in which they end.

    Raises:
        OfframpError: An actor cannot load the bundle, or cannot write.
    """
    import ray  # late: options and bundle are checked without it
    from ray.data import ActorPoolStrategy, from_items
    from ray.exceptions import RayError

    _connect()
    actors = options.actors or actors_for(ray.cluster_resources(), options.cpus, options.gpus)
    reports = from_items(
        [{"part": part} for part in parts], override_num_blocks=len(parts)
    ).map_batches(
        PartClassifier,
        fn_constructor_args=(job,),
        batch_size=1,
        batch_format="numpy",
        compute=ActorPoolStrategy(size=min(actors, len(parts)), max_tasks_in_flight_per_actor=1),
        num_cpus=options.cpus,
        num_gpus=options.gpus,
    )
    try:
        for row in reports.iter_rows():
            yield PartReport(**row)
    except RayError as error:
        raise OfframpError(f"an actor failed: {last_cause(error)}") from error
    finally:
        ray.shutdown()


def actors_for(resources: Mapping[str, float], cpus: int, gpus: float) -> int:
    """Return the number of actors that the resources of a cluster have room for, at least 1."""
    room = [resources.get("CPU", 0) // cpus]
    if gpus:
        room.append(resources.get("GPU", 0) // gpus)
    return max(1, int(min(room)))


def last_cause(error: BaseException) -> BaseException:
    """Return the error that another one comes from, without the wrappers around it."""
    inner: Any = getattr(error, "cause", None) or error.__cause__
    return error if inner is None or inner is error else last_cause(inner)


if __name__ == "__main__":
    sys.exit(main())
