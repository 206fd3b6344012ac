"""Runs chunks of images through all stages in one thread, without queues or slots.

The rows of the images that continue are copied once, while they are in the cache, to memory that
serves every chunk again. The next stage reads full batches there without another copy.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat
from time import perf_counter

import numpy as np

from offramp.bundle.manifest import Manifest, stages_run
from offramp.inputs.images import Pixels
from serving.engine.latency import Latency
from serving.engine.opinion import Opinion
from serving.engine.outcomes import FAILED
from serving.engine.policy import Policy
from serving.engine.request import Answer
from serving.errors import StageError
from serving.runtime.base import Runtime, StageOutput, Tensors
from serving.runtime.session import aligned_empty
from serving.runtime.slots import last_readers


@dataclass(slots=True, eq=False)
class _Image:
    """An image on its way.

    Attributes:
        opinions: One for each exit reached, `None` where the policy does not evaluate the exit.
        compute: Seconds of the batches that it was part of.
        ended: End of the last of them, by `time.perf_counter`.
    """

    opinions: list[Opinion | None] = field(default_factory=list)
    compute: float = 0.0
    ended: float = 0.0


class ChunkRunner:
    """Runs one chunk after another. Each thread needs a runner of its own.

    Args:
        runtime: The stages, on the CPU.
        manifest: Manifest of their bundle.
        images: Most images of a chunk.
        max_batch: Most images of a batch.
        latency: Times of the stages, to which those of each batch are added. `None`: they are not.
    """

    def __init__(
        self,
        runtime: Runtime,
        manifest: Manifest,
        images: int,
        max_batch: int,
        latency: Latency | None = None,
    ) -> None:
        self._runtime, self._latency = runtime, latency
        self._flops_of, self._firsts = manifest.flops_of, manifest.firsts
        self._max_batch = max_batch
        self._inputs = [[spec.name for spec in specs] for specs in runtime.inputs]
        read = last_readers(runtime.inputs)
        made = [[spec for spec in specs if spec.name in read] for specs in runtime.features]
        self._made = [[spec.name for spec in specs] for specs in made]
        older = [[*self._inputs[0], *chain.from_iterable(self._made[:k])] for k in range(len(made))]
        # For each stage, the tensors of stages before it that a stage after it reads.
        self._carried = [
            [name for name in names if read[name] > k] for k, names in enumerate(older)
        ]
        # np.empty maps memory and touches none of it: pages come with their first use
        self._rows = {
            spec.name: aligned_empty((images, *spec.shape), spec.dtype)
            for specs in (runtime.inputs[0], *made)
            for spec in specs
        }

    def run(
        self, pixels: Sequence[Pixels], policy: Policy, arrived: float
    ) -> list[Answer | StageError]:
        """Run a chunk of images to their exits.

        Args:
            pixels: Images, each uint8 [H, W, 3].
            policy: The policy of each. It has no deadline.
            arrived: Time of arrival by `time.perf_counter`.

        Returns:
            The answer to each image, or an error where the output of the network is not finite.

        Raises:
            Exception: A stage failed. The images before it in the chunk have no answer either.
        """
        submitted = perf_counter()
        exits = len(self._inputs)
        runs = stages_run(self._firsts, policy.asks)
        whole_network = self._runtime.whole_network and not any(policy.asks[:-1])
        images = [_Image([None] * (exits - 1) if whole_network else []) for _ in pixels]
        (first,) = self._inputs[0]
        np.stack(pixels, out=self._rows[first][: len(pixels)])
        remaining = images
        for stage in range(1 if whole_network else exits):
            if not (runs[stage] or whole_network):
                for image in remaining:
                    image.opinions.append(None)
            elif remaining:
                remaining = self._run_stage(stage, remaining, policy, whole_network=whole_network)
        flops = [self._flops_of(number, policy.asks) for number in range(1, exits + 1)]
        return [_outcome(image, policy, flops, submitted, arrived) for image in images]

    def _run_stage(
        self, stage: int, images: Sequence[_Image], policy: Policy, *, whole_network: bool
    ) -> list[_Image]:
        """Run a stage on the first rows of its inputs. Return the images that continue."""
        continuing: list[int] = []
        for start, end in _batches(len(images), self._max_batch):
            began = perf_counter()
            inputs = {name: self._rows[name][start:end] for name in self._inputs[stage]}
            batch = images[start:end]
            if whole_network:
                rows = _decide(self._runtime.run_whole(inputs), batch, policy)
            else:
                rows = self._run_batch(stage, inputs, batch, policy, len(continuing))
            continuing += [start + row for row in rows]
            ended = perf_counter()
            head = policy.asks[stage]
            self._count(stage, len(batch), ended - began, head=head, whole_network=whole_network)
            for image in batch:
                image.compute += ended - began
                image.ended = ended
        for name in self._carried[stage]:
            self._rows[name][: len(continuing)] = self._rows[name][continuing]
        return [images[row] for row in continuing]

    def _count(
        self, stage: int, images: int, seconds: float, *, head: bool, whole_network: bool
    ) -> None:
        if self._latency is None:
            return
        if not whole_network:
            self._latency.count(stage, images, seconds, head=head)
        elif self._latency.whole_network is not None:
            self._latency.whole_network.count(0, images, seconds)

    def _run_batch(
        self, stage: int, inputs: Tensors, images: Sequence[_Image], policy: Policy, at: int
    ) -> list[int]:
        """Run a batch. Keep features from row `at` on, and return the rows that continue.

        All other outputs are released at the end, so that the next batch can have their memory.
        """
        output = self._runtime.run(stage, inputs, head=policy.asks[stage])
        rows = _decide(output, images, policy)
        for name in self._made[stage] if rows else ():
            kept = self._rows[name][at : at + len(rows)]
            # with this mode NumPy writes to `out` directly, and not to a copy of it
            np.take(output.features[name], rows, axis=0, out=kept, mode="clip")
        return rows


def _batches(count: int, most: int) -> Iterator[tuple[int, int]]:
    """Yield start and end of as few batches as possible, of about equal sizes."""
    batches = -(-count // most)
    for number in range(batches):
        yield count * number // batches, count * (number + 1) // batches


def _decide(output: StageOutput, images: Sequence[_Image], policy: Policy) -> list[int]:
    """Add the opinion of an exit to each image of a batch. Return the rows that continue."""
    if output.confidence is None or output.probabilities is None:
        for image in images:
            image.opinions.append(None)
        return list(range(len(images)))
    scores: Iterable[float | None] = repeat(None)
    if policy.reject is not None and output.score is not None:
        scores = output.score.tolist()
    continuing = []
    opinions = map(Opinion, output.confidence.tolist(), output.probabilities, scores)
    for row, (image, opinion) in enumerate(zip(images, opinions, strict=True)):
        if not policy.decide(opinion, image.opinions):
            continuing.append(row)
        image.opinions.append(opinion)
    return continuing


def _outcome(
    image: _Image, policy: Policy, flops: Sequence[int], submitted: float, arrived: float
) -> Answer | StageError:
    last = image.opinions[-1]
    assert last is not None
    if not math.isfinite(last.confidence):
        return StageError(FAILED)
    return Answer(
        policy,
        tuple(image.opinions),
        deadline_hit=False,
        degraded=False,
        queue=max(0.0, image.ended - submitted - image.compute),
        compute=image.compute,
        total=image.ended - arrived,
        flops=flops[len(image.opinions) - 1],
    )
