"""Measure the in-process classifier against the limit that the stages alone allow.

The limit is that of `benchmarks.serving.limit`: ONNX Runtime in a tight loop, with the same graphs
and exits, and neither decoding nor queues. It runs batches of each size in `BATCHES`, and the
fastest is the limit. The classifier gets the images in two forms. Decoded arrays are compared with
the limit itself. Image files in a folder are compared with the limit and the decoding of the same
files together, each measured alone. All of these alternate in each round.

    python -m benchmarks.engine.classifier --data cifar10/test.parquet

Then memory is watched over several times as many files, and answers are compared with those of a
server over HTTP. Exit status 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain, islice, repeat
from pathlib import Path

import numpy as np

from benchmarks.client import serving
from benchmarks.engine.rounds import Round, Speed, report, speed
from benchmarks.goals import Goal, print_goals
from benchmarks.serving.limit import IMAGES, Work, measure, sample, staged
from benchmarks.serving.offline import MAX_PIXELS, Pixels, evaluate, pixels
from offramp import Classifier, Client
from offramp.answers import Answer, Timings
from offramp.bundle.manifest import Manifest
from offramp.cores import cores
from offramp.inputs.datasets import find_images
from serving.engine.policy import resolve
from serving.images.decoder import decode
from serving.runtime.cpu import CpuRuntime

BATCHES = (8, 16)  # of the limit: that of `benchmarks.serving.limit`, and that of the engine
SHARE = 0.9  # of the limit that the classifier should reach
GROWTH = 16 << 20  # bytes by which memory may grow over all files
TOLERANCE = 2e-6  # of a probability, which is rounded to 6 decimals
UNTIMED = Timings(0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Subject:
    """A classifier, its images in all forms, and the work of the stages in batches of each size."""

    classifier: Classifier
    budget: str
    paths: Sequence[Path]
    contents: Sequence[bytes]
    pixels: Pixels
    stages: Sequence[Work]

    def round(self, seconds: float) -> Round:
        """Measure everything once."""
        limits = [measure(work, cores(), seconds / len(self.stages)) for work in self.stages]
        return Round(
            Speed(max(each.rate for each in limits), min(each.cpu for each in limits)),
            self._decoding(),
            self._speed(self.pixels),
            self._speed(self.paths),
        )

    def memory(self, times: int) -> tuple[int, int]:
        """Return resident bytes after a first pass over the files, and the most after it."""
        self._consume(self.paths)
        before = most = resident_bytes()
        stream = chain.from_iterable(repeat(self.paths, times))
        for number, _ in enumerate(self.classifier.classify_iter(stream, self.budget)):
            if number % 1000 == 0:
                most = max(most, resident_bytes())
        return before, max(most, resident_bytes())

    def differing(self, bundle: Path, count: int) -> int:
        """Count the images that a server over HTTP answers differently."""
        contents = self.contents[:count]
        with serving(bundle) as url, Client(url, retries=10) as client:
            served = client.classify_iter(contents, self.budget, explain=True)
            answers = [answer for answer in served if isinstance(answer, Answer)]
        ours = self.classifier.classify(contents, self.budget, explain=True)
        return sum(not same(a, b) for a, b in zip(ours, answers, strict=True))

    def _decoding(self) -> Speed:
        target = self.classifier.manifest.input

        def part(files: Sequence[bytes]) -> int:
            return sum(decode(file, target, MAX_PIXELS).ndim > 0 for file in files)

        parts = [self.contents[first :: 8 * cores()] for first in range(8 * cores())]
        with ThreadPoolExecutor(cores()) as executor:
            return speed(lambda: sum(executor.map(part, parts)))

    def _speed(self, images: Sequence[Path] | Pixels) -> Speed:
        return speed(lambda: self._consume(images))

    def _consume(self, images: Sequence[Path] | Pixels) -> int:
        answers = self.classifier.classify_iter(images, self.budget)
        return sum(isinstance(answer, Answer) for answer in answers)


def resident_bytes() -> int:
    """Return the resident memory of this process."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


def same(one: Answer, other: Answer) -> bool:
    """Tell if two answers are equal but for times and the last decimal of probabilities."""

    def exact(answer: Answer) -> Answer:
        return replace(
            answer, probability=0, confidence=0, top_k=(), explain=None, timings_ms=UNTIMED
        )

    def numbers(answer: Answer) -> list[float]:
        ranked = [each.probability for each in answer.top_k]
        opinions = [opinion.confidence for opinion in answer.explain or ()]
        return [answer.probability, answer.confidence, *ranked, *opinions]

    near = np.allclose(numbers(one), numbers(other), rtol=0, atol=TOLERANCE)
    return exact(one) == exact(other) and bool(near)


def contents_of(data: Path, count: int) -> list[bytes]:
    """Return the bytes of the first images of a data set, which repeat where there are fewer."""
    items = islice(find_images([data]), count)
    images = [item.image for item in items]
    found = [each if isinstance(each, bytes) else each.read_bytes() for each in images]
    return [found[number % len(found)] for number in range(count)]


def written(folder: Path, contents: Sequence[bytes]) -> Iterator[Path]:
    """Write image files, and yield their paths."""
    for number, content in enumerate(contents):
        path = folder / f"{number:06}.jpg"
        path.write_bytes(content)
        yield path


def stages_of(bundle: Path, manifest: Manifest, budget: str, images: Pixels) -> list[Work]:
    """Return the runs of the stages, of each batch size, for images that leave as all images do."""
    thresholds = resolve(manifest, budget).thresholds
    exits = evaluate(bundle, manifest, images).exits(thresholds)
    chosen = sample(exits, min(IMAGES, len(images)))
    runtime = CpuRuntime(bundle, manifest)
    return [staged(runtime, thresholds, images[chosen], batch) for batch in BATCHES]


def goals_of(subject: Subject, arguments: argparse.Namespace) -> Iterator[Goal]:
    """Measure, and yield each goal with its figure."""
    rounds = deque(subject.round(arguments.seconds) for _ in range(arguments.rounds))
    arrays, files = report(rounds)
    count = len(subject.paths)
    yield Goal(f"arrays: at least {SHARE} of the stages alone", f"{arrays:.3f}", arrays >= SHARE)
    text = f"files: at least {SHARE} of stages and decoding alone"
    yield Goal(text, f"{files:.3f}", files >= SHARE)
    before, most = subject.memory(arguments.times)
    growth = most - before
    yield Goal(
        f"memory flat over {arguments.times} x {count} files (at most {GROWTH >> 20} MiB more)",
        f"{before / 2**20:.0f} MiB, {growth / 2**20:+.1f} MiB",
        growth <= GROWTH,
    )
    differing = subject.differing(arguments.bundle, arguments.compared)
    text = f"answers to {arguments.compared} images equal the server's"
    yield Goal(text, f"{differing} differ", differing == 0)


def build_parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--bundle", type=Path, default=Path("deploy/bundles/cifar10-msdnet"))
    parser.add_argument("--data", type=Path, required=True, help="folder or parquet file of images")
    parser.add_argument("--budget", default="medium", help="budget (default: medium)")
    parser.add_argument("--count", type=int, default=5000, help="images (default: 5000)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds (default: 5)")
    parser.add_argument("--seconds", type=float, default=3.0, help="of the limit (default: 3)")
    parser.add_argument("--times", type=int, default=5, help="passes of memory (default: 5)")
    parser.add_argument("--compared", type=int, default=500, help="answers (default: 500)")
    return parser


def main() -> int:
    """Run the benchmark, and return the exit status."""
    arguments = build_parser().parse_args()
    contents = contents_of(arguments.data, arguments.count)
    gc.freeze()  # as the server does
    with (
        tempfile.TemporaryDirectory() as folder,
        Classifier.open(arguments.bundle) as classifier,
    ):
        images = pixels(contents, classifier.manifest)
        paths = list(written(Path(folder), contents))
        stages = stages_of(arguments.bundle, classifier.manifest, arguments.budget, images)
        subject = Subject(classifier, arguments.budget, paths, contents, images, stages)
        print(f"{len(paths)} images, budget {arguments.budget}, {cores()} cores")
        return print_goals(goals_of(subject, arguments))


if __name__ == "__main__":
    sys.exit(main())
