"""The actor that classifies the images of one part after another. It does not import Ray."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from deploy.ray.output_folder import OutputFolder
from offramp.bundle.manifest import Manifest
from offramp.classifier import Classifier
from offramp.commands.progress import LISTED
from offramp.commands.rows import Row, answer_rows, columns_of
from offramp.data.errors import DatasetError
from offramp.data.records import printable
from offramp.errors import OfframpError
from offramp.inputs.parts import images_of


@dataclass(frozen=True, slots=True)
class Job:
    """The values that every actor of a run needs.

    Attributes:
        bundle: Folder of the bundle, or its address on the hub.
        graphs: SHA-256 of its graphs.
        out: The folder to write.
        asked: Arguments of `classify_iter`.
        provider: Where stages run.
        threads: Batches run and images decoded at the same time.
    """

    bundle: str
    graphs: tuple[str, ...]
    out: Path
    asked: Mapping[str, Any]
    provider: Literal["cpu", "cuda"]
    threads: int


@dataclass(frozen=True, slots=True)
class PartReport:
    """The outcome of one part.

    Attributes:
        part: Number of the part.
        images: Images that have a row.
        failed: Those of them that have no answer.
        errors: A line for each of the first of these.
        problem: The reason why the part has no rows. Empty if it has.
    """

    part: int
    images: int = 0
    failed: int = 0
    errors: str = ""
    problem: str = ""


class PartClassifier:
    """A bundle in memory, which answers for one part after another.

    Args:
        job: The values of the run.

    Raises:
        OfframpError: The bundle cannot be loaded, or is not that of the run.
    """

    def __init__(self, job: Job) -> None:
        self._classifier = Classifier.open(job.bundle, provider=job.provider, threads=job.threads)
        if graphs_of(self._classifier.manifest) != job.graphs:
            self._classifier.close()
            raise OfframpError(f"{job.bundle} differs from the bundle that the run started with")
        self._folder = OutputFolder(job.out)
        self._asked = job.asked
        self._columns = columns_of(reject="reject" in job.asked)

    def __call__(self, batch: Mapping[str, NDArray[np.int64]]) -> dict[str, list[Any]]:
        """Classify the parts in the column `part`. Return a column for each field of the reports.

        Raises:
            UnwritableFileError: The rows cannot be written.
        """
        reports = [astuple(self.classify_part(part)) for part in batch["part"].tolist()]
        names = [field.name for field in fields(PartReport)]
        return {
            name: list(values)
            for name, values in zip(names, zip(*reports, strict=True), strict=True)
        }

    def classify_part(self, part: int) -> PartReport:
        """Classify the images of a part, and write their rows.

        Raises:
            UnwritableFileError: The rows cannot be written.
        """
        try:
            rows = self._rows(part)
        except DatasetError as error:
            return PartReport(part, problem=printable(str(error)))
        self._folder.write(part, rows, self._columns)
        failed = [f"{row.file}: {row.error}" for row in rows if row.error is not None]
        errors = "\n".join(map(printable, failed[:LISTED]))
        return PartReport(part, len(rows), len(failed), errors)

    def _rows(self, part: int) -> Sequence[Row]:
        """Return the rows of a part.

        Raises:
            DatasetError: A parquet file is damaged, or has fewer rows than when it was listed.
        """
        images = images_of(self._folder.pieces(part))
        return list(answer_rows(images, partial(self._classifier.classify_iter, **self._asked)))

    def close(self) -> None:
        """Stop the threads of the bundle."""
        self._classifier.close()


def graphs_of(manifest: Manifest) -> tuple[str, ...]:
    """Return the SHA-256 of each graph of a bundle."""
    return tuple(stage.sha256 for stage in manifest.stages)
